"""Train a trial's weights again from the journal alone, and compare: the lineage is the whole truth of them.

A trial's last weights came about in segments: from scratch or from a checkpoint, under one config, for some
epochs; PBT's exploits, a panda's care and a person's interventions each begin a new one (`results.lineage`).
`replay` trains them, without Ray. On a CPU with the same number of threads and the same
versions the weights come out the same to the bit; those of a lane where its layers are linear, else up to rounding,
which grows from epoch to epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.experiment.reopened import CodeChoice, reopened
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.journal.events import CheckpointRecord, ExecutorChanged, SessionOpened
from raytune_hpo.results.lineage import Segment, lineage, of_one_length
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from raytune_hpo.training.trainer import Trainer


@dataclass(frozen=True)
class Replayed:
    """segments: oldest first. differing: names of the state's tensors that are not the same to the bit;
    of_lane: whether they were trained as a lane among others."""

    trial: str
    checkpoint: Path
    segments: list[Segment]
    epochs: int
    differing: list[str]
    of_lane: bool


def replay(
    results: Results,
    trial_id: str | None = None,
    notice: Callable[[str], None] = print,
    *,
    code: CodeChoice = "recorded",
    headway: Headway = UNSEEN,
) -> Replayed:
    """Train a trial's newest checkpoint again (default: the winner's best) and compare the states.

    notice: told of each segment as it begins, headway of each epoch. code: as of `resume`. Raises ExperimentError for
    a function trainable, a trial of several processes, an unknown one, or one without an intact checkpoint.
    """
    with reopened(RunDirectory.open(results.run_dir), code=code) as again:
        return _replayed(again.say().resolved, results, trial_id, notice, headway)


def _replayed(
    experiment: ResolvedExperiment,
    results: Results,
    trial_id: str | None,
    notice: Callable[[str], None],
    headway: Headway,
) -> Replayed:
    if not isinstance(experiment.task, Task):
        raise ExperimentError("run directory", str(results.run_dir), "a function trainable cannot be replayed")
    if experiment.resources.ranks > 1:
        raise ExperimentError("resources.strategy", "ddp", "is a trial of several processes: replay trains in one")
    trial, record = _chosen(results, trial_id)
    from raytune_hpo.training.checkpoint import load_state

    segments = of_one_length(results, lineage(results, trial.id, record.generation, record.epoch))
    executors = [event.executor for event in results.of(SessionOpened)]
    executors += [event.executor for event in results.of(ExecutorChanged)]
    of_lane = any(executor.of_lanes for executor in executors)
    state = _trained(experiment, results, segments, of_lane, notice, headway)
    saved = load_state(results.run_dir / record.path)
    epochs = sum(s.last - s.first for s in segments)
    return Replayed(trial.id, results.run_dir / record.path, segments, epochs, differing(state, saved), of_lane)


def _chosen(results: Results, trial_id: str | None) -> tuple[TrialState, CheckpointRecord]:
    trial = results.ledger.winner() if trial_id is None else results.ledger.trials.get(trial_id)
    if trial is None:
        raise ExperimentError("--trial", trial_id, "no such trial, or none with a report yet")
    kept = results.kept(trial)
    record = kept.best_checkpoint(results.objective) if trial_id is None else kept.checkpoints[-1:] or None
    record = record[0] if isinstance(record, list) else record
    if record is None or not CheckpointStore(results.run_dir, 0).intact(record):
        raise ExperimentError("--trial", trial.id, "has no intact checkpoint to compare with")
    return trial, record


def _trained(
    experiment: ResolvedExperiment,
    results: Results,
    segments: list[Segment],
    of_lane: bool,
    notice: Callable[[str], None],
    headway: Headway,
) -> dict[str, Any]:
    import torch

    from raytune_hpo.training.folded import FoldedTrainer
    from raytune_hpo.training.lanes.one_lane import OneLane

    torch.set_num_threads(max(1, int(experiment.resources.cpus)))  # as in a worker
    recipe = experiment.recipe()
    task = recipe.task
    headway.begin("loading the data")
    loaded = recipe.load()
    headway.begin("epochs trained again", sum(segment.last - segment.first for segment in segments))
    device = "cuda" if experiment.resources.gpus else "cpu"
    state: dict[str, Any] | None = None
    for segment in segments:
        repeat = results.ledger.trials[segment.trial].repeat
        recipe = replace(recipe, max_epochs=segment.max_epochs or recipe.max_epochs)
        parts = recipe.data(loaded, repeat)
        if of_lane:
            trainer: Trainer = OneLane(task, parts[0], max_epochs=recipe.max_epochs, device=device)
        else:
            trainers = [recipe.trainer(part, device) for part in parts]
            trainer = trainers[0] if recipe.folds is None else FoldedTrainer(trainers)
        notice(f"{segment.trial}, epochs {segment.first + 1} to {segment.last}: {segment.why}")
        trainer.setup(segment.config, recipe.trial_seed(segment.trial, repeat))
        if state is not None:
            trainer.load_state_dict(state)
        while trainer.epoch < segment.last:
            trainer.train_epoch()
            headway.made()
        state = trainer.state_dict()
        trainer.close()
    assert state is not None
    return state


def differing(one: Any, other: Any, name: str = "state") -> list[str]:
    """The paths at which two states are not equal to the bit."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
        return [] if same else [name]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [path for key in one for path in differing(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [path for i, (a, b) in pairs for path in differing(a, b, f"{name}.{i}")]
    return [] if bool(one == other) else [name]
