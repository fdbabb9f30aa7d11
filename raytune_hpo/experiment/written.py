"""Experiment: the one frozen record that an experiment file builds, as it was written.

It is resolved, and so checked, when it is built (`resolve`): a wrong value is one ExperimentError, before any process
starts. Neither ray nor torch is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.chosen import OBJECT
from raytune_hpo.experiment.overrides import changed_fields
from raytune_hpo.experiment.references import FunctionTrainable, found_by, from_reference
from raytune_hpo.experiment.resolve import resolve
from raytune_hpo.experiment.resolved import ExecutorChoice, ResolvedExperiment
from raytune_hpo.objective import Mode
from raytune_hpo.settings import Checkpointing, Hypergradient, Resources, StopRun
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.training.early_stopping import EarlyStopping
from raytune_hpo.training.recipe import DataOrderChoice
from raytune_hpo.training.task import Task


@dataclass(frozen=True)
class Experiment:
    """One search: what is tuned, on what, how, and within which limits.

    name            letters, digits, '.', '_' and '-'; run directories are named after it
    task            a ready task's name ("digits"), a Task, any Ray Tune function trainable f(config), or a subclass of
                    Ray Tune's Trainable; None: whoever asks for a trial trains it (open_run)
    space           nested dictionary of Float, Int, Choice and constants (or a SearchSpace)
    metric, mode    the reported value to optimize; default: the task's own validation metric
    searcher        a name, or {"name": ..., option: value}: random, grid, coarse_to_fine, hyperopt, bayesopt, bohb,
                    evolutionary, cmaes, optuna, repeat; "auto": what did best by benchmarks/search_quality.py for such
                    a space; a subclass of SearchAlgorithm; or an object of one of Ray
                    Tune's searchers, built without a space, or of one of Optuna's samplers
    scheduler       likewise: auto, fifo, asha, hyperband, median, freeze_thaw, pbt, pb2, panda; or an object of Ray
                    Tune's FIFO, ASHA, HyperBand or median scheduler, or of a subclass of one
    num_samples     trials; default 64, for a grid and for coarse_to_fine all they have
    max_epochs      the longest a trial runs, in epochs (of a function trainable: in reports)
    seed            one seed for all: data split, suggestions, weights, data order
    executor        "lanes": many trials of like structure in one process, as one stacked model; "processes": one
                    trial a process; "inline": either, in this process, without Ray (a debugger works, a crash ends
                    the run); "auto": whatever is fastest, by docs/executors.md, and functions in processes
    resources       of one trial, Resources(cpus=1, gpus=0.25); default: what tune.with_resources asks for, else a CPU
    max_concurrent  trials that run at the same time; default: as many as fit
    time_budget_s   seconds of running after which no trial is continued (sessions of a resumed run add up)
    early_stopping  EarlyStopping(patience, min_delta): ends a trial on a plateau, of the objective if not of another
                    metric
    stop            StopRun(target, no_improvement_trials): ends the run
    replicate       the best so many trials are trained again, from other seeds and on other splits, once the search is
                    done (of a time budget, after 80 %), until by the mean one of them is apart from the others, four
                    times at most; the winner is the best by the mean. 0: none
    checkpoint      Checkpointing(every, keep, keep_trials)
    max_failures    how often a trial that raises is tried again, each time from its checkpoint
    fail_fast       so many trials in a row that fail for good with the same error, and not by running out of memory,
                    stop the run (`raytune-hpo retry` tries them again); None: never
    report_timeout_s  a trial that has not reported for so many seconds is ended with its worker, and tried again from
                    its checkpoint as one that raises (max_failures); default: none is, and one that is silent for ten
                    minutes is named
    trial_timeout_s  likewise, of a trial's time from its start in a worker
    fresh_workers   True: each start of a trial has a new process, which nothing that an earlier trial did to its own
                    can reach; it costs a process's start, seconds, and goes with processes
    storage         the folder under which run directories are made
    start_points    configs to try first
    warm_start      other runs for the searcher to learn from, or to begin with: run directories, "optuna:URL#STUDY",
                    "ray:FOLDER", tables "runs.csv"; they are evidence, and never trials of this run
    folds           k-fold cross-validation: a trial trains k models side by side in epochs and reports the mean of
                    each metric and its deviation (NAME_std); classes keep their shares in every fold
    hypergradient   Hypergradient(parameters, every, unroll, step): continuous hyperparameters follow the gradient of
                    the validation loss while a trial trains, from where the searcher starts them
    lr_range        "auto": one learning-rate range test for each structure (model shape and optimizer), whose range
                    then stands for the space's: a searcher's lr is a place within it
    data_order      "trial": each trial has an order of its samples of its own; "shared": all have the same one, which
                    depends on the seed and the epoch alone, so that their differences are not the order's
    on_finish       a command that is run when the run has finished (no shell: words, quoted as in one), with the run
                    directory and what came of it as JSON on its standard input; on_failure: when it ended otherwise
                    by itself, with an error or since its trials fail alike
    listeners       who is told of every event of the run: names ("tensorboard", "module:Class"), Listener objects or
                    classes, callbacks of Ray Tune's

    The fields hold what was written; `resolved` is the experiment typed and complete.
    Raises ExperimentError for any value that cannot work.
    """

    name: str
    task: Task | FunctionTrainable | type | str | None
    space: SearchSpace | Mapping[str, Any]
    metric: str | None = None
    mode: Mode | None = None
    searcher: Any = "auto"
    scheduler: Any = "auto"
    num_samples: int | None = None
    max_epochs: int = 27
    seed: int = 0
    executor: ExecutorChoice = "auto"
    resources: Resources | Mapping[str, Any] | None = None
    max_concurrent: int | None = None
    time_budget_s: float | None = None
    early_stopping: EarlyStopping | Mapping[str, Any] | None = None
    stop: StopRun | Mapping[str, Any] = field(default_factory=StopRun)
    replicate: int = 0
    checkpoint: Checkpointing | Mapping[str, Any] = field(default_factory=Checkpointing)
    max_failures: int = 1
    fail_fast: int | None = 3
    report_timeout_s: float | None = None
    trial_timeout_s: float | None = None
    fresh_workers: bool = False
    storage: str = "runs"
    start_points: Sequence[Config] = ()
    warm_start: Sequence[str] = ()
    folds: int | None = None
    hypergradient: Hypergradient | Mapping[str, Any] | None = None
    lr_range: Literal["auto"] | None = None
    data_order: DataOrderChoice = "trial"
    on_finish: str | None = None
    on_failure: str | None = None
    listeners: Sequence[Any] = ()
    resolved: ResolvedExperiment = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "resolved", resolve(self))

    def to_json(self) -> dict[str, Any]:
        """The resolved experiment as plain JSON data; `from_json` builds an equal one."""
        return self.resolved.to_json()

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, given: Mapping[str, Any] | None = None) -> Experiment:
        """given: fields that stand in for the recorded ones, such as a task, a searcher or a listener that no file can
        make again. Code is imported from where it is found now: see `reopened` for a run's own."""
        given = {name: value for name, value in (given or {}).items() if value is not None}
        known = {f.name: f for f in dataclasses.fields(cls) if f.init}
        for name, f in known.items():
            if name not in data and f.default is f.default_factory is dataclasses.MISSING:
                raise ExperimentError("experiment.json", name, "this field is missing")
        for name in data:
            if name not in known:
                raise ExperimentError("experiment.json", name, "this version has no such field")
        with as_recorded("space", data["space"]):
            space = SearchSpace.from_json(data["space"])
            if "space" in given:
                now = given.pop("space")
                space = space.with_objects_of(now if isinstance(now, SearchSpace) else SearchSpace(now))
            values = {**data, "space": space, "listeners": (), **given}
        if "task" not in given:
            with as_recorded("task", data["task"]):
                values["task"] = from_reference(data["task"])
        for name in ("searcher", "scheduler"):
            if name not in given:
                with as_recorded(name, data[name]):
                    values[name] = _class_again(name, data[name])
        with as_recorded("experiment", data["name"]):
            return cls(**values)

    def override(self, changes: Mapping[str, Any]) -> Experiment:
        """A changed copy: field names, dotted ones ("searcher.n_initial", "space.lr") and task options.

        What the experiment left to its defaults is worked out anew (the metric's mode, a grid's number of
        samples, ...). Raises ExperimentError.
        """
        written = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        changed = changed_fields(written, changes, task=self.resolved.task, space=self.resolved.space)
        return type(self)(**{**written, **changed})

    def as_panda(self, changes: Mapping[str, Any] | None = None) -> Experiment:
        """One model under care instead of a search: scheduler "panda", with `changes` as `override` takes them.

        It starts with the first of start_points, else with `usual_config`.
        """
        care = {} if self.resolved.scheduler.kind.is_of_one else {"scheduler": "panda"}
        one = self.override(
            {"searcher": "random", "num_samples": 1, "executor": "auto", "replicate": 0, "warm_start": (), **care}
        ).override(changes or {})
        start = list(one.resolved.start_points[:1]) or [one.resolved.usual_config()]
        return one.override({"start_points": start})


@contextlib.contextmanager
def as_recorded(field_name: str, value: Any) -> Iterator[None]:
    """What a description that we have not written lets our code raise becomes an ExperimentError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        expected = f"is not as this version writes it ({type(error).__name__}: {error})"
        raise ExperimentError(f"experiment.json: {field_name}", value, expected) from error


def _class_again(field_name: str, recorded: Any) -> Any:
    """A recorded searcher or scheduler whose class is the user's, with that class for its name."""
    if not isinstance(recorded, Mapping) or recorded.get("name") == OBJECT or "from" not in recorded:
        return recorded
    rest = {name: value for name, value in recorded.items() if name not in ("from", "name")}
    return {"name": found_by(recorded["from"], field_name), **rest}
