"""Recipe: how the trials of an experiment are trained, all but their config, their seed and their data.

Data flow: Experiment -> Recipe -> (in a worker) `seed`, `data`, `trainer` -> a `Trainer`. No torch is
imported before `trainer` is called.
"""

from __future__ import annotations

import bdb
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from raytune_hpo.errors import ExperimentError, RaytuneHpoError, placed_line
from raytune_hpo.seeding import derive_seed, trial_seed
from raytune_hpo.settings import Hypergradient
from raytune_hpo.space.parameters import Parameter
from raytune_hpo.storage.full_disk import full_disk
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.resampling import can_be_pooled, fold_data, resplit
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from raytune_hpo.training.trainer import Trainer

DataOrderChoice = Literal["trial", "shared"]
DATA_ORDERS: tuple[DataOrderChoice, ...] = get_args(DataOrderChoice)


@dataclass(frozen=True)
class Recipe:
    """seed: the experiment's. folds: of a cross-validation, None for the task's own validation split.
    hypergradient: how hyperparameters move in training, within `parameters`, the space's. data_order: whether each
    trial has its own. executor: the one that the experiment asks for. ranks:
    processes that a trial is, in one group of torch.distributed."""

    task: Task
    max_epochs: int
    seed: int
    folds: int | None = None
    hypergradient: Hypergradient | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    data_order: DataOrderChoice = "trial"
    executor: str = "auto"
    ranks: int = 1

    def trial_seed(self, trial_id: str, repeat: int | None = None) -> int:
        return trial_seed(self.seed, trial_id, repeat)

    def load(self) -> TrialData:
        """The training and validation data of the task, checked.

        Raises ExperimentError whatever the task's `load` raises, since nothing has been trained yet that could fail by
        it, but for a full disk and a debugger that was left.
        """
        from raytune_hpo.training.checked_data import check_enough, check_streamed

        name = type(self.task).__name__
        try:
            data = self.task.splits(self.seed).for_trials()
        except (RaytuneHpoError, bdb.BdbQuit):
            raise
        except Exception as error:
            if full_disk(error) is not None:
                raise
            raise ExperimentError("task", name, f"cannot load its data: {placed_line(error)}") from error
        if not self.task.has_own_trainer:
            check_enough(f"{name}.load", data, self.folds)
            check_streamed(
                data, self.folds, self.executor, hypergradient=self.hypergradient is not None, ranks=self.ranks
            )
        return data

    def remarks(self, data: TrialData) -> list[str]:
        """What a person should know of the loaded data."""
        from raytune_hpo.training.checked_data import remarks

        return [] if self.task.has_own_trainer else remarks(data, self.task.kind, self.folds)

    def data(self, loaded: TrialData, repeat: int | None = None) -> list[TrialData]:
        """What a trial's trainers see: one entry, or one a fold. Repetitions see samples split anew, unless they cannot
        change places."""
        repeated = () if repeat is None else (repeat,)
        key = repeated if self.task.exchangeable and can_be_pooled(loaded) else ()
        if self.folds is not None:
            parts = fold_data(self.task, loaded, self.folds, derive_seed(self.seed, "folds", *key))
        else:
            parts = [resplit(self.task, loaded, derive_seed(self.seed, "resplit", *key)) if key else loaded]
        if self.data_order == "trial":
            return parts
        seeds = (derive_seed(self.seed, "shared data order", i, *repeated) for i in range(len(parts)))
        return [replace(part, order_seed=seed) for part, seed in zip(parts, seeds, strict=True)]

    def trainer(self, data: TrialData, device: str | None) -> Trainer:
        """An unset trainer on one entry of `data`."""
        if self.ranks > 1:
            from raytune_hpo.training.data_parallel import DataParallelTrainer

            return DataParallelTrainer(self.task, data, max_epochs=self.max_epochs, device=device)
        if self.hypergradient is None:
            return self.task.trainer(data, max_epochs=self.max_epochs, device=device)
        from raytune_hpo.training.hypergradient import HypergradientTrainer

        return HypergradientTrainer(
            self.task,
            data,
            max_epochs=self.max_epochs,
            device=device,
            hypergradient=self.hypergradient,
            space_parameters=self.parameters,
        )
