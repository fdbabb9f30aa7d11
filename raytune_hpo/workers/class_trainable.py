"""Ray Tune's class Trainable (setup, step, save_checkpoint, load_checkpoint) as a function trainable.

The object is Ray's own and is driven by its own train, save and restore, so that what they add to a result and how they
lay out a checkpoint is what it is under a Tuner.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from ray import tune

from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.workers.reporting import checkpoint_folder, get_checkpoint, on_save, report

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


def function_of(cls: Any, checkpoint_every: int) -> FunctionTrainable:
    """f(config) that reports every step, with a checkpoint every `checkpoint_every` steps where the class saves any."""
    saves = cls.save_checkpoint is not tune.Trainable.save_checkpoint

    def train(config: dict[str, Any]) -> None:
        trainable = cls(copy.deepcopy(config))
        try:
            start = get_checkpoint()
            if start is not None:
                trainable.restore(tune.Checkpoint.from_directory(str(start)))
            if saves:
                on_save(lambda folder: _save(trainable, folder))
            step = 0
            while True:
                result = trainable.train()
                step += 1
                metrics = {name: value for name, value in result.items() if name not in AUTOMATIC}
                done = bool(metrics.pop("done", False))
                if saves and (done or step % checkpoint_every == 0):
                    with checkpoint_folder() as folder:
                        _save(trainable, folder)
                        report(metrics, folder)
                else:
                    report(metrics)
                if done:
                    return
        finally:
            trainable.stop()

    return train


def _save(trainable: Any, folder: Path) -> None:
    trainable.save(str(folder))
