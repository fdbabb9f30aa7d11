"""TensorBoard: a folder a trial, with every metric by epoch, and the page of hyperparameters. Live, or as an export.

    t00003/events.out.tfevents.1.scalars   grows: the metrics, NaN and infinities among them, and `best/METRIC`
    t00003/events.out.tfevents.0.hparams   is replaced: the config as it is now, and how the trial ended
    events.out.tfevents.0.hparams          which hyperparameters and metrics there are

All files follow from the journal (`derived_file`), so that each epoch stands in them once, whatever becomes of the
process. A trial that goes on from a checkpoint with another config (PBT, a panda) has one line: its epochs after the
checkpoint take the place of those that it had reported of them, and numbers that were changed have lines of their own,
`config/PATH`.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal import events
from raytune_hpo.journal.events import Event, Step
from raytune_hpo.listeners.derived_file import DerivedFile, write_whole
from raytune_hpo.listeners.listener import Listener, RunView
from raytune_hpo.objective import numbers
from raytune_hpo.owned import inside, stays_inside
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config, flatten
from raytune_hpo.space.parameters import Choice
from raytune_hpo.states import Outcome

NEEDED = 'needs TensorBoard: pip install "raytune-hpo[tensorboard]"'
SCALARS, HPARAMS = "events.out.tfevents.1.scalars", "events.out.tfevents.0.hparams"  # read in the order of their names
MOST_WAITING_BYTES = 2**23  # written at the latest when so much has come


@dataclass
class _Trial:
    """began: seconds since 1970. changed: the paths in the config that a scheduler or a person has changed."""

    folder: Path
    config: Config
    began: float
    scalars: DerivedFile
    started: bool = False
    best: float | None = None
    changed: set[str] = field(default_factory=set)
    end: tuple[float, Outcome] | None = None


class TensorBoard(Listener):
    """folder: where the files go; None for RUN_DIR/listeners/NAME."""

    def __init__(self, folder: Path | None = None) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ExperimentError("listener", "tensorboard", NEEDED)
        self.name = "tensorboard"
        self._given = folder
        self._trials: dict[str, _Trial] = {}
        self._reported: set[str] = set()  # trials whose curves are to be written
        self._changed: set[str] = set()  # trials whose config, or end, is
        self._waiting_bytes = 0

    def begin(self, run: RunView) -> None:
        from raytune_hpo.listeners import tensorboard_records  # (tensorboard's import takes half a second)

        self._records = tensorboard_records
        self._experiment, self._objective = run.experiment, run.objective
        self._best = f"best/{self._objective.metric}"
        self._kinds = _kinds(SearchSpace.from_json(run.experiment["space"]))
        self._folder = inside(run.path, f"listeners/{self.name}") if self._given is None else self._given
        self._folder.mkdir(parents=True, exist_ok=True)
        if not stays_inside(self._folder):
            raise ExperimentError("run directory", str(self._folder), "holds a link that leads out of it")

    # Its position is always 0: the files are compared with all that they are to hold.

    def event(self, number: int, event: Event, step: Step) -> None:
        if isinstance(event, events.Suggested):
            if not self._trials:
                self._describe(step.at)
            folder = self._folder / event.trial
            trial = self._trials[event.trial] = _Trial(folder, event.config, step.at, DerivedFile(folder / SCALARS))
            trial.scalars.add(self._records.opening(step.at) + self._records.goes_on(step.at, 1))
            self._changed.add(event.trial)
        elif isinstance(event, events.Reported):
            self._report(self._trials[event.trial], event, step.at)
            self._reported.add(event.trial)
            if self._waiting_bytes > MOST_WAITING_BYTES:
                self._flush()
        elif isinstance(event, events.TrialEvent) and self._change(self._trials[event.trial], event, step.at):
            self._changed.add(event.trial)

    def _report(self, trial: _Trial, event: events.Reported, at: float) -> None:
        value = self._objective.of(event.metrics)
        if self._objective.better(value, trial.best):
            trial.best = value
        values = {f"config/{path}": v for path, v in self._flat(trial.config).items() if path in trial.changed}
        record = self._records.scalars(at, event.epoch, numbers({**values, self._best: trial.best, **event.metrics}))
        trial.scalars.add(record)
        self._waiting_bytes += len(record)

    def _change(self, trial: _Trial, event: events.TrialEvent, at: float) -> bool:
        """Whether it is one that the page of hyperparameters shows."""
        match event:
            case events.Started() if not trial.started:
                trial.started, trial.began = True, at
            case events.Narrowed():
                trial.config = event.config
            case events.Perturbed():
                before, now = self._flat(trial.config), self._flat(event.new_config)
                trial.changed |= {path for path, value in now.items() if value != before.get(path)}
                trial.config = event.new_config
                trial.scalars.add(self._records.goes_on(at, event.donor_epoch + 1))
            case events.Ended():
                trial.end = at, event.outcome
                trial.scalars.add(self._records.ended(at, well=event.outcome.eligible))  # for who has read the config
            case _:
                return False
        return True

    def _flush(self) -> None:
        for name in self._reported:
            self._trials[name].scalars.flush()
        self._reported.clear()
        self._waiting_bytes = 0

    def idle(self) -> None:
        self._reported |= self._changed
        self._flush()
        for name in self._changed:  # when all is told: no file goes back to what it was in an earlier session
            trial = self._trials[name]
            write_whole(trial.folder / HPARAMS, self._described(trial))
        self._changed.clear()

    def end(self) -> None:
        for trial in self._trials.values():
            trial.scalars.close()

    # The page of hyperparameters ----------------------------------------------------------------

    def _flat(self, config: Config) -> dict[str, Any]:
        return flatten(config, set(self._kinds))

    def _describe(self, at: float) -> None:
        """Which hyperparameters and metrics there are."""
        shown = {self._best: f"best {self._objective.metric}", self._objective.metric: self._objective.metric}
        record = self._records.experiment(at, self._experiment["name"], self._kinds, shown)
        write_whole(self._folder / HPARAMS, self._records.opening(at) + record)

    def _described(self, trial: _Trial) -> bytes:
        config = {path: _as(self._kinds.get(path, str), value) for path, value in self._flat(trial.config).items()}
        found = self._records.opening(trial.began) + self._records.started(trial.began, config)
        if trial.end is not None:
            at, outcome = trial.end
            found += self._records.ended(at, well=outcome.eligible)
        return found


def _kinds(space: SearchSpace) -> dict[str, type]:
    """Of the values of a config, by path: bool, float, and str for whatever else, and for what is mixed."""
    found = {path: _kind([value]) for path, value in space.constants.items()}
    for path, parameter in space.parameters.items():
        found[path] = _kind(parameter.values) if isinstance(parameter, Choice) else float
    return found


def _kind(values: Iterable[Any]) -> type:
    kinds = {bool if isinstance(v, bool) else float if isinstance(v, int | float) else str for v in values}
    return kinds.pop() if len(kinds) == 1 else str


def _as(kind: type, value: Any) -> bool | float | str:
    """A value as one of its kind; as a text where it is none."""
    if kind is bool and isinstance(value, bool):
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return value if isinstance(value, str) else json.dumps(value)
