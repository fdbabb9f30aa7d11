"""FoldedTrainer: k trainers of one config, each on its own fold, an epoch at a time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from raytune_hpo.errors import TrialError
from raytune_hpo.seeding import derive_seed
from raytune_hpo.training.resampling import DEVIATION
from raytune_hpo.training.trainer import Trainer


class FoldedTrainer(Trainer):
    """k-fold cross-validation of one config, as one trial.

    An epoch trains every fold for one epoch. Its metrics are the means over the folds, each with the
    sample standard deviation beside it (`validation_accuracy_std`), so that a scheduler may stop the trial
    at any epoch. A fold that diverges makes the means NaN: the trial has diverged.

    side_by_side: the folds are trained in threads at the same time. Only for trainers that live in other
    processes: torch's random state is one per process.
    """

    def __init__(self, trainers: Sequence[Trainer], *, side_by_side: bool = False) -> None:
        self.trainers = list(trainers)
        self._threads = ThreadPoolExecutor(len(self.trainers)) if side_by_side else None

    def setup(self, config: Mapping[str, Any], seed: int) -> None:
        seeds = [derive_seed(seed, "fold", i) for i in range(len(self.trainers))]
        self._each(lambda i: self.trainers[i].setup(config, seeds[i]))

    def train_epoch(self) -> dict[str, float]:
        reports = self._each(lambda i: self.trainers[i].train_epoch())
        metrics: dict[str, float] = {}
        for name in reports[0]:
            values = [report[name] for report in reports]
            finite = all(map(math.isfinite, values))
            metrics[name] = statistics.fmean(values) if finite else math.nan
            if name != "lr":
                metrics[name + DEVIATION] = statistics.stdev(values) if finite else math.nan
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"folds": self._each(lambda i: self.trainers[i].state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        folds = state.get("folds", [])
        if len(folds) != len(self.trainers):
            raise TrialError(f"the saved state has {len(folds)} folds, not {len(self.trainers)}")
        self._each(lambda i: self.trainers[i].load_state_dict(folds[i]))

    def close(self) -> None:
        self._each(lambda i: self.trainers[i].close())

    @property
    def epoch(self) -> int:
        return self.trainers[0].epoch

    def _each(self, work: Any) -> list[Any]:
        """work(i) for every fold, in order of the folds."""
        run = map if self._threads is None else self._threads.map
        return list(run(work, range(len(self.trainers))))
