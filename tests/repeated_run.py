"""Runs of searcher "repeat" that real trainers wrote, in this process, as Ray's workers would have."""

from __future__ import annotations

from pathlib import Path

from results.run_by_hand import RunByHand

from raytune_hpo import Experiment
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.training.checkpoint import save_state
from raytune_hpo.training.folded import FoldedTrainer


def trained_repetitions(path: Path, experiment: Experiment, trials: int | None = None) -> RunByHand:
    """Every trial of `experiment` (or the first `trials`), with a checkpoint of its best epoch and of its last."""
    run = RunByHand(path, experiment)
    search, recipe = experiment.search(), experiment.recipe()
    metric, mode = experiment.objective
    loaded = recipe.task.load(recipe.seed).for_trials()
    for number in range(experiment.samples if trials is None else trials):
        trial, repeat = f"t{number:05d}", search.plan().repeat
        config = search.suggest(trial)
        assert config is not None
        trainers = [recipe.trainer(part, "cpu") for part in recipe.data(loaded, repeat)]
        trainer = trainers[0] if recipe.folds is None else FoldedTrainer(trainers)
        trainer.setup(config, recipe.trial_seed(trial, repeat))
        run.add("suggest", trial=trial, config=config, **({} if repeat is None else {"repeat": repeat}))
        best = None
        for epoch in range(1, experiment.max_epochs + 1):
            metrics = trainer.train_epoch()
            value = metrics[metric] if mode == "max" else -metrics[metric]
            if best is None or value > best or epoch == experiment.max_epochs:
                scratch = run.store.scratch(trial)
                save_state(trainer.state_dict(), scratch / STATE_FILE)
                run.add("checkpoint", **run.store.commit(scratch, trial, 0, epoch).to_json())
            best = value if best is None else max(best, value)
            fields = {"generation": 0, "epoch": epoch, "metrics": metrics, "seconds": 0.1, "decision": "continue"}
            run.add("result", trial=trial, **fields)
        run.end(trial, "completed")
    if trials is None:
        run.add("close", status="finished")
    return run
