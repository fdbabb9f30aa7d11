"""What `retest` prints: the table of configs, the verdict with its figures, what changed since, the history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raytune_hpo.display.confirm_text import few_repetitions
from raytune_hpo.display.summary import shown_config
from raytune_hpo.results.text_table import plural, text_table
from raytune_hpo.verdicts.comparison import Interval
from raytune_hpo.verdicts.retesting import Retest, Row

MEANING = {
    "still best": "nothing beats the old winner beyond noise, and its level is within noise of what was recorded",
    "drifted": "no fresh sample beats the old winner, but another old one does, or its level moved, or it fails",
    "stale": "a fresh sample beats the old winner beyond noise",
    "none": "the repetitions gave the same numbers, so that nothing is known of the noise",
}


def retest_text(made: Retest, space: Mapping[str, Any] | None = None) -> str:
    """All of it, as lines. space: of the run, as JSON."""
    return "\n".join(_lines(made, space))


def _lines(made: Retest, space: Mapping[str, Any] | None) -> Iterator[str]:
    fresh = sum(row.fresh for row in made.rows)
    yield (
        f"retest {made.number}: {plural(len(made.rows) - fresh, 'old config')} and {plural(fresh, 'fresh sample')}, "
        f"{made.seeds} repetitions each; {made.metric}, {made.mode} is better:"
    )
    header = ["config", "mean", "95 % interval", "ahead of the old winner", "values"]
    yield text_table(header, [_row(row, space) for row in made.rows])
    if made.level is not None:
        level = made.level
        yield (
            f"level of {made.rows[0].name} (best epochs): {level.then:.5g} by {level.against}, now {level.now:.5g}: "
            f"{_signed(level.moved)}{'' if level.beyond_noise else ' noise'}"
        )
    few = few_repetitions(made.seeds)
    if few is not None:
        yield few
    yield f"{made.verdict}: {made.reason}"
    yield f"({made.verdict!r} means: {MEANING[made.verdict]}; the other verdicts: {_others(made.verdict)})"
    yield f"changed since the search: {'; '.join(made.changes) or 'no version, commit or option'}"
    yield from (f"notice: {notice}" for notice in made.notices)
    if made.history:
        yield text_table(["retest", "date", "verdict", "then", "now", "moved"], list(map(_past, made.history)))


def _others(verdict: str) -> str:
    return ", ".join(repr(other) for other in MEANING if other != verdict)


def _row(row: Row, space: Mapping[str, Any] | None) -> list[str]:
    listed = ", ".join(f"{trial} {status}" for trial, status in row.repeated.failures)
    ahead = "-" if row.ahead is None else f"{_signed(row.ahead)}{_judged(row.ahead)}"
    return [
        row.name,
        f"{row.mean.estimate:.5g}" if row.mean is not None else listed,
        f"{row.mean.low:.4g}..{row.mean.high:.4g}" if row.mean is not None else "-",
        ahead,
        shown_config(row.repeated.config, space),
    ]


def _judged(ahead: Interval) -> str:
    return " better" if ahead.above_zero else "" if ahead.below_zero else " noise"


def _past(line: dict[str, Any]) -> list[str]:
    level = line["level"]
    figures = ["-", "-", "-"]
    if level is not None:
        figures = [f"{level['then']:.5g}", f"{level['now']:.5g}", _signed(Interval(**level["moved"]))]
    return [str(line["number"]), line["date"], line["verdict"], *figures]


def _signed(interval: Interval) -> str:
    return f"{interval.estimate:+.4g} ({interval.low:+.4g}..{interval.high:+.4g})"
