"""The files of an exported model: weights.safetensors, and model.pt2 or what stands in for it.

model.pt2                 `Task.preprocess` and `Task.predict` as a program; where torch.export cannot follow them:
statistics.safetensors    what `preprocess` is given
source/                   the project's code that the task is of
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import kept_code
from raytune_hpo.experiment.project import Code
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.journal.inputs import Inputs, Leaf, named_leaves, written
from raytune_hpo.results.program import write_program
from raytune_hpo.results.results import Results
from raytune_hpo.storage.statistics_file import read_statistics
from raytune_hpo.training.inputs import inputs_of_batches, inputs_of_split
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from torch import nn

    from raytune_hpo.training.answering import Answering

WEIGHTS, PROGRAM, STATISTICS, SOURCE = "weights.safetensors", "model.pt2", "statistics.safetensors", "source"
LOOKED_AT = 4  # batches of a split that is no arrays: axes that differ are of any size


@dataclass(frozen=True)
class Takes:
    """What a task's models take: inputs, of samples as the task's data hold them, and the training's statistics."""

    inputs: Inputs
    statistics: Mapping[str, Any]


def takes_of(results: Results, task: Task) -> Takes:
    """As recorded. Of runs of before that was recorded, and of samples that are made one by one, the data are loaded.

    Raises ExperimentError where these cannot be had.
    """
    recorded = results.ledger.data
    if recorded is not None and recorded.inputs is not None:
        name = recorded.statistics
        return Takes(recorded.inputs, {} if name is None else read_statistics(results.run_dir, name))
    if recorded is not None and recorded.shape and not task.has_own_batches and not task.has_own_preprocess:
        return Takes(Inputs("x", Leaf(recorded.shape, recorded.dtype)), {})
    splits = task.splits(int(results.experiment["seed"]))
    inputs = inputs_of_split(splits.train) or _of_samples(task, splits.validation)
    if inputs is None:
        raise ExperimentError(
            "task", type(task).__name__, "its batches hold what is no array: they cannot be described"
        )
    return Takes(inputs, splits.statistics)


def _of_samples(task: Task, split: Any) -> Inputs | None:
    from raytune_hpo.training.data import DatasetSplit, Stream, as_batch
    from raytune_hpo.training.random_states import preserved_random_states

    with preserved_random_states():
        if isinstance(split, DatasetSplit) and len(split):
            starts = range(0, min(2 * LOOKED_AT, len(split)), 2)
            made = (task.collate([split[i] for i in range(s, min(s + 2, len(split)))]) for s in starts)
            batches = [as_batch(batch) for batch in made]
            return inputs_of_batches(batches)
        if isinstance(split, Stream):
            batches = [
                as_batch(batch) for batch, _ in zip(split.make(0), range(min(LOOKED_AT, split.steps)), strict=False)
            ]
            return inputs_of_batches(batches) if batches else None
    return None


def write_model(
    task: Task, model: nn.Module, takes: Takes, target: Path, code: Code | None, headway: Headway = UNSEEN
) -> dict[str, Any]:
    """The files of a model on the CPU in eval mode. Answers what its document is to say of it.

    code: what the task is of, where that is a project's.
    """
    from safetensors.torch import save_file

    from raytune_hpo.training.answering import Answering

    # Copies: parameters that are shared (tied embeddings) are one in the model, and would be refused.
    save_file({k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}, target / WEIGHTS)
    (target / WEIGHTS).chmod(0o666 & ~_umask())  # the library makes a file of its owner's alone
    inputs = takes.inputs
    answering = Answering(task, model, inputs, takes.statistics).eval()
    headway.begin(f"{PROGRAM}: torch.export follows the model")
    why, unread = write_program(answering, target / PROGRAM)
    if unread:  # what of a batch is for training alone
        inputs = replace(inputs, given=tuple(n for n in inputs.needed() if n not in unread))
        answering = Answering(task, model, inputs, takes.statistics).eval()
        why, _ = write_program(answering, target / PROGRAM)
    if why is not None:
        inputs = _asked(answering)
        _write_stand_in(task, takes, target, code)
        print(f"raytune-hpo: no {PROGRAM}: {why}; load_model runs the task's own code", file=sys.stderr)
    return {"kind": task.kind, "inputs": written(inputs), "program": why is None}


def _write_stand_in(task: Task, takes: Takes, target: Path, code: Code | None) -> None:
    from safetensors.numpy import save_file

    if takes.statistics:
        save_file(dict(takes.statistics), target / STATISTICS)
    if code is not None and code.files and not type(task).__module__.startswith("raytune_hpo."):
        kept_code.write(code, target / SOURCE)


class _Watched(dict[Any, Any]):
    """A dict that knows which of its entries were asked for."""

    def __init__(self, entries: Mapping[Any, Any]) -> None:
        super().__init__(entries)
        self.asked: set[Any] = set()

    def __getitem__(self, key: Any) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def _asked(answering: Answering) -> Inputs:
    """The inputs with those that a prediction needs. Of a batch that is a dict: what `preprocess` and `predict` ask
    for; of a tuple: all but its last, where that need not be there; else all."""
    inputs = answering.inputs
    if inputs.of == "x" or inputs.given is not None:
        return inputs
    try:
        given = tuple(_needed(answering))
    except Exception:  # of an example that the model does not take
        return inputs
    return replace(inputs, given=given or None)


def _needed(answering: Answering) -> Iterable[str]:
    from raytune_hpo.training.batches import preprocessed
    from raytune_hpo.training.criterion import outputs_of
    from raytune_hpo.training.inputs import batch_of

    inputs, task, names = answering.inputs, answering.task, list(answering.inputs.all())
    batch = batch_of(inputs, dict(zip(names, answering.example(), strict=True)))
    if isinstance(batch, Mapping):
        first = _Watched(batch)
        made = preprocessed(task, first, answering.statistics)
        second = _Watched(made) if isinstance(made, Mapping) and not isinstance(made, _Watched) else made
        outputs_of(task, answering.model, second)
        asked = {str(key) for key in first.asked | getattr(second, "asked", set())}
        return [name for name in names if name.split(".")[0] in asked]
    if type(batch) in (tuple, list) and len(batch) > 1:
        without = type(batch)([*batch[:-1], None])
        outputs_of(task, answering.model, preprocessed(task, without, answering.statistics))
        return names[: len(names) - len(list(named_leaves(batch[-1])))]
    return names


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
