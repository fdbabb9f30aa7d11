"""Callbacks of Ray Tune's (its TensorBoard, CSV and JSON loggers, those of W&B and MLflow, ...) as listeners.

Each callback is called at least once for every event: its position is written down whenever it has caught up, so that
after a crash it is told the last few again.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raytune_hpo.atomic import write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal import events
from raytune_hpo.journal.events import Event, Step
from raytune_hpo.listeners.listener import Listener, RunView
from raytune_hpo.owned import inside, stays_inside
from raytune_hpo.space.configs import Config, copied
from raytune_hpo.states import Outcome
from raytune_hpo.storage.lane_files import split_path


@dataclass(frozen=True)
class CallbackCheckpoint:
    """The part of ray.tune's Checkpoint that callbacks read: a folder. path: absolute."""

    path: str

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        yield self.path

    def to_directory(self, path: str | None = None) -> str:
        if path is None:
            path = tempfile.mkdtemp()
        shutil.copytree(self.path, path, dirs_exist_ok=True)
        return path


@dataclass(eq=False)
class CallbackTrial:
    """The part of ray.tune's Trial that callbacks read. Hashable by identity, as theirs is."""

    trial_id: str
    config: Config
    local_path: str
    trainable_name: str
    status: str = "PENDING"
    last_result: dict[str, Any] = field(default_factory=dict)
    checkpoint: CallbackCheckpoint | None = None
    seconds: float = 0.0
    resumed: bool = False  # it was begun in an earlier session, and is to be begun for the callback again

    @property
    def evaluated_params(self) -> Config:
        return self.config

    @property
    def experiment_tag(self) -> str:
        return self.trial_id

    @property
    def path(self) -> str:
        return self.local_path

    @property
    def local_experiment_path(self) -> str:
        return str(Path(self.local_path).parent)

    @property
    def experiment_dir_name(self) -> str:
        return Path(self.local_path).parents[2].name  # the run's

    def get_ray_actor_ip(self) -> str:
        return "127.0.0.1"

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return f"{self.trainable_name}_{self.trial_id}"


class RayCallback(Listener):
    """callback: a ray.tune.Callback. Its files are written under RUN_DIR/listeners/NAME/TRIAL."""

    def __init__(self, callback: Any) -> None:
        self.callback = callback
        self.name = type(callback).__name__
        self._trials: dict[str, CallbackTrial] = {}
        self._all: list[CallbackTrial] = []  # the same, as callbacks want them
        self._seen = self._written = 0

    def begin(self, run: RunView) -> None:
        self._run = run
        self._folder = inside(run.path, f"listeners/{self.name}")
        self._folder.mkdir(parents=True, exist_ok=True)
        if not stays_inside(self._folder):  # callbacks append to files by their names
            raise ExperimentError("run directory", str(self._folder), "holds a link that leads out of it")

    def position(self) -> int:
        # Here, where the session has its Ray: callbacks may start actors.
        total = self._run.experiment["num_samples"]
        self.callback.setup(stop=None, num_samples=total, total_num_samples=total)
        with contextlib.suppress(OSError, ValueError):
            self._written = int((self._folder / "position").read_text())
        return self._written

    def seen(self, number: int, event: Event, step: Step) -> None:
        """Brings the trials up to date."""
        self._seen = number + 1
        call = self._call(event, step)
        if call is not None:
            call[1].resumed = True

    def event(self, number: int, event: Event, step: Step) -> None:
        self._seen = number + 1
        call = self._call(event, step)
        if call is None:
            return
        method, trial, more = call
        if trial.resumed and method != "on_trial_start":
            self.callback.on_trial_start(step.number, self._all, trial)
        trial.resumed = False
        getattr(self.callback, method)(step.number, self._all, trial, **more)

    def _call(self, event: Event, step: Step) -> tuple[str, CallbackTrial, dict[str, Any]] | None:
        if isinstance(event, events.Suggested):
            name = self._run.experiment["name"]
            folder = str(self._folder / event.trial)
            trial = self._trials[event.trial] = CallbackTrial(event.trial, copied(event.config), folder, name)
            self._all.append(trial)
            trial.init_local_path()  # as Ray's controller does; its JSON logger writes there at once
            return None
        if not isinstance(event, events.TrialEvent):
            return None
        trial = self._trials[event.trial]
        call: tuple[str, CallbackTrial, dict[str, Any]] | None = None
        match event:
            case events.Started():
                trial.status, call = "RUNNING", ("on_trial_start", trial, {})
            case events.Reported():
                trial.status = "RUNNING"
                trial.seconds += event.seconds
                trial.last_result = self._result(trial, event, step)
                call = "on_trial_result", trial, {"result": trial.last_result}
            case events.Perturbed() | events.Narrowed():
                trial.config = copied(event.new_config if isinstance(event, events.Perturbed) else event.config)
            case events.CheckpointSaved():
                saved = self._run.path / event.checkpoint.path
                # One of lanes is a part of a file: nothing that a callback could read.
                trial.checkpoint = (
                    CallbackCheckpoint(str(saved)) if split_path(event.checkpoint.path)[1] is None else None
                )
                call = "on_trial_save", trial, {}
            case events.Reopened():
                trial.status = "PENDING"
            case events.Ended() if trial.status != "PENDING":  # of one that was never begun nobody was told
                failed = event.outcome == Outcome.FAILED
                trial.status = "ERROR" if failed else "TERMINATED"
                call = ("on_trial_error" if failed else "on_trial_complete"), trial, {}
        return call

    def _result(self, trial: CallbackTrial, event: events.Reported, step: Step) -> dict[str, Any]:
        return {
            **event.metrics,
            "trial_id": trial.trial_id,
            "training_iteration": event.epoch,
            "time_this_iter_s": event.seconds,
            "time_total_s": trial.seconds,
            "timestamp": int(step.at),
            "hostname": socket.gethostname(),
            "config": trial.config,
            "done": False,
        }

    def idle(self) -> None:
        if self._seen != self._written:
            self._written = self._seen
            write_atomically(self._folder / "position", str(self._seen).encode())

    def end(self) -> None:
        self.callback.on_experiment_end(self._all)
