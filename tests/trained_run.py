"""A run whose checkpoints real trainers wrote, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from run_by_hand import RunByHand

from raytune_hpo import Experiment
from raytune_hpo.journal.events import Closed, Suggested
from raytune_hpo.states import RunStatus
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.training.checkpoint import save_state
from raytune_hpo.training.folded import FoldedTrainer
from raytune_hpo.workers.data_news import data_news


def trained_run(path: Path, experiment: Experiment, configs: list[dict[str, Any]]) -> RunByHand:
    """One trial a config, of `experiment.max_epochs` epochs, each with a checkpoint."""
    run = RunByHand(path, experiment)
    recipe = experiment.resolved.recipe()
    loaded = recipe.load()
    run.add(*data_news(loaded, path))
    parts = recipe.data(loaded)
    for number, config in enumerate(configs):
        trial = f"t{number:05d}"
        trainers = [recipe.trainer(part, "cpu") for part in parts]
        trainer = trainers[0] if recipe.folds is None else FoldedTrainer(trainers)
        trainer.setup(config, recipe.trial_seed(trial))
        run.add(Suggested(trial=trial, config=config))
        for epoch in range(1, experiment.max_epochs + 1):
            metrics = trainer.train_epoch()
            scratch = run.store.scratch(trial)
            save_state(trainer.state_dict(), scratch / STATE_FILE)
            run.saved(run.store.commit(scratch, trial, 0, epoch))
            run.report(trial, epoch, metrics)
        run.end(trial, "completed")
    run.add(Closed(RunStatus.FINISHED))
    return run
