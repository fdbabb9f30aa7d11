"""Retesting: months later, do the settings that a search found still hold?

The old best configs and a few fresh random samples of the same space are trained on today's data and code.

    stale        a fresh sample beats the old winner beyond noise: search again
    drifted      none does, but another of the old best now beats it beyond noise, or its own level has moved
                 beyond noise, up or down, or it no longer trains well every time
    still best   neither
    none         the repetitions were none, or came out equal: nothing is known of the noise

The old winner is the confirmed one (`confirm.json`: the winner, or the first), else the search's best trial. Its level
is the metric at each repetition's best epoch, then and now, so that both are optimistic alike: paired with the
confirmation's repetitions, which had the same seeds, or without one compared with the search's single value, which
was the best of many (`comparison.shift_from_search`), and then seldom enough to tell.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from raytune_hpo.atomic import write_atomically
from raytune_hpo.checks import is_number
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.codec import read_plain_data, shown
from raytune_hpo.objective import Mode
from raytune_hpo.owned import read_bytes
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.seeding import generator
from raytune_hpo.space.configs import Config, config_key
from raytune_hpo.verdicts.comparison import Design, Interval, differences, mean_interval, shift, shift_from_search
from raytune_hpo.verdicts.confirmation import CONFIRM_FILE, EQUAL, NOT_REPEATED, stacked
from raytune_hpo.verdicts.repetitions import RepeatedConfig

HISTORY_FILE = "history.jsonl"
Verdict = Literal["still best", "drifted", "stale", "none"]


@dataclass(frozen=True)
class OldConfig:
    """One of the old best. searched: its metric in the search; confirmed: at the best epoch of each repetition of its
    confirmation, None without one."""

    trial: str
    config: Config
    searched: float
    confirmed: tuple[float, ...] | None


@dataclass(frozen=True)
class Row:
    """A retested config. name: its trial in the search, or "fresh 1". mean: None if a repetition failed; ahead: how
    much better than the old winner, positive for better, None for that itself and where it cannot be compared."""

    name: str
    fresh: bool
    repeated: RepeatedConfig
    mean: Interval | None
    ahead: Interval | None

    @property
    def beats(self) -> bool:
        return self.ahead is not None and self.ahead.above_zero


@dataclass(frozen=True)
class Level:
    """The old winner's level. against: "confirm" or "search". moved: by how much, positive for better."""

    against: str
    then: float
    now: float
    moved: Interval

    @property
    def beyond_noise(self) -> bool:
        return self.moved.above_zero or self.moved.below_zero


@dataclass(frozen=True)
class Retest:
    """One retest. rows: the old winner first. level: None if that no longer trains well. changes: of versions, code
    and data since the search, in words. history: one dictionary a retest, this one last."""

    run_dir: Path
    number: int
    metric: str
    mode: Mode
    seeds: int
    verdict: Verdict
    reason: str
    rows: tuple[Row, ...]
    level: Level | None
    changes: tuple[str, ...]
    notices: tuple[str, ...]
    history: tuple[dict[str, Any], ...] = ()

    def line(self, date: str) -> dict[str, Any]:
        """What the history keeps of it."""
        return {
            "number": self.number,
            "date": date,
            "verdict": self.verdict,
            "reason": self.reason,
            "metric": self.metric,
            "seeds": self.seeds,
            "level": self.level and asdict(self.level),
            "configs": [
                {
                    "name": row.name,
                    "config": row.repeated.config,
                    "mean": row.mean and asdict(row.mean),
                    "ahead": row.ahead and asdict(row.ahead),
                    "values": row.repeated.values.tolist(),
                    "failures": [list(f) for f in row.repeated.failures],
                }
                for row in self.rows
            ],
            "changes": list(self.changes),
        }

    def to_json(self) -> dict[str, Any]:
        """The document of `retest --json`."""
        now = self.history[-1] if self.history else self.line("")
        document = {"run_dir": str(self.run_dir), "status": "finished", **now, "notices": list(self.notices)}
        short = ("number", "date", "verdict", "level", "changes")
        return {**document, "history": [{key: line[key] for key in short} for line in self.history]}


def old_configs(results: Results, trials: list[TrialState]) -> list[OldConfig]:
    """The old best, the old winner first. trials: the search's best distinct ones.

    Raises ExperimentError if confirm.json is damaged.
    """
    path = results.run_dir / CONFIRM_FILE
    searched = {t.id: OldConfig(t.id, t.best_config, t.best or 0.0, None) for t in trials}
    if not os.path.lexists(path):
        return list(searched.values())
    found: dict[str, OldConfig] = {}
    try:
        for entry in json.loads(read_bytes(path))["configs"]:
            values = None if entry["failures"] else tuple(_number(r["best"]) for r in entry["repetitions"])
            config = read_plain_data(entry["config"], "config")
            old = OldConfig(str(entry["trial"]), config, _number(entry["search"]["metric"]), values)
            found[config_key(old.config)] = old
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExperimentError("run directory", str(path), f"is damaged: {error!r}; confirm the run again") from error
    for old in searched.values():
        found.setdefault(config_key(old.config), old)
    return list(found.values())


def _number(value: Any) -> float:
    if not is_number(value):
        raise ValueError(f"{shown(value)} is no number")
    return float(value)


def judge(
    results: Results,
    number: int,
    old: list[OldConfig],
    repeated: list[RepeatedConfig],
    *,
    mode: Mode,
    seeds: int,
    design: Design,
    changes: tuple[str, ...],
    notices: tuple[str, ...],
) -> Retest:
    """What the repetitions say. repeated: of the old configs, in their order, and then of the fresh ones."""
    names = [o.trial for o in old] + [f"fresh {i}" for i in range(1, len(repeated) - len(old) + 1)]
    sound = [i for i, r in enumerate(repeated) if r.reliable]
    values, deviations = stacked([repeated[i] for i in sound])
    means: dict[int, Interval] = {}
    for row, i in enumerate(sound):
        rng = generator(results.experiment["seed"], "retest", "bootstrap", number, i)
        means[i] = mean_interval(values[row], design, rng, None if deviations is None else deviations[row])
    ahead: dict[int, Interval] = {}
    if sound and sound[0] == 0:
        for d in differences(values, 0, mode, design, deviations):
            behind = d.interval
            ahead[sound[d.other]] = Interval(0 - behind.estimate, 0 - behind.high, 0 - behind.low)
    rows = tuple(
        Row(name, i >= len(old), r, means.get(i), ahead.get(i))
        for i, (name, r) in enumerate(zip(names, repeated, strict=True))
    )
    level = _level(old[0], repeated[0], values, results, mode, design) if 0 in means else None
    verdict, reason = _verdict(rows, level)
    return Retest(results.run_dir, number, results.metric, mode, seeds, verdict, reason, rows, level, changes, notices)


def _level(
    winner: OldConfig, repeated: RepeatedConfig, values: Any, results: Results, mode: Mode, design: Design
) -> Level:
    now = repeated.best_values
    # Its folds move together, from then to now: the repetitions are what is compared.
    plain = Design(design.overlap, design.samples)
    if winner.confirmed is not None:
        n = min(len(now), len(winner.confirmed))
        then = np.array(winner.confirmed[:n])
        if n > 1:
            return Level("confirm", float(then.mean()), float(now[:n].mean()), shift(now[:n], then, mode, plain))
    at_best = values.copy()
    at_best[0] = now
    trials = len(results.ledger.trials)
    moved = shift_from_search(at_best, 0, winner.searched, trials, mode, plain)
    return Level("search", winner.searched, float(now.mean()), moved)


def _verdict(rows: tuple[Row, ...], level: Level | None) -> tuple[Verdict, str]:
    winner = rows[0].name
    fresh = [row.name for row in rows if row.fresh and (row.beats or (level is None and row.mean is not None))]
    unmeasured = _unmeasured(rows, level)
    if unmeasured is not None:
        return "none", unmeasured
    if level is None:
        reason = f"{winner} no longer trains well every time"
        if fresh:
            return "stale", f"{reason}, and {', '.join(fresh)} of the fresh samples does"
        return "drifted", reason
    if fresh:
        return "stale", f"{', '.join(fresh)} of the fresh samples beats {winner} beyond noise: search again"
    reasons = [f"{row.name} now beats it beyond noise" for row in rows if row.beats]
    if level.beyond_noise:
        direction = "better" if level.moved.above_zero else "worse"
        reasons.append(f"its level is {direction} than {level.against} said, beyond noise")
    if reasons:
        return "drifted", f"no fresh sample beats {winner}, but {' and '.join(reasons)}"
    return (
        "still best",
        f"nothing beats {winner} beyond noise, and its level is within noise of what {level.against} said",
    )


def _unmeasured(rows: tuple[Row, ...], level: Level | None) -> str | None:
    """Why nothing is known of the noise; None where something is."""
    sound = [row for row in rows if row.mean is not None]
    if sound and all(row.repeated.identical for row in sound):
        return NOT_REPEATED
    if level is None:
        return None
    if rows[0].repeated.identical:
        return f"of {rows[0].name}, the old winner, {NOT_REPEATED}"
    intervals = [level.moved, *(row.ahead for row in sound if row.ahead is not None)]
    return EQUAL if any(interval.tells_nothing for interval in intervals) else None


def changed_versions(then: dict[str, Any], now: dict[str, Any]) -> tuple[str, ...]:
    """What differs between two descriptions of runs: versions, git commit, the task's options."""
    before, after = then.get("versions", {}), now.get("versions", {})
    found = [
        f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    if then.get("git_commit") != now.get("git_commit"):
        found.append(f"git commit {then.get('git_commit') or 'none'} -> {now.get('git_commit') or 'none'}")
    old, new = (d["experiment"]["task"].get("options", {}) for d in (then, now))
    found += [f"task.{name} {old.get(name)!r} -> {new[name]!r}" for name in new if old.get(name) != new[name]]
    return tuple(found)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """One dictionary a retest, in order. Raises ExperimentError if the file is damaged."""
    path = folder / HISTORY_FILE
    try:
        lines = [json.loads(line) for line in read_bytes(path).splitlines()] if os.path.lexists(path) else []
        for number, line in enumerate(lines, start=1):
            if type(read_plain_data(line, f"line {number}").get("number")) is not int:
                raise ValueError(f"line {number} has no number")
    except (ValueError, RecursionError) as error:
        raise ExperimentError("run directory", str(path), f"is damaged: {error}") from error
    return lines


def write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    """All of it, so that a crash leaves the old lines or the new ones."""
    lines = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in history)
    write_atomically(folder / HISTORY_FILE, lines.encode())
