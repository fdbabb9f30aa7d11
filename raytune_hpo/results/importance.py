"""Importance: which hyperparameters of a run mattered, or that its trials are too few to tell.

The trials' values are taken as ranks, so that one loss of a million does not speak for all; trials that diverged
or failed are tied for the worst rank, since "the learning rate was too high" is often the main effect. A trial
that was stopped early counts with the best value it reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from raytune_hpo.results.forest_anova import Share, forest_anova
from raytune_hpo.results.results import Results
from raytune_hpo.results.text_table import plural
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config

K = TypeVar("K")

MIN_TRIALS = 20
#: With more, so many of them, evenly in the order of suggestion: they tell as much, in bounded time.
MOST_TRIALS = 2000

HANDBOOK: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("learning rate", ("lr", "learning_rate")),
    (
        "momentum, hidden units, batch size",
        ("momentum", "beta", "hidden_units", "units", "batch_size", *(f"units_{k}" for k in range(1, 9))),
    ),
    ("layers, learning-rate decay", ("hidden_layers", "layers", "num_layers", "lr_decay", "lr_step_epochs")),
    ("Adam's beta1, beta2, eps", ("beta1", "beta2", "eps", "epsilon")),
)
"""The order in which hyperparameters are said to matter (Andrew Ng, Deep Learning Specialization, course 2,
week 3, "Tuning process"), each place with the names that stand for it here."""


@dataclass(frozen=True)
class Importance:
    """What can be told.

    trials: those that are finished, as of `telling`; bad: of these, diverged or failed. r2: out of bag, None where no
    forest was fitted; needed: what it must exceed. verdict: one line. main and pairs: empty unless `can_tell`, largest
    first.
    """

    trials: int
    bad: int
    r2: float | None
    needed: float
    can_tell: bool
    verdict: str
    main: dict[str, Share]
    pairs: dict[tuple[str, str], Share]

    @property
    def rest(self) -> float:
        """The share that is left: interactions that are not listed, and what the trees read into chance."""
        return 1 - sum(s.share for s in (*self.main.values(), *self.pairs.values()))

    def to_json(self) -> dict[str, Any]:
        return {
            "trials": self.trials,
            "diverged_or_failed": self.bad,
            "r2_out_of_bag": self.r2,
            "r2_needed": self.needed,
            "can_tell": self.can_tell,
            "verdict": self.verdict,
            "parameters": [
                {"name": name, "share": s.share, "deviation": s.deviation, "handbook": handbook_place(name)}
                for name, s in self.main.items()
            ],
            "pairs": [
                {"names": list(names), "share": s.share, "deviation": s.deviation} for names, s in self.pairs.items()
            ],
            "rest": self.rest if self.can_tell else None,
        }


def importance(results: Results, *, pairs: bool = False) -> Importance:
    """Shares of the variance of the trials' ranks over the space.

    They are withheld unless there are MIN_TRIALS finished trials and a forest fitted to them predicts trials that
    it has not seen: R^2 above 2 / sqrt(n), which for values that have nothing to do with the configs is rarer than
    one run in twenty (simulated for 20 to 200 trials of 1 to 8 parameters; usual is a negative one).
    """
    space = SearchSpace.from_json(results.experiment["space"])
    trials = telling(results)
    costs = np.array([cost(t, results.mode) for t in trials])
    n = len(trials)
    found = Importance(
        trials=n,
        bad=int(np.isinf(costs).sum()),
        r2=None,
        needed=2 / math.sqrt(max(n, 1)),
        can_tell=False,
        verdict=f"cannot tell: {plural(n, 'finished trial')}, and below {MIN_TRIALS} anything may look important",
        main={},
        pairs={},
    )
    if n < MIN_TRIALS:
        return found
    if np.all(costs == costs[0]):
        return replace(found, verdict=f"cannot tell: all {n} finished trials did equally well")
    units = np.array([space.to_unit(told_config(t)) for t in trials])
    anova = forest_anova(space, units, ranks(costs), seed=int(results.experiment["seed"]), pairs=pairs)
    found = replace(found, r2=anova.r2)
    if anova.r2 <= found.needed:
        verdict = (
            f"cannot tell: a random forest fitted to these {n} trials hardly predicts trials that it has not seen "
            f"(out-of-bag R^2 {anova.r2:.2f}, by chance up to {found.needed:.2f}); more trials may show more"
        )
        return replace(found, verdict=verdict)
    verdict = (
        f"{n} trials tell: a random forest fitted to them predicts trials that it has not seen "
        f"(out-of-bag R^2 {anova.r2:.2f}, by chance up to {found.needed:.2f})"
    )
    return replace(
        found, can_tell=True, verdict=verdict, main=_largest_first(anova.main), pairs=_largest_first(anova.pairs)
    )


def telling(results: Results) -> list[TrialState]:
    """The trials that a run's importance is told by: the finished ones of configs that the space has a place for (a
    scheduler, or a person, may have given one others), MOST_TRIALS at most."""
    space = SearchSpace.from_json(results.experiment["space"])
    found = [t for t in results.ledger.trials.values() if t.finished and (not t.status.eligible or t.best is not None)]
    found = [t for t in found if placed(space, told_config(t))]
    if len(found) <= MOST_TRIALS:
        return found
    return [found[i * len(found) // MOST_TRIALS] for i in range(MOST_TRIALS)]


def ranks(costs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[n] ranks in (0, 1], equal costs sharing their mean rank."""
    from scipy.stats import rankdata

    found: np.ndarray[Any, Any] = rankdata(costs) / len(costs)
    return found


def handbook_place(path: str) -> int | None:
    """1 for what matters first by the handbook's order, None for what it does not rank."""
    name = path.rsplit(".", maxsplit=1)[-1]
    return next((place for place, (_, names) in enumerate(HANDBOOK, start=1) if name in names), None)


def cost(trial: TrialState, mode: str) -> float:
    """What ranks a trial, the best lowest; infinite if it diverged or failed."""
    if not trial.status.eligible or trial.best is None:
        return math.inf
    return -trial.best if mode == "max" else trial.best


def told_config(trial: TrialState) -> Config:
    """The one that gave what the trial is ranked by."""
    return trial.best_config if trial.status.eligible else trial.config


def placed(space: SearchSpace, config: Config) -> bool:
    """Whether each value has a place in its parameter's own scale."""
    try:
        space.to_unit(config)
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        return False
    return True


def _largest_first(shares: dict[K, Share]) -> dict[K, Share]:
    return dict(sorted(shares.items(), key=lambda item: -item[1].share))
