"""Runs of searcher "repeat" that real trainers wrote, in this process, as Ray's workers would have."""

from __future__ import annotations

from pathlib import Path

from run_by_hand import RunByHand

from raytune_hpo import Experiment
from raytune_hpo.journal.events import Closed, Suggested
from raytune_hpo.states import RunStatus
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.training.checkpoint import save_state
from raytune_hpo.training.folded import FoldedTrainer


def trained_repetitions(path: Path, experiment: Experiment, trials: int | None = None) -> RunByHand:
    """Every trial of `experiment` (or the first `trials`), with a checkpoint of its best epoch and of its last."""
    run = RunByHand(path, experiment)
    resolved = experiment.resolved
    search, recipe, objective = resolved.new_search(), resolved.recipe(), resolved.objective
    loaded = recipe.task.load(recipe.seed).for_trials()
    for number in range(resolved.num_samples if trials is None else trials):
        trial, repeat = f"t{number:05d}", search.plan().repeat
        config = search.suggest(trial)
        assert config is not None
        trainers = [recipe.trainer(part, "cpu") for part in recipe.data(loaded, repeat)]
        trainer = trainers[0] if recipe.folds is None else FoldedTrainer(trainers)
        trainer.setup(config, recipe.trial_seed(trial, repeat))
        run.add(Suggested(trial=trial, config=config, repeat=repeat))
        best: float | None = None
        for epoch in range(1, experiment.max_epochs + 1):
            metrics = trainer.train_epoch()
            value = objective.of(metrics)
            better = objective.better(value, best)
            if better or epoch == experiment.max_epochs:
                scratch = run.store.scratch(trial)
                save_state(trainer.state_dict(), scratch / STATE_FILE)
                run.saved(run.store.commit(scratch, trial, 0, epoch))
            best = value if better else best
            run.report(trial, epoch, metrics)
        run.end(trial, "completed")
    if trials is None:
        run.add(Closed(RunStatus.FINISHED))
    return run
