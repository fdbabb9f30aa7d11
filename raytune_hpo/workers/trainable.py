"""The trainable function of a task: config in, reports out, round a plain PyTorch trainer.

`task_trainable` makes a function trainable, which our executors run like any function of the user's; it runs under
plain `ray.tune.Tuner` as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.workers.reporting import (
    checkpoint_folder,
    get_checkpoint,
    on_save,
    repeat_number,
    report,
    trial_id,
    wants_range_test,
)

if TYPE_CHECKING:
    from raytune_hpo.training.trainer import Trainer


def task_trainable(
    recipe: Recipe, data: Callable[[], TrialData], *, checkpoint_every: int, gpu: bool, folds_at_once: int = 1
) -> FunctionTrainable:
    """A function trainable of a task.

    data: gives the training and validation data, called once a trial. Reports every epoch, with a checkpoint
    every `checkpoint_every` epochs and at the last. folds_at_once: of a cross-validation without a GPU; they then run
    side by side, each in a process of Ray's.
    """

    # Here and not in `train`: a worker pays for the imports once, before its first trial's clock runs.
    import torch.distributed

    import raytune_hpo.training.trainer  # noqa: F401
    from raytune_hpo.training.checkpoint import load_state, save_state
    from raytune_hpo.training.folded import FoldedTrainer

    device = "cuda" if gpu else "cpu"
    side_by_side = min(recipe.folds or 1, folds_at_once) if not gpu and recipe.ranks == 1 else 1
    processes: list[Any] = []  # kept from trial to trial; they end with this worker

    def trainer_of(repeat: int | None) -> Trainer:
        parts = recipe.data(data(), repeat)
        if recipe.folds is None:
            return recipe.trainer(parts[0], device)
        if side_by_side == 1:
            return FoldedTrainer([recipe.trainer(part, device) for part in parts])
        from raytune_hpo.workers.fold_process import RemoteTrainer, start_processes

        processes.extend(start_processes(recipe, side_by_side) if not processes else ())
        remote = [RemoteTrainer(processes[i % side_by_side], i, part) for i, part in enumerate(parts)]
        return FoldedTrainer(remote, side_by_side=True)

    def train(config: dict[str, Any]) -> None:
        repeat = repeat_number()
        seed = recipe.trial_seed(trial_id(), repeat)
        if wants_range_test():
            from raytune_hpo.probes.lr_range import lr_range_test

            found = lr_range_test(recipe.task, recipe.data(data(), repeat)[0], config, seed, device=device)
            report({"low": found.low, "high": found.high})
            return
        trainer = trainer_of(repeat)
        trainer.setup(config, seed)
        start = get_checkpoint()
        if start is not None:
            trainer.load_state_dict(load_state(start, map_location=device))
        keeps = recipe.ranks == 1 or torch.distributed.get_rank() == 0
        on_save(lambda folder: save_state(trainer.state_dict(), folder / STATE_FILE))
        try:
            while trainer.epoch < recipe.max_epochs:
                metrics = trainer.train_epoch()
                due = trainer.epoch % checkpoint_every == 0 or trainer.epoch == recipe.max_epochs
                if not (due and keeps):
                    report(metrics)
                    continue
                with checkpoint_folder() as folder:
                    save_state(trainer.state_dict(), folder / STATE_FILE)
                    report(metrics, folder)
        finally:
            trainer.close()

    return train
