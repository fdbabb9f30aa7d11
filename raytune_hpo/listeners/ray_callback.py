"""Callbacks of Ray Tune's (its TensorBoard, CSV and JSON loggers, those of W&B and MLflow, ...) as listeners.

Each callback is called at least once for every event: its position is written down whenever it has caught up, so that
after a crash it is told the last few again.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raytune_hpo.atomic import write_atomically
from raytune_hpo.journal import events
from raytune_hpo.journal.events import Event, Step
from raytune_hpo.listeners.listener import Listener, RunView
from raytune_hpo.space.configs import Config
from raytune_hpo.states import Outcome


@dataclass(eq=False)
class CallbackTrial:
    """The part of ray.tune's Trial that callbacks read. Hashable by identity, as theirs is."""

    trial_id: str
    config: Config
    local_path: str
    trainable_name: str
    status: str = "PENDING"
    last_result: dict[str, Any] = field(default_factory=dict)
    checkpoint: Any = None
    seconds: float = 0.0

    @property
    def evaluated_params(self) -> Config:
        return self.config

    @property
    def experiment_tag(self) -> str:
        return self.trial_id

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return f"{self.trainable_name}_{self.trial_id}"


class RayCallback(Listener):
    """callback: a ray.tune.Callback. Its files are written under RUN_DIR/listeners/CLASS/TRIAL."""

    def __init__(self, callback: Any) -> None:
        self.callback = callback
        self.name = type(callback).__name__
        self._trials: dict[str, CallbackTrial] = {}
        self._seen = self._from = 0

    def begin(self, run: RunView) -> None:
        self._run = run
        self._folder = run.path / "listeners" / self.name
        self._folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError, ValueError):
            self._from = int((self._folder / "position").read_text())
        self.callback.setup(stop=None, num_samples=run.experiment["num_samples"])

    def event(self, number: int, event: Event, step: Step) -> None:
        """Events that the callback has been told before only bring the trials up to date."""
        self._seen = number + 1
        call = self._call(event, step)
        if call is not None and number >= self._from:
            method, trial, more = call
            getattr(self.callback, method)(step.number, list(self._trials.values()), trial, **more)

    def _call(self, event: Event, step: Step) -> tuple[str, CallbackTrial, dict[str, Any]] | None:
        if isinstance(event, events.Suggested):
            name = self._run.experiment["name"]
            folder = str(self._folder / event.trial)
            trial = self._trials[event.trial] = CallbackTrial(event.trial, event.config, folder, name)
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
                trial.seconds += event.seconds
                trial.last_result = self._result(trial, event, step)
                call = "on_trial_result", trial, {"result": trial.last_result}
            case events.Perturbed():
                trial.config = event.new_config
            case events.CheckpointSaved():
                call = "on_trial_save", trial, {}
            case events.Ended():
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
        if self._seen > self._from:
            self._from = self._seen
            write_atomically(self._folder / "position", str(self._seen).encode())

    def end(self) -> None:
        self.callback.on_experiment_end(list(self._trials.values()))
