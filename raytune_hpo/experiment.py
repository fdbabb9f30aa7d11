"""Experiment: the one frozen record that an experiment file builds, and the whole truth of a run.

Everything is checked here, when the record is built: a wrong value is one ExperimentError that names
the field, the value and what would be right, before any process starts. Neither ray nor torch is
imported.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from raytune_hpo import checks
from raytune_hpo.configs import Config
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment_checks import (
    FOREIGN,
    check_folds,
    check_moving_rates,
    check_space_fits,
    checked_metric,
    checked_task,
    foreign_name,
)
from raytune_hpo.objective import Mode, Objective
from raytune_hpo.overrides import changed_fields
from raytune_hpo.reference import FunctionTrainable, from_reference, to_reference
from raytune_hpo.schedulers import scheduler_options
from raytune_hpo.search import SEARCHERS, build, check_options, searcher_class
from raytune_hpo.search.algorithm import Search
from raytune_hpo.settings import Checkpointing, Hypergradient, Resources, StopRun, record
from raytune_hpo.space import SearchSpace
from raytune_hpo.training.early_stopping import EarlyStopping
from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.task import Task

DEFAULT_SAMPLES = 64


@dataclass(frozen=True)
class Experiment:
    """One search: what is tuned, on what, how, and within which limits.

    name            letters, digits, '.', '_' and '-'; run directories are named after it
    task            a ready task's name ("digits"), a Task, or any Ray Tune function trainable f(config)
    space           nested dictionary of Float, Int, Choice and constants (or a SearchSpace)
    metric, mode    the reported value to optimize; default: the task's own validation metric
    searcher        a name, or {"name": ..., option: value}: random, grid, coarse_to_fine, hyperopt, bayesopt, bohb,
                    evolutionary, cmaes, optuna, repeat; or an object of one of Ray Tune's searchers, built
                    without a space
    scheduler       likewise: fifo, asha, hyperband, median, pbt, pb2, panda
    num_samples     trials; default 64, for a grid and for coarse_to_fine all they have
    max_epochs      the longest a trial runs, in epochs (of a function trainable: in reports)
    seed            one seed for all: data split, suggestions, weights, data order
    executor        "lanes": many trials of like structure in one process, as one stacked model; "processes": one
                    trial a process; "auto": lanes where they can train the task and are faster
    resources       of one trial, Resources(cpus=1, gpus=0.25)
    max_concurrent  trials that run at the same time; default: as many as fit
    time_budget_s   seconds of running after which no trial is continued (sessions of a resumed run add up)
    early_stopping  EarlyStopping(patience, min_delta): ends a trial on a plateau
    stop            StopRun(target, no_improvement_trials): ends the run
    checkpoint      Checkpointing(every, keep, keep_trials)
    max_failures    how often a trial that raises is tried again, each time from its checkpoint
    storage         the folder under which run directories are made
    start_points    configs to try first
    folds           k-fold cross-validation: a trial trains k models side by side in epochs and reports the mean of
                    each metric and its deviation (NAME_std); classes keep their shares in every fold
    hypergradient   Hypergradient(parameters, every, unroll, step): continuous hyperparameters follow the gradient of
                    the validation loss while a trial trains, from where the searcher starts them
    lr_range        "auto": one learning-rate range test for each structure (model shape and optimizer), whose range
                    then stands for the space's: a searcher's lr is a place within it

    Raises ExperimentError for any value that cannot work.
    """

    name: str
    task: Task | FunctionTrainable | str
    space: SearchSpace | Mapping[str, Any]
    metric: str | None = None
    mode: Mode | None = None
    searcher: Any = "random"
    scheduler: str | Mapping[str, Any] = "asha"
    num_samples: int | None = None
    max_epochs: int = 27
    seed: int = 0
    executor: Literal["auto", "processes", "lanes"] = "auto"
    resources: Resources | Mapping[str, Any] = field(default_factory=Resources)
    max_concurrent: int | None = None
    time_budget_s: float | None = None
    early_stopping: EarlyStopping | Mapping[str, Any] | None = None
    stop: StopRun | Mapping[str, Any] = field(default_factory=StopRun)
    checkpoint: Checkpointing | Mapping[str, Any] = field(default_factory=Checkpointing)
    max_failures: int = 1
    storage: str = "runs"
    start_points: Sequence[Config] = ()
    folds: int | None = None
    hypergradient: Hypergradient | Mapping[str, Any] | None = None
    lr_range: Literal["auto"] | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        # What was given, before defaults that depend on other fields fill it in: `override` starts from it.
        put("_given", {f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            raise ExperimentError(
                "name", self.name, "must be 1 to 100 letters, digits, '.', '_' or '-', the first one a letter or digit"
            )
        put("task", checked_task(self.task))
        put("space", self.space if isinstance(self.space, SearchSpace) else SearchSpace(self.space))
        check_space_fits(self.runnable, self.search_space)
        metric, mode = checked_metric(self.runnable, self.metric, self.mode)
        put("metric", metric)
        put("mode", mode)
        checks.integer("max_epochs", self.max_epochs, 1)
        checks.integer("seed", self.seed, 0, 2**63 - 1)
        checks.integer("max_failures", self.max_failures, 0)
        if self.max_concurrent is not None:
            checks.integer("max_concurrent", self.max_concurrent, 1)
        if self.time_budget_s is not None:
            checks.number("time_budget_s", self.time_budget_s, 0, open_low=True)
        put("resources", record("resources", Resources, self.resources))
        put("stop", record("stop", StopRun, self.stop))
        put("checkpoint", record("checkpoint", Checkpointing, self.checkpoint))
        if self.early_stopping is not None:
            plateau = record("early_stopping", EarlyStopping, self.early_stopping)
            put("early_stopping", dataclasses.replace(plateau, metric=metric, mode=mode))
        if not isinstance(self.storage, str | Path) or not str(self.storage):
            raise ExperimentError("storage", self.storage, "must be the path of a folder")
        put("storage", str(self.storage))
        put("start_points", self._checked_start_points())
        check_folds(self.runnable, self.folds)
        if self.hypergradient is not None:
            put("hypergradient", record("hypergradient", Hypergradient, self.hypergradient))
        check_moving_rates(self.runnable, self.search_space, self.moving, self.lr_range)
        put("_foreign", None if isinstance(self.searcher, str | Mapping) else self.searcher)
        put("searcher", self._named("searcher"))
        put("scheduler", self._named("scheduler"))
        self._check_budgets()
        checks.one_of("executor", self.executor, ("auto", "processes", "lanes"))
        if self.executor == "lanes" and self.lanes_refusal is not None:
            raise ExperimentError("executor", "lanes", f"{self.lanes_refusal}; use processes or auto")
        put("num_samples", self._checked_samples())

    # Checks -------------------------------------------------------------------------------------

    def _checked_start_points(self) -> tuple[Config, ...]:
        points = self.start_points
        if not isinstance(points, Sequence) or isinstance(points, str):
            raise ExperimentError("start_points", points, "must be a list of configs")
        return tuple(self.search_space.complete(p, f"start_points[{i}]") for i, p in enumerate(points))

    def _named(self, which: Literal["searcher", "scheduler"]) -> dict[str, Any]:
        if which == "searcher" and self.foreign_searcher is not None:
            return foreign_name(self.searcher)
        if which == "searcher" and isinstance(self.searcher, Mapping) and self.searcher.get("name") == FOREIGN:
            return dict(self.searcher)
        if which == "searcher":
            name, given = checks.named("searcher", self.searcher, SEARCHERS)
            options = check_options(name, given).to_json()
        else:
            name, options = scheduler_options(
                self.scheduler, space=self.search_space, max_epochs=self.max_epochs, task=self.task
            )
        return {"name": name, **options}

    def _check_budgets(self) -> None:
        """Either the searcher or the scheduler decides how long trials run."""
        (searcher, options), (scheduler, _) = self.option("searcher"), self.option("scheduler")
        if searcher == FOREIGN or not searcher_class(searcher).plans_budgets:
            return
        if scheduler not in ("fifo", "asha", "median"):
            expected = f"decides how long trials run, and so does {searcher}; use fifo, asha or median with it"
            raise ExperimentError("scheduler", scheduler, expected)
        searcher_class(searcher).check_epochs(check_options(searcher, options), self.max_epochs)

    def _checked_samples(self) -> int:
        total = self.search().total() if self.option("searcher")[0] != FOREIGN else None
        if self.option("scheduler")[0] == "panda":
            if self.num_samples not in (None, 1):
                raise ExperimentError("num_samples", self.num_samples, "must be 1: a panda is one model")
            return 1
        if self.num_samples is None:
            return DEFAULT_SAMPLES if total is None else total
        checks.integer("num_samples", self.num_samples, 1)
        if total is not None and self.num_samples > total:
            raise ExperimentError(
                "num_samples", self.num_samples, f"this search ends after {total} trials; leave it out to run all"
            )
        return self.num_samples

    # Typed views: after __post_init__ the fields hold these types ------------------------------------

    @property
    def search_space(self) -> SearchSpace:
        assert isinstance(self.space, SearchSpace)
        return self.space

    @property
    def runnable(self) -> Task | FunctionTrainable:
        """The task, never its name."""
        assert not isinstance(self.task, str)
        return self.task

    @property
    def objective(self) -> tuple[str, Mode]:
        assert self.metric is not None
        assert self.mode is not None
        return self.metric, self.mode

    @property
    def samples(self) -> int:
        assert self.num_samples is not None
        return self.num_samples

    @property
    def trial_resources(self) -> Resources:
        assert isinstance(self.resources, Resources)
        return self.resources

    @property
    def checkpointing(self) -> Checkpointing:
        assert isinstance(self.checkpoint, Checkpointing)
        return self.checkpoint

    @property
    def plateau(self) -> EarlyStopping | None:
        assert self.early_stopping is None or isinstance(self.early_stopping, EarlyStopping)
        return self.early_stopping

    @property
    def stop_run(self) -> StopRun:
        assert isinstance(self.stop, StopRun)
        return self.stop

    @property
    def moving(self) -> Hypergradient | None:
        assert self.hypergradient is None or isinstance(self.hypergradient, Hypergradient)
        return self.hypergradient

    @property
    def foreign_searcher(self) -> Any:
        """The object that was given as the searcher; None for a searcher of ours."""
        return self._foreign  # type: ignore[attr-defined]  # set in __post_init__

    @property
    def lanes_refusal(self) -> str | None:
        """Why the trials cannot be lanes, as far as the experiment alone tells; None if they can."""
        found = {
            "a function trainable runs in a process of its own": not isinstance(self.task, Task),
            "folds train several models a trial": self.folds is not None,
            "hypergradients look ahead in each trial by itself": self.hypergradient is not None,
            "a learning-rate range test comes before each structure": self.lr_range is not None,
            "a panda is one model": self.option("scheduler")[0] == "panda",
            "a trial needs several GPUs": self.trial_resources.gpus > 1,
        }
        return next((reason for reason, holds in found.items() if holds), None)

    def option(self, which: Literal["searcher", "scheduler"]) -> tuple[str, dict[str, Any]]:
        """The name and the options of the searcher or the scheduler."""
        options = dict(getattr(self, which))
        return options.pop("name"), options

    def recipe(self) -> Recipe:
        """How the trials of a task are trained."""
        assert isinstance(self.task, Task)
        parameters = self.search_space.parameters if self.moving is not None else {}
        return Recipe(self.task, self.max_epochs, self.seed, self.folds, self.moving, parameters)

    def as_panda(self, changes: Mapping[str, Any] | None = None) -> Experiment:
        """One model under care instead of a search: scheduler "panda", with `changes` as `override` takes them.

        It starts with the first of start_points, else with `usual_config`.
        """
        care = {} if self.option("scheduler")[0] == "panda" else {"scheduler": "panda"}
        one = self.override({"searcher": "random", "num_samples": 1, "executor": "auto", **care}).override(
            changes or {}
        )
        return one.override({"start_points": list(one.start_points[:1]) or [one.usual_config()]})

    def usual_config(self) -> Config:
        """One config without a search: each hyperparameter's default, or the middle of a parameter that has none."""
        defaults: dict[str, Any] = {}
        if isinstance(self.task, Task):
            known = {**TRAINER_HYPERPARAMETERS, **self.task.model_hyperparameters()}
            defaults = {name: hp.default for name, hp in known.items()}
        parameters = self.search_space.parameters
        return self.search_space.build(
            {
                path: defaults[path] if path in defaults and p.accepts(defaults[path]) else p.from_unit(0.5)
                for path, p in parameters.items()
            }
        )

    def search(self) -> Search:
        """A fresh search for this experiment. Raises ExperimentError if it was an object that is not here any more."""
        name, options = self.option("searcher")
        objective = Objective(*self.objective)
        if name == FOREIGN:
            if self.foreign_searcher is None:
                expected = "was an object of a Ray Tune searcher: pass a fresh one, resume(run_dir, searcher=...)"
                raise ExperimentError("searcher", options["class"], expected)
            from raytune_hpo.search.ray_searcher import ForeignSearch

            return ForeignSearch(copy.deepcopy(self.foreign_searcher), self.search_space, objective)
        return build(
            name,
            options,
            self.search_space,
            objective,
            max_epochs=self.max_epochs,
            seed=self.seed,
            start_points=self.start_points,
        )

    # JSON and overrides -------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The experiment as plain JSON data; `from_json` builds an equal one."""
        out: dict[str, Any] = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.name == "task":
                value = to_reference(value)
            elif isinstance(value, SearchSpace):
                value = value.to_json()
            elif dataclasses.is_dataclass(value) and not isinstance(value, type):
                value = dataclasses.asdict(value)
            elif f.name == "start_points":
                value = list(value)
            out[f.name] = value
        return out

    @classmethod
    def from_json(
        cls,
        data: Mapping[str, Any],
        *,
        source: Path | None = None,
        task: Task | FunctionTrainable | None = None,
        searcher: Any = None,
    ) -> Experiment:
        """source: where copies of experiment files lie; task, searcher: stand in for the recorded ones."""
        for f in dataclasses.fields(cls):
            if f.name not in data and f.default is f.default_factory is dataclasses.MISSING:
                raise ExperimentError("experiment.json", f.name, "this field is missing")
        for name in data:
            if name not in {f.name for f in dataclasses.fields(cls)}:
                raise ExperimentError("experiment.json", name, "this version has no such field")
        values = dict(data)
        values["task"] = from_reference(values["task"], source) if task is None else task
        values["space"] = SearchSpace.from_json(values["space"])
        if searcher is not None:
            values["searcher"] = searcher
        return cls(**values)

    def override(self, changes: Mapping[str, Any]) -> Experiment:
        """A changed copy: field names, dotted ones ("searcher.n_initial", "space.lr") and task options.

        What the experiment left to its defaults is worked out anew (the metric's mode, a grid's number of
        samples, ...). Raises ExperimentError.
        """
        given: dict[str, Any] = self._given  # type: ignore[attr-defined]  # set in __post_init__
        return type(self)(**{**given, **changed_fields(given, changes, task=self.task, space=self.search_space)})
