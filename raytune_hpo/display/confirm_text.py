"""What `confirm` prints: the table of configs, the verdict, the search's optimism, the test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raytune_hpo.display.summary import duration, shown_config
from raytune_hpo.results.text_table import plural, text_table
from raytune_hpo.space.configs import flatten
from raytune_hpo.verdicts.comparison import CONFIDENCE, Interval
from raytune_hpo.verdicts.confirmation import Confirmation, Contender

SURE = f"{CONFIDENCE:.0%}".replace("%", " %")


FEW = 3


def few_repetitions(seeds: int) -> str | None:
    """What to say of so few repetitions that their spread is hardly known; None for enough."""
    if seeds >= FEW:
        return None
    return f"notice: {plural(seeds, 'repetition')} can tell little: take at least {FEW}, better 5 (--seeds 5)"


def confirm_text(made: Confirmation, space: Mapping[str, Any] | None = None) -> str:
    """All of it, as lines. space: of the run, as JSON."""
    return "\n".join(_lines(made, space))


def _lines(made: Confirmation, space: Mapping[str, Any] | None) -> Iterator[str]:
    configs = plural(len(made.contenders), "config")
    yield f"{configs}, {made.seeds} repetitions each; {made.metric}, {made.mode} is better:"
    header = [
        "trial",
        "mean",
        f"{SURE} interval",
        "behind the first",
        "at best epoch",
        "at last epoch",
        "in search",
        "each",
    ]
    yield text_table([*header, "config"], [_row(c, space) for c in made.contenders])
    for contender in made.contenders:
        if contender.repeated.failures:
            listed = ", ".join(f"{trial} {status}" for trial, status in contender.repeated.failures)
            yield f"{contender.trial} is not reliable: {listed} (in {made.folder.name}/)"
    yield (
        "each is judged at the epoch that is best in its other repetitions; intervals: 95 %, bootstrap for the means, "
        "Student's t with Holm's correction for the differences, both for repetitions that share data"
    )
    few = few_repetitions(made.seeds)
    if few is not None:
        yield few
    yield from _verdict(made)
    best = next(c for c in made.contenders if c.trial == made.searched_best)
    if made.optimism is not None and best.mean is not None:
        yield (
            f"optimism: the search said {best.searched:.5g} of {best.trial}, confirmed {best.mean.estimate:.5g} "
            f"({_ends(best.mean)}): {made.optimism.estimate:+.4g} ({_ends(made.optimism, '+')})"
        )
    yield from _test(made)
    yield from (f"notice: {notice}" for notice in made.notices)


def _verdict(made: Confirmation) -> Iterator[str]:
    if made.naive is not None and made.above_naive is not None:
        yield (
            f"chance: a model that learned nothing has {made.naive:.5g}; the first is better by "
            f"{made.above_naive.estimate:+.4g} ({_ends(made.above_naive, '+')})"
        )
    if made.verdict == "none":
        yield f"no winner: {made.reason}"
    elif made.verdict == "winner":
        yield f"winner: {made.winner}, {made.reason}"
    else:
        others = [c for c in made.contenders if c.trial in made.tied and c.behind is not None]
        differences = "; ".join(f"{c.trial} {_shown(c.behind)}" for c in others if c.behind is not None)
        yield f"a tie: {', '.join(made.tied)} (difference to the first: {differences}); {made.reason}"


def _test(made: Confirmation) -> Iterator[str]:
    if made.opening is not None and made.opening.metrics is not None:
        found = made.opening.figures
        names = [n for n in made.opening.metrics if n.startswith("test_") and not n.endswith("_std")]
        figures = ", ".join(f"{n} {found[n]:.5g} +- {found[f'{n}_std']:.2g}" for n in names)
        which = "" if made.verdict == "winner" else ", the first of the tie"
        yield (
            f"test: {made.contenders[0].trial}{which}: {figures} (mean and deviation of {found['models']:.0f} models, "
            f"{found['samples']:.0f} samples); opened {made.opening.begun}{', again' if made.opening.again else ''}"
        )
    elif made.sealed is not None:
        yield f"test: sealed: {made.sealed}"


def _row(contender: Contender, space: Mapping[str, Any] | None) -> list[str]:
    repeated, mean = contender.repeated, contender.mean
    none = "-"
    return [
        contender.trial,
        f"{mean.estimate:.5g}" if mean is not None else none,
        _ends(mean) if mean is not None else none,
        f"{_shown(contender.behind)}{'' if contender.beaten else ' noise'}" if contender.behind is not None else none,
        f"{repeated.best_values.mean():.5g}" if repeated.repetitions else none,
        f"{repeated.last_values.mean():.5g}" if repeated.repetitions else none,
        f"{contender.searched:.5g}",
        duration(repeated.seconds) if repeated.seconds >= 1 else f"{repeated.seconds:.2f} s",
        shown_config(repeated.config, space) if flatten(repeated.config) else none,
    ]


def _shown(interval: Interval) -> str:
    return f"{interval.estimate:.4g} ({_ends(interval)})"


def _ends(interval: Interval, sign: str = "") -> str:
    return f"{interval.low:{sign}.4g}..{interval.high:{sign}.4g}"
