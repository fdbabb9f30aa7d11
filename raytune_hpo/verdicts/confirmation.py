"""Confirmation: a run's best configs trained again, and which of them, if any, is better than the others.

    winner   the first is better than every other, beyond noise
    tie      it is not: those that it does not beat beyond noise are named, and any of them may be taken
    none     nothing is to be had: the first is no better than a model that learned nothing, none trained well
             every time, or the repetitions were none: they came out the same, so that nothing is known of the noise

The search's own best value is the luckiest of all that it saw. Its optimism is that value less the confirmed mean of
the same config (Cawley & Talbot 2010, JMLR 11). How repetitions are judged: `repetitions`; how they are compared:
`comparison`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from raytune_hpo.objective import Mode
from raytune_hpo.results.sealed_test import Opening
from raytune_hpo.results.trial import TrialState
from raytune_hpo.seeding import generator
from raytune_hpo.verdicts.comparison import Array, Design, Interval, best_row, differences, margin, mean_interval
from raytune_hpo.verdicts.repetitions import RepeatedConfig

CONFIRM_FILE = "confirm.json"
NOT_REPEATED = (
    "not a repetition: the trial ignores its seed, and gave the same numbers every time; let it seed itself from "
    "raytune_hpo.trial_seed(), and run it again"
)
NOT_ABOVE_CHANCE = (
    "no better than chance beyond the noise of these repetitions: a model that learned nothing may do as well"
)
EQUAL = (
    "the repetitions came out equal, so that nothing is known of the noise: take more of them (--seeds), or a metric "
    "that is finer"
)
Verdict = Literal["winner", "tie", "none"]


@dataclass(frozen=True)
class Contender:
    """One config. trial: its trial in the search, and with which metric there, at which epoch.

    mean: over the repetitions, None if one of them failed or diverged. behind: how much worse than the first,
    positive for worse, at the level at which it was judged; None for the first and for those that are not compared.
    """

    trial: str
    searched: float
    searched_epoch: int
    repeated: RepeatedConfig
    mean: Interval | None
    behind: Interval | None

    @property
    def beaten(self) -> bool:
        """Whether the first is better beyond noise."""
        return self.behind is not None and self.behind.above_zero

    def to_json(self) -> dict[str, Any]:
        repeated = self.repeated
        return {
            "trial": self.trial,
            "config": repeated.config,
            "search": {"metric": self.searched, "epoch": self.searched_epoch},
            "mean": _to_json(self.mean),
            "best_mean": _mean(repeated.best_values),
            "last_mean": _mean(repeated.last_values),
            "behind": _to_json(self.behind),
            "beaten": self.beaten,
            "seconds": round(repeated.seconds, 3),
            "repetitions": [r.to_json() for r in repeated.repetitions],
            "failures": [{"trial": trial, "status": status} for trial, status in repeated.failures],
        }


@dataclass(frozen=True)
class Confirmation:
    """See the module. contenders: the best mean first, those that failed last. tied: the trials among which there is
    no telling, the first among them, empty unless verdict is "tie". naive, above_naive: the value of a model that
    learned nothing, and how much better the first is. searched_best: the search's best trial; optimism: of its
    value, None where it was not repeated well. opening: of the test split, for the first; sealed: why there is none.
    """

    run_dir: Path
    folder: Path
    metric: str
    mode: Mode
    seeds: int
    contenders: tuple[Contender, ...]
    verdict: Verdict
    reason: str
    searched_best: str
    naive: float | None
    above_naive: Interval | None
    optimism: Interval | None
    notices: tuple[str, ...] = ()
    opening: Opening | None = None
    sealed: str | None = None

    @property
    def first(self) -> Contender | None:
        """The winner, or the first of a tie; None where there is neither."""
        return None if self.verdict == "none" else self.contenders[0]

    @property
    def winner(self) -> str | None:
        """The trial of the search whose config won; None unless the verdict is "winner"."""
        return self.contenders[0].trial if self.verdict == "winner" else None

    @property
    def tied(self) -> list[str]:
        if self.verdict != "tie":
            return []
        return [c.trial for c in self.contenders if c.mean is not None and not c.beaten]

    def tested(self, opening: Opening | None, sealed: str | None) -> Confirmation:
        return replace(self, opening=opening, sealed=sealed)

    def to_json(self) -> dict[str, Any]:
        """The document of `confirm --json` and of confirm.json."""
        return {
            "run_dir": str(self.run_dir),
            "status": "finished",
            "folder": self.folder.name,
            "metric": self.metric,
            "mode": self.mode,
            "k": len(self.contenders),
            "seeds": self.seeds,
            "verdict": self.verdict,
            "reason": self.reason,
            "winner": self.winner,
            "tied": self.tied,
            "configs": [c.to_json() for c in self.contenders],
            "naive": self.naive,
            "above_naive": _to_json(self.above_naive),
            "searched_best": self.searched_best,
            "optimism": _to_json(self.optimism),
            "test": self.opening and asdict(self.opening),
            "sealed": self.sealed,
            "notices": list(self.notices),
        }


def judge(
    run_dir: Path,
    folder: Path,
    trials: list[TrialState],
    repeated: list[RepeatedConfig],
    *,
    metric: str,
    mode: Mode,
    seeds: int,
    seed: int,
    design: Design,
    naive: float | None,
    notices: tuple[str, ...] = (),
) -> Confirmation:
    """What the repetitions say. trials: of the search, the best first, each with its config in `repeated`.

    seed: of the bootstrap.
    """
    sound = [i for i, r in enumerate(repeated) if r.reliable]
    values, deviations = stacked([repeated[i] for i in sound])
    contenders = [
        Contender(t.id, t.best or 0.0, t.best_epoch or 0, r, None, None) for t, r in zip(trials, repeated, strict=True)
    ]
    for row, i in enumerate(sound):
        of_row = None if deviations is None else deviations[row]
        rng = generator(seed, "confirm", "bootstrap", i)
        contenders[i] = replace(contenders[i], mean=mean_interval(values[row], design, rng, of_row))
    optimism = _optimism(contenders[0], mode)
    made = Confirmation(
        run_dir,
        folder,
        metric,
        mode,
        seeds,
        tuple(contenders),
        "none",
        "",
        trials[0].id,
        naive,
        None,
        optimism,
        notices,
    )
    if not sound:
        return replace(made, reason="no config trained well in every repetition")
    first = best_row(values, mode)
    for difference in differences(values, first, mode, design, deviations):
        i = sound[difference.other]
        contenders[i] = replace(contenders[i], behind=difference.interval)
    above = None
    if naive is not None:
        of_first = None if deviations is None else deviations[first]
        above = margin(values[first], naive, mode, design, len(sound), of_first)
    order = sorted(range(len(contenders)), key=lambda i: _rank(contenders[i], mode))
    made = replace(made, contenders=tuple(contenders[i] for i in order), above_naive=above)
    verdict, reason = _verdict(made)
    same = [c.trial for c in made.contenders if c.mean is not None and c.repeated.identical]
    if same and reason != NOT_REPEATED:
        made = replace(made, notices=(*notices, f"of {', '.join(same)} {NOT_REPEATED}"))
    return replace(made, verdict=verdict, reason=reason)


def _verdict(made: Confirmation) -> tuple[Verdict, str]:
    """contenders: in order, the first of them sound."""
    sound = [c for c in made.contenders if c.mean is not None]
    if sound[0].repeated.identical:
        alone = not all(c.repeated.identical for c in sound)
        return "none", f"of {sound[0].trial}, the first, {NOT_REPEATED}" if alone else NOT_REPEATED
    above = made.above_naive
    if above is not None and not (above.above_zero or above.tells_nothing):
        return "none", NOT_ABOVE_CHANCE
    if any(i is not None and i.tells_nothing for i in (above, *(c.behind for c in sound))):
        return "none", EQUAL
    if len(sound) == 1 and len(made.contenders) > 1:
        return "winner", "the only config that trained well in every repetition"
    if all(c.beaten for c in sound[1:]):
        return "winner", "better than every other beyond noise"
    return "tie", "the differences are within noise: the cheaper or simpler one may be taken"


def stacked(repeated: list[RepeatedConfig]) -> tuple[Array, Array | None]:
    """([k, n] values, [k, n] deviations over the folds or None) of configs that trained well every time."""
    deviations = [d for r in repeated if (d := r.deviations) is not None]
    values = np.array([r.values for r in repeated])
    return values, np.array(deviations) if repeated and len(deviations) == len(repeated) else None


def _rank(contender: Contender, mode: Mode) -> float:
    if contender.mean is None:
        return np.inf
    return -contender.mean.estimate if mode == "max" else contender.mean.estimate


def _optimism(best: Contender, mode: Mode) -> Interval | None:
    """How much better the search's best value looks than the config is."""
    if best.mean is None:
        return None
    sign, mean = (1 if mode == "max" else -1), best.mean
    ends = [sign * (best.searched - value) for value in (mean.low, mean.high)]
    return Interval(sign * (best.searched - mean.estimate), min(ends), max(ends))


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None


def _to_json(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else asdict(interval)
