"""The winner and its test: the test split is opened once for it (`test_seal`), at the end of the run.

Trials never get the test split (`Splits.for_trials`); `load_test_split` is the only function that reads it.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.results.sealed_test import TEST_FILE, open_test, openings, recorded
from raytune_hpo.results.trial import TrialState
from raytune_hpo.storage.checkpoints import CheckpointStore, unpack
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.task import Task

__all__ = ["TEST_FILE", "WINNER", "evaluate_on_test", "load_test_split", "read_test", "record_test"]

WINNER = "winner"
"""The purpose under which a run opens the test split."""


def load_test_split(task: Task, seed: int) -> tuple[Any, Mapping[str, Any]]:
    """(The test split, the statistics of the training split). For use within `test_seal.open_test` alone."""
    splits = task.splits(seed)
    return splits.test, splits.statistics


def evaluate_on_test(task: Task, seed: int, config: dict[str, Any], packed: bytes) -> dict[str, float]:
    """Test metrics of a checkpoint. packed: as `CheckpointStore.packed` gives it."""
    from raytune_hpo.training.checkpoint import load_state
    from raytune_hpo.training.ensemble_model import model_of
    from raytune_hpo.training.evaluation import evaluate

    with tempfile.TemporaryDirectory() as folder:
        unpack(packed, Path(folder))
        model = model_of(task, task.resolved(config), load_state(folder))
    split, statistics = load_test_split(task, seed)
    found = evaluate(model, split, task, config=config, statistics=statistics)
    return {f"test_{name}": value for name, value in found.items()}


def record_test(
    directory: RunDirectory, experiment: ResolvedExperiment, winner: TrialState, call: Callable[..., dict[str, float]]
) -> None:
    """Evaluate the winner on the test split and seal the answer, unless that was done already.

    call(function, *arguments) runs the evaluation somewhere, in this process or another.
    """
    store = CheckpointStore(directory.path, 0)
    sound = [record for record in winner.checkpoints if store.intact(record)]
    record = dataclasses.replace(winner, checkpoints=sound).best_checkpoint(experiment.objective)
    if record is None:
        return
    subject = {"trial": winner.id, "checkpoint": record.path, "epoch": record.epoch}
    earlier = [o for o in openings(directory.path) if o.purpose == WINNER]
    if any(o.metrics is not None or o.subject != subject for o in earlier):
        # Also when a crash left an opening for a checkpoint that is damaged now: a run ends without a figure
        # rather than with a second look.
        return
    arguments = (experiment.task, experiment.seed, winner.best_config, store.packed(record))
    open_test(directory, WINNER, subject, lambda: call(evaluate_on_test, *arguments))


def read_test(run_path: Path) -> dict[str, Any] | None:
    """The winner's sealed figures: trial, checkpoint, epoch and metrics; None if the split was not opened for it."""
    opening = recorded(run_path, WINNER)
    if opening is None:
        return None
    if not {"trial", "checkpoint", "epoch"} <= opening.subject.keys():
        expected = "is damaged: a winner's opening names its trial, checkpoint and epoch"
        raise ExperimentError("run directory", str(run_path / TEST_FILE), expected)
    return {**opening.subject, "metrics": opening.metrics}
