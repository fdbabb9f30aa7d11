"""Export: a trial's model as files that plain PyTorch reads.

    weights.safetensors   the state dict
    model.pt2             what the task predicts of raw inputs, by torch.export; runs without this package
    config.json           the config, with the defaults filled in, the task that builds the model, and what it takes
    metrics.json          validation metrics at the checkpoint, test metrics if it is the winner

Where torch.export cannot follow a task, `exported_model` says what stands in for model.pt2. Of a function trainable,
whose checkpoints are its own, checkpoint/ is copied instead of the first two.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from raytune_hpo.atomic import write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.reopened import CodeChoice, Reopened, reopened
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.journal.events import CheckpointRecord, Reported
from raytune_hpo.results.exported_model import takes_of, write_model
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState, finite
from raytune_hpo.results.winner import read_test
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.task import Task


def export(
    results: Results,
    target: Path,
    trial_id: str | None = None,
    *,
    code: CodeChoice = "recorded",
    headway: Headway = UNSEEN,
) -> list[str]:
    """Write the winner, or `trial_id`, to the new or empty folder `target`. Answers the file names.

    The data are not needed: what the model takes is on record (of arrays; samples that are made one by one are looked
    at). code: as of `resume`.

    Raises ExperimentError for an unknown trial, one without a checkpoint, or a folder in use.
    """
    trial, record = _chosen(results, trial_id)
    check_target(target)
    if not CheckpointStore(results.run_dir, 0).intact(record):
        raise ExperimentError("checkpoint", str(results.run_dir / record.path), "is damaged")
    target = target.absolute()
    with reopened(RunDirectory.open(results.run_dir), code=code) as again:
        return _written(results, trial, record, again, target, headway)


def _written(
    results: Results, trial: TrialState, record: CheckpointRecord, again: Reopened, target: Path, headway: Headway
) -> list[str]:
    config, task = trial.best_config, again.say().resolved.task
    target.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"config": config, "task": results.experiment["task"]}
    if isinstance(task, Task):
        from raytune_hpo.training.checkpoint import load_state
        from raytune_hpo.training.ensemble_model import model_of

        headway.begin(f"reading {record.path}")
        document.update(task.recorded_config(config))
        state = load_state(results.run_dir / record.path)
        document["folds"] = len(state["folds"]) if "folds" in state else None
        model = model_of(task, task.resolved(config), state)
        headway.begin("what the model takes")
        takes = takes_of(results, task)
        document["predicts"] = write_model(task, model, takes, target, again.code, headway)
    else:
        headway.begin(f"copying {record.path}")
        shutil.copytree(results.run_dir / record.path, target / "checkpoint")
    document["versions"] = RunDirectory.open(results.run_dir).description()["versions"]
    write_json(target / "config.json", document)
    write_json(target / "metrics.json", _metrics(results, trial, record))
    return sorted(p.name for p in target.iterdir())


def _chosen(results: Results, trial_id: str | None) -> tuple[TrialState, CheckpointRecord]:
    if trial_id is None:
        winner = results.ledger.winner()
        if winner is None:
            raise ExperimentError("run directory", str(results.run_dir), "has no finished report to export yet")
        trial_id = winner.id
    trial = results.ledger.trials.get(trial_id)
    if trial is None:
        known = list(results.ledger.trials)
        there = f"there are {known[0]} to {known[-1]}" if known else "there are none yet"
        raise ExperimentError("--trial", trial_id, f"no such trial; {there}")
    record = results.kept(trial).best_checkpoint(results.objective)
    if record is None:
        raise ExperimentError(
            "--trial", trial_id, "has no checkpoint (checkpoint.keep_trials says how many finished trials keep theirs)"
        )
    return trial, record


def check_target(target: Path) -> None:
    """Raise ExperimentError unless `target` is a new or empty folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ExperimentError("--output", str(target), "exists already; choose a new or empty folder")


def _metrics(results: Results, trial: TrialState, record: CheckpointRecord) -> dict[str, Any]:
    at_checkpoint: dict[str, Any] = next(
        (
            e.metrics
            for e in reversed(list(results.of(Reported)))
            if (e.trial, e.epoch, e.generation) == (trial.id, record.epoch, record.generation)
        ),
        {},
    )
    sealed = read_test(results.run_dir)
    return {
        "trial_id": trial.id,
        "epoch": record.epoch,
        "validation": finite(at_checkpoint),
        "test": sealed["metrics"] if sealed is not None and sealed["checkpoint"] == record.path else None,
    }


def write_json(path: Path, document: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(document, indent=2) + "\n").encode())
