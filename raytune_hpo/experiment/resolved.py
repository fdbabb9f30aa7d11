"""ResolvedExperiment: an experiment, typed and complete. What a run is made from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from raytune_hpo.experiment.chosen import ChosenScheduler, ChosenSearcher
from raytune_hpo.experiment.references import FunctionTrainable, to_reference
from raytune_hpo.listeners.registry import written_down
from raytune_hpo.objective import Objective
from raytune_hpo.settings import Checkpointing, Hypergradient, Resources, StopRun
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.training.early_stopping import EarlyStopping
from raytune_hpo.training.recipe import DataOrderChoice, Recipe
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from raytune_hpo.schedulers import Scheduler
    from raytune_hpo.search import Search

ExecutorChoice = Literal["auto", "processes", "lanes", "inline"]
EXECUTORS: tuple[ExecutorChoice, ...] = get_args(ExecutorChoice)


@dataclass(frozen=True)
class ResolvedExperiment:
    """The fields of `Experiment`, each with its own type, and none left to a default.

    task: a Task, a function trainable, or a subclass of Ray Tune's Trainable.
    """

    name: str
    task: Task | FunctionTrainable
    space: SearchSpace
    objective: Objective
    searcher: ChosenSearcher
    scheduler: ChosenScheduler
    num_samples: int
    max_epochs: int
    seed: int
    executor: ExecutorChoice
    resources: Resources
    max_concurrent: int | None
    time_budget_s: float | None
    early_stopping: EarlyStopping | None
    stop: StopRun
    replicate: int
    checkpoint: Checkpointing
    max_failures: int
    fail_fast: int | None
    report_timeout_s: float | None
    trial_timeout_s: float | None
    fresh_workers: bool
    storage: str
    start_points: tuple[Config, ...]
    warm_start: tuple[str, ...]
    folds: int | None
    hypergradient: Hypergradient | None
    lr_range: Literal["auto"] | None
    data_order: DataOrderChoice
    on_finish: str | None
    on_failure: str | None
    listeners: tuple[Any, ...]

    @property
    def lanes_refusal(self) -> str | None:
        """Why the trials cannot be lanes, as far as the experiment alone tells; None if they can."""
        found = {
            "a function trainable runs in a process of its own": not isinstance(self.task, Task),
            "this task brings its own trainer": isinstance(self.task, Task) and self.task.has_own_trainer,
            "this task takes its steps itself": isinstance(self.task, Task) and self.task.has_own_step,
            "folds train several models a trial": self.folds is not None,
            "fresh_workers asks for a process a trial": self.fresh_workers,
            "hypergradients look ahead in each trial by itself": self.hypergradient is not None,
            "a learning-rate range test comes before each structure": self.lr_range is not None,
            f"a {self.scheduler.name} is one model": self.scheduler.kind.is_of_one,
            "a trial is several processes": self.resources.strategy is not None,
            "a trial needs several GPUs": self.resources.gpus > 1,
        }
        return next((reason for reason, holds in found.items() if holds), None)

    @property
    def has_timeouts(self) -> bool:
        """Whether a trial may have to be ended whose code does not come back: only a worker's can."""
        return self.report_timeout_s is not None or self.trial_timeout_s is not None

    @property
    def expected_epochs(self) -> float:
        """Of a trial on average, about."""
        kind, options = self.searcher.kind, self.searcher.options
        share = 1.0 if kind is None or options is None else kind.expected_share(options)
        return share * self.scheduler.kind.expected_epochs(self.scheduler.options, self.max_epochs)

    @property
    def checkpoint_every(self) -> int:
        """Epochs between two checkpoints of a trial: the experiment's, or more often where the scheduler needs it."""
        every = self.checkpoint.every
        return every if self.scheduler.options is None else self.scheduler.options.checkpoint_every(every)

    def recipe(self) -> Recipe:
        """How the trials of a task are trained."""
        assert isinstance(self.task, Task)
        parameters = self.space.parameters if self.hypergradient is not None else {}
        return Recipe(
            self.task,
            self.max_epochs,
            self.seed,
            self.folds,
            self.hypergradient,
            parameters,
            data_order=self.data_order,
            executor=self.executor,
            ranks=self.resources.ranks,
        )

    def usual_config(self) -> Config:
        """One config without a search: each hyperparameter's default, or the middle of a parameter that has none."""
        defaults: dict[str, Any] = {}
        if isinstance(self.task, Task):
            defaults = {name: hp.default for name, hp in self.task.hyperparameters().items()}
        parameters = self.space.parameters
        usual = {path: p.recorded(defaults[path]) for path, p in parameters.items() if path in defaults}
        return self.space.build(
            {
                path: usual[path] if path in usual and p.accepts(usual[path]) else p.from_unit(0.5)
                for path, p in parameters.items()
            }
        )

    def new_search(self) -> Search:
        """A fresh search. Raises ExperimentError if it was an object that is not here any more."""
        return self.searcher.build(
            self.space,
            self.objective,
            max_epochs=self.max_epochs,
            seed=self.seed,
            start_points=self.start_points,
        )

    def new_scheduler(self) -> Scheduler:
        """A fresh scheduler. Raises ExperimentError if it was an object that is not here any more."""
        return self.scheduler.build(self.space, self.objective, max_epochs=self.max_epochs, seed=self.seed)

    def to_json(self) -> dict[str, Any]:
        """The experiment as plain JSON data; `Experiment.from_json` builds an equal one."""
        return {
            "name": self.name,
            "task": to_reference(self.task),
            "space": self.space.to_json(),
            "metric": self.objective.metric,
            "mode": self.objective.mode,
            "searcher": self.searcher.to_json(),
            "scheduler": self.scheduler.to_json(),
            "num_samples": self.num_samples,
            "max_epochs": self.max_epochs,
            "seed": self.seed,
            "executor": self.executor,
            "resources": dataclasses.asdict(self.resources),
            "max_concurrent": self.max_concurrent,
            "time_budget_s": self.time_budget_s,
            "early_stopping": None if self.early_stopping is None else dataclasses.asdict(self.early_stopping),
            "stop": dataclasses.asdict(self.stop),
            "replicate": self.replicate,
            "checkpoint": dataclasses.asdict(self.checkpoint),
            "max_failures": self.max_failures,
            "fail_fast": self.fail_fast,
            "report_timeout_s": self.report_timeout_s,
            "trial_timeout_s": self.trial_timeout_s,
            "fresh_workers": self.fresh_workers,
            "storage": self.storage,
            "start_points": list(self.start_points),
            "warm_start": list(self.warm_start),
            "folds": self.folds,
            "hypergradient": None if self.hypergradient is None else dataclasses.asdict(self.hypergradient),
            "lr_range": self.lr_range,
            "data_order": self.data_order,
            "on_finish": self.on_finish,
            "on_failure": self.on_failure,
            "listeners": [written_down(listener) for listener in self.listeners],
        }
