"""Ray Tune's class Trainable (setup, step, save_checkpoint, load_checkpoint) as a function trainable.

The object is Ray's own and is driven by its own train, save and restore, so that what they add to a result and how they
lay out a checkpoint is what it is under a Tuner.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.result import TRIAL_INFO

from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.space.configs import copied
from raytune_hpo.workers.reporting import (
    checkpoint_epoch,
    checkpoint_folder,
    get_checkpoint,
    on_save,
    report,
    trial_dir,
)

#: What Ray adds to a result of its own accord.
AUTOMATIC = (
    "config",
    "date",
    "hostname",
    "iterations_since_restore",
    "node_ip",
    "pid",
    "time_since_restore",
    "time_this_iter_s",
    "time_total_s",
    "timestamp",
    "training_iteration",
    "trial_id",
)


class _TrialInfo:
    """What Ray tells an object of its trial."""

    def __init__(self) -> None:
        context = tune.get_context()
        self.trial_id, self.trial_name = context.get_trial_id(), context.get_trial_name()
        self.trial_resources, self.experiment_name = context.get_trial_resources(), context.get_experiment_name()


def function_of(cls: Any, checkpoint_every: int) -> FunctionTrainable:
    """f(config) that reports every step, with a checkpoint every `checkpoint_every` steps where the class saves any,
    where a result asks for one ("should_checkpoint"), and where it says that it is done."""
    saves = cls.save_checkpoint is not tune.Trainable.save_checkpoint

    def train(config: dict[str, Any]) -> None:
        trainable = _made(cls, config)
        try:
            start = get_checkpoint()
            if start is not None:
                trainable.restore(tune.Checkpoint.from_directory(str(start)))
                trainable._iteration = checkpoint_epoch()
            if saves:
                on_save(lambda folder: _save(trainable, folder))
            done = False
            while not done:
                result = trainable.train()
                done = bool(result.get("done"))
                due = done or result.get("should_checkpoint") or trainable.iteration % checkpoint_every == 0
                metrics = {name: value for name, value in result.items() if name not in AUTOMATIC}
                if saves and due:
                    with checkpoint_folder() as folder:
                        _save(trainable, folder)
                        report(metrics, folder)
                else:
                    report(metrics)
        finally:
            trainable.stop()

    return train


def _made(cls: Any, config: dict[str, Any]) -> Any:
    """The object, with the trial's directory for its own: Ray would make one in the user's home."""
    trainable = cls.__new__(cls)
    trainable._setup_logdir = lambda: setattr(trainable, "_logdir", str(trial_dir()))
    trainable.__init__({**copied(config), TRIAL_INFO: _TrialInfo()})
    del trainable._setup_logdir
    return trainable


def _save(trainable: Any, folder: Path) -> None:
    trainable.save(str(folder))
