"""Advice: what a run's own trials say about how it was set up. Nothing is said that chance explains.

border     the best trials crowd at an end of a parameter's range: it may go on there
stopping   a scheduler judged trials by an epoch that tells little of the end; or none did, and one would have
           saved so much
noise      the best trials differ by less than the validation split can tell
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.journal.events import DataLoaded, Decided
from raytune_hpo.results.curves import values_by_epoch
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Parameter
from raytune_hpo.states import Decision

#: Finished trials below which there is no telling, and the share of them that are "the best".
MIN_TRIALS, BEST_SHARE = 20, 0.2
#: Of a parameter's own scale, at either end; and of the best trials, how many make a crowd there: where results get
#: better all the way to the end, half of the best fifth are in its last tenth.
END, CROWD = 0.1, 1 / 3
#: How likely chance alone may give one advice of a kind, over all parameters.
CHANCE = 0.05
#: Trials that reached the last epoch, below which no earlier epoch is judged; and the best of them that count.
MIN_COMPLETE, TOP = 20, 10
#: Rank correlation with the end, below which an epoch tells little of it.
LITTLE = 0.3
REDUCTION = 3  # of the successive halving that is imagined where nothing was stopped
#: Of all epochs, what has to be saved to be worth a word.
WORTH = 0.2

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Advice:
    """kind: see above. text: one sentence or two, for people. facts: its numbers."""

    kind: str
    text: str
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, **self.facts}


def advice(results: Results) -> list[Advice]:
    """All that there is to say of a run, finished or not; nothing of one that is too small."""
    return [*_borders(results), *_stopping(results), *_noise(results)]


# Borders --------------------------------------------------------------------------------------------


def _borders(results: Results) -> Iterator[Advice]:
    space = SearchSpace.from_json(results.experiment["space"])
    trials = [t for t in results.ledger.trials.values() if t.finished and t.eligible and t.best is not None]
    if len(trials) < MIN_TRIALS:
        return
    trials.sort(key=lambda t: t.rank(results.objective))
    best = max(5, round(BEST_SHARE * len(trials)))
    values = [space.values(t.best_config) for t in trials]
    ordered = {path: p for path, p in space.parameters.items() if not isinstance(p, Choice)}
    for path, parameter in ordered.items():
        units = [_unit(parameter, own[path]) if path in own else math.nan for own in values]
        for side in ("low", "high"):
            there = [_at_end(parameter, unit, side) for unit in units]
            inside = sum(there[:best])
            if inside < CROWD * best or _tail(len(trials), sum(there), best, inside) > CHANCE / 2 / len(ordered):
                continue
            yield _border(path, parameter, side, inside, best, sum(there), len(trials))


def _unit(parameter: Parameter, value: Any) -> float:
    """NaN for a value that the parameter has no place for: a scheduler, or a person, may have given it."""
    try:
        return parameter.to_unit(value)
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        return math.nan


def _at_end(parameter: Parameter, unit: float, side: str) -> bool:
    """Whether a value lies in the tenth of the range at this end, or is its last value."""
    if math.isnan(unit):  # the trial has no such parameter
        return False
    if parameter.n is not None:
        unit = (math.floor(unit * parameter.n) + (0 if side == "low" else 1)) / parameter.n
    return unit <= END if side == "low" else unit >= 1 - END


def _tail(n: int, marked: int, drawn: int, at_least: int) -> float:
    """The chance that of `drawn` of n things at least so many are marked ones (hypergeometric)."""
    ways = sum(math.comb(marked, k) * math.comb(n - marked, drawn - k) for k in range(at_least, min(marked, drawn) + 1))
    return ways / math.comb(n, drawn)


def _border(path: str, parameter: Parameter, side: str, inside: int, best: int, there: int, trials: int) -> Advice:
    low = side == "low"
    end = parameter.from_unit(0.0 if low else math.nextafter(1.0, 0.0))
    tenth = (
        f"at its {'lowest' if low else 'highest'} value, {_shown(end)}"
        if (parameter.n or 11) <= 1 / END
        else (f"in the {'lowest' if low else 'highest'} tenth of its range, which ends at {_shown(end)}")
    )
    text = (
        f"{path}: {inside} of the best {best} trials lie {tenth} ({there} of all {trials} do): "
        f"{'lower values' if low else 'higher values'} may be better still, widen it there"
    )
    facts = {"parameter": path, "end": side, "value": end, "best_there": inside, "best": best}
    return Advice("border", text, {**facts, "all_there": there, "all": trials})


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# Early stopping -------------------------------------------------------------------------------------


def _stopping(results: Results) -> Iterator[Advice]:
    if any(trial.generation for trial in results.ledger.trials.values()):
        return  # one that goes on from another's checkpoint tells nothing of what its first epochs foretold
    curves = _curves(results)
    last = max((max(curve) for curve in curves.values()), default=0)
    complete = [curve for curve in curves.values() if max(curve) == last]
    if last < 3 or len(complete) < MIN_COMPLETE:
        return
    stops = _stops(results)
    stopped = sum(stops.values())
    if stopped:
        for epoch in sorted(e for e, count in stops.items() if count >= max(3, stopped / 10) and e < last):
            told = _told(complete, epoch)
            if told is not None and told < LITTLE:
                yield _greedy(epoch, last, told, len(complete), stops[epoch])
                return
    elif len(complete) == len(curves):
        yield from _idle(complete, last)


def _curves(results: Results) -> dict[str, dict[int, float]]:
    """Of each trial with reports the least loss so far, epoch by epoch."""
    found = {}
    for trial, values in values_by_epoch(results).items():
        losses = [results.objective.loss(value) if math.isfinite(value) else math.inf for value in values.values()]
        if losses:
            found[trial] = dict(zip(values, itertools.accumulate(losses, min), strict=True))
    return found


def _stops(results: Results) -> Counter[int]:
    """Epoch -> the trials that a scheduler stopped there."""
    found: Counter[int] = Counter()
    for event in results.of(Decided):
        if event.decision == Decision.STOP:
            trial = results.ledger.trials[event.trial]
            if trial.epoch == event.epoch and trial.reason == results.experiment["scheduler"]["name"]:
                found[event.epoch] += 1
    return found


def _told(complete: Sequence[Mapping[int, float]], epoch: int) -> float | None:
    """Spearman's correlation of what trials had come to at an epoch with what they came to in the end."""
    from scipy.stats import spearmanr

    pairs = [(curve[epoch], curve[max(curve)]) for curve in complete if epoch in curve]
    early, late = (np.array(column) for column in zip(*pairs, strict=True)) if pairs else (np.zeros(0), np.zeros(0))
    if len(pairs) < MIN_COMPLETE or np.ptp(early[np.isfinite(early)]) == 0 or np.ptp(late[np.isfinite(late)]) == 0:
        return None
    found = float(spearmanr(early, late).statistic)
    return None if math.isnan(found) else found


def _greedy(epoch: int, last: int, told: float, complete: int, stopped: int) -> Advice:
    text = (
        f"epoch {epoch} tells little of epoch {last}: of the {complete} trials that went on, the ranks at both agree "
        f"by {told:.2f} (Spearman; 1 is the same order, 0 none), and {stopped} trials were stopped by it. A later "
        f"first rung (grace_period) loses fewer good ones"
    )
    return Advice("stopping", text, {"epoch": epoch, "last": last, "rank_correlation": told, "stopped": stopped})


def _idle(complete: Sequence[Mapping[int, float]], last: int) -> Iterator[Advice]:
    """Nothing was stopped: what successive halving would have saved, from the latest first rung that is worth it."""
    top = min(TOP, len(complete) // 2)
    ends = np.array([curve[last] for curve in complete])
    best = set(np.argsort(ends, kind="stable")[:top].tolist())
    for grace in sorted({max(1, last // 9), max(1, last // 3)}):
        alive, epochs, at = list(range(len(complete))), 0, 0
        rung = grace
        while rung < last and len(alive) > 1:
            epochs += len(alive) * (rung - at)
            ordered = sorted(alive, key=lambda i: complete[i].get(rung, math.inf))
            alive, at = ordered[: max(1, len(alive) // REDUCTION)], rung
            rung *= REDUCTION
        epochs += len(alive) * (last - at)
        winner_kept = int(np.argmin(ends)) in alive
        saved = 1 - epochs / (len(complete) * last)
        if saved >= WORTH and winner_kept:
            kept = len(best.intersection(alive))
            text = (
                f"no trial was stopped early: asha with grace_period {grace} would have saved {saved:.0%} of the "
                f"epochs and kept the winner, with {kept} of the best {top} to the end"
            )
            yield Advice("stopping", text, {"grace_period": grace, "saved": saved, "kept": kept, "of": top})
            return


# Noise ----------------------------------------------------------------------------------------------


def _noise(results: Results) -> Iterator[Advice]:
    """Of a share of right answers: its standard error over the validation samples (binomial)."""
    data = next((event for event in results.of(DataLoaded)), None)
    ranked = results.top(len(results.ledger.trials))
    if data is None or not data.validation or len(ranked) < 2 or "accuracy" not in results.metric:
        return
    first = ranked[0].best
    if first is None or not 0 < first < 1:
        return
    error = math.sqrt(first * (1 - first) / data.validation)
    near = _within(ranked, first, 2 * error)
    if near > 1:
        text = (
            f"{near} trials are within two standard errors ({2 * error:.2g}) of the best {results.metric}, "
            f"{first:.4g} on {data.validation} samples: which of them is best is not known. raytune-hpo confirm trains "
            f"them again from fresh seeds"
        )
        yield Advice("noise", text, {"near": near, "standard_error": error, "samples": data.validation})


def _within(ranked: Sequence[TrialState], first: float, by: float) -> int:
    return sum(trial.best is not None and abs(trial.best - first) <= by for trial in ranked)
