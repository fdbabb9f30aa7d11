"""The trainable function of a task: config in, reports out, round a plain PyTorch trainer.

`task_trainable` makes a Ray Tune function trainable, which our executor runs like any function of the
user's; it runs under plain `ray.tune.Tuner` as well.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray import tune

from raytune_hpo.execution.function_session import checkpoint_folder, on_save
from raytune_hpo.reference import FunctionTrainable
from raytune_hpo.seeding import derive_seed
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.training.task import Task, TrialData


def task_trainable(
    task: Task,
    data: Callable[[], TrialData],
    *,
    max_epochs: int,
    seed: int,
    checkpoint_every: int,
    gpu: bool,
) -> FunctionTrainable:
    """A function trainable of `task`.

    data: gives the training and validation data, called once a trial. seed: the experiment's; a trial's
    own follows from it and the trial's id. Reports every epoch, with a checkpoint every
    `checkpoint_every` epochs and at the last.
    """

    # Here and not in `train`: a worker pays for the imports once, before its first trial's clock runs.
    import torch._dynamo  # noqa: F401  (torch imports it at the first optimizer step: 4 s of CPU)

    from raytune_hpo.training.checkpoint import load_state, save_state
    from raytune_hpo.training.trainer import SupervisedTrainer

    def train(config: dict[str, Any]) -> None:
        device = "cuda" if gpu else "cpu"
        trainer = SupervisedTrainer(task, data(), max_epochs=max_epochs, device=device)
        trainer.setup(config, derive_seed(seed, "trial", tune.get_context().get_trial_id()))
        start = tune.get_checkpoint()
        if start is not None:
            with start.as_directory() as folder:
                trainer.load_state_dict(load_state(Path(folder) / STATE_FILE, map_location=device))
        on_save(lambda folder: save_state(trainer.state_dict(), folder / STATE_FILE))
        while trainer.epoch < max_epochs:
            metrics = trainer.train_epoch()
            if trainer.epoch % checkpoint_every and trainer.epoch < max_epochs:
                tune.report(metrics)
                continue
            with _folder() as folder:
                save_state(trainer.state_dict(), folder / STATE_FILE)
                tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(str(folder)))

    return train


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    ours = checkpoint_folder()
    if ours is not None:
        yield ours
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
