"""The winner and its test: the test split is opened once, for the winner's checkpoint, and that is recorded.

Trials never get the test split (`Splits.for_trials`); `evaluate_on_test` is the only function that reads it.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment
from raytune_hpo.results.trial import TrialState
from raytune_hpo.storage.checkpoints import STATE_FILE, CheckpointStore
from raytune_hpo.storage.run_directory import RunDirectory, write_atomically
from raytune_hpo.training.task import Task

TEST_FILE = "test.json"


def evaluate_on_test(task: Task, seed: int, config: dict[str, Any], state_file: bytes) -> dict[str, float]:
    """Test metrics of a checkpoint. state_file: the bytes of its state.pt."""
    from raytune_hpo.training.checkpoint import load_state
    from raytune_hpo.training.evaluation import evaluate

    model = task.build_model(resolved(task, config))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / STATE_FILE
        path.write_bytes(state_file)
        model.load_state_dict(load_state(path)["model"])
    return {f"test_{name}": value for name, value in evaluate(model, task.load(seed).test, task.kind).items()}


def resolved(task: Task, config: dict[str, Any]) -> dict[str, Any]:
    """`config` with the task's and the trainer's defaults filled in."""
    from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, resolve

    return resolve(config, {**TRAINER_HYPERPARAMETERS, **task.model_hyperparameters()})


def record_test(
    directory: RunDirectory, experiment: Experiment, winner: TrialState, call: Callable[..., dict[str, float]]
) -> None:
    """Evaluate the winner on the test split, unless that was done already, and seal the answer.

    call(function, *arguments) runs the evaluation somewhere, in this process or another.
    """
    path = directory.path / TEST_FILE
    store = CheckpointStore(directory.path, 0)
    sound = [record for record in winner.checkpoints if store.intact(record)]
    record = dataclasses.replace(winner, checkpoints=sound).best_checkpoint(experiment.objective[1])
    if path.exists() or record is None:
        return
    state = (directory.path / record.path / STATE_FILE).read_bytes()
    metrics = call(evaluate_on_test, experiment.task, experiment.seed, winner.best_config, state)
    sealed = {"trial": winner.id, "checkpoint": record.path, "epoch": record.epoch, "metrics": metrics}
    write_atomically(path, (json.dumps(sealed, indent=2) + "\n").encode())


def read_test(run_path: Path) -> dict[str, Any] | None:
    """The sealed record, or None if the test split has not been opened."""
    path = run_path / TEST_FILE
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise ExperimentError("run directory", str(path), f"is damaged: {error}") from error
