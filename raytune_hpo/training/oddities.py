"""What of a task trains, and is likely not meant: models and data that do not come out the same again, options unread.

Remarks for people, a line each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.batches import source
from raytune_hpo.training.data import ArraySplit, TrialData
from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS
from raytune_hpo.training.random_states import preserved_random_states, seed_everything
from raytune_hpo.training.task import Task
from raytune_hpo.training.trees import leaves

#: Data up to this size are loaded once more, models that took less are built once more.
AGAIN_BYTES, AGAIN_S = 16 << 20, 1.0
FEW = 4  # samples


class Reads(dict[str, Any]):
    """A config that notes in `read` which of its hyperparameters are looked up; of what goes through it, all."""

    def __init__(self, config: Mapping[str, Any], read: set[str]) -> None:
        super().__init__(config)
        self._read = read

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._read.add(name)
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        self._read.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self._read.update(super().keys())
        return super().keys()

    def items(self) -> Any:
        self._read.update(super().keys())
        return super().items()

    def values(self) -> Any:
        self._read.update(super().keys())
        return super().values()

    def __reduce__(self) -> Any:  # of a model that keeps its config
        self._read.update(super().keys())
        return dict, (dict(super().items()),)


def unread(task: Task, configs: Sequence[Mapping[str, Any]], read: set[str]) -> Iterator[str]:
    """configs: as the space gives them, with what is searched. read: hyperparameters that the task has looked up."""
    given = {name for config in configs for name in config}
    left = sorted((given & task.model_hyperparameters().keys()) - read - TRAINER_HYPERPARAMETERS.keys())
    if left:
        is_read = "is read by none of its methods" if len(left) == 1 else "are read by none of its methods"
        yield f"{', '.join(left)} {is_read}: trials that differ in that alone are the same"


def measured_otherwise(task: Task, configs: Sequence[Mapping[str, Any]], measured: set[str]) -> Iterator[str]:
    """Of an experiment whose metric is the task's own loss. measured: hyperparameters which that reads in eval mode."""
    own = measured & task.model_hyperparameters().keys()
    searched = sorted(n for n in own if any(config.get(n) != configs[0].get(n) for config in configs[1:]))
    if searched:
        yield (
            f"{type(task).__name__}.loss reads {', '.join(searched)} where it is measured, too: validation_loss is "
            "another measure in each trial; let metric= be one of metrics(), or read it if model.training alone"
        )


def are_probabilities(outputs: Any, kind: str) -> bool:
    """Whether outputs [N, C, ...] are what a softmax or a sigmoid answers, where logits are wanted."""
    if (
        not isinstance(outputs, torch.Tensor)
        or outputs.numel() < 2 * FEW
        or kind not in ("classification", "multilabel")
    ):
        return False
    if not bool(((outputs >= 0) & (outputs <= 1)).all()):
        return False
    sums = outputs.sum(1)
    return kind == "multilabel" or (outputs.shape[1] > 1 and torch.allclose(sums, torch.ones_like(sums), atol=1e-3))


def of_models(task: Task, config: Mapping[str, Any], seed: int) -> Iterator[str]:
    """Of `build_model`, called twice with the same seed where it is quick."""
    name = f"{type(task).__name__}.build_model"
    states, drawn = [], False
    with preserved_random_states():
        for _ in range(2):
            seed_everything(seed)
            before = _numpy_state()
            began = time.perf_counter()
            states.append(task.build_model(task.resolved(config)).state_dict())
            drawn |= before != _numpy_state()
            if time.perf_counter() - began > AGAIN_S:
                break
    if drawn:
        yield f"{name} draws from NumPy's global generator: torch's is to be its only randomness"
    if not _equal(list(states[0].values()), list(states[-1].values())):
        yield f"{name} answers another model for the same seed: it may draw from torch's global generator alone"


def _numpy_state() -> bytes:
    state: Any = np.random.get_state(legacy=True)
    return bytes(state[1].tobytes()) + bytes(str(state[2:]), "ascii")


def of_loading(task: Task, data: TrialData, seed: int) -> Iterator[str]:
    """Of `load`, called once more, where the data are small arrays."""
    splits = (data.train, data.validation)
    if not all(isinstance(split, ArraySplit) and not split.lies_in_files for split in splits):
        return
    held = [leaf for split in splits for leaf in leaves(split.tree)]
    if sum(leaf.nbytes for leaf in held) > AGAIN_BYTES:
        return
    again = task.splits(seed)
    found = [leaf for split in (again.train, again.validation) for leaf in leaves(split.tree)]
    if not _equal([torch.from_numpy(x.copy()) for x in held], [torch.from_numpy(x.copy()) for x in found]):
        name = type(task).__name__
        generators = "np.random.default_rng(seed) or torch.Generator().manual_seed(seed), which random_split takes"
        yield f"{name}.load answers other data for the same seed: draw from {generators}"


def of_preprocessing(task: Task, data: TrialData) -> Iterator[str]:
    """Whether each sample is preprocessed by itself."""
    split = data.train
    if type(task).preprocess is Task.preprocess or not isinstance(split, ArraySplit):
        return
    sizes = (min(FEW, len(split)), 1)
    few = [next(iter(source(task, split.first(n), data.statistics, "cpu").in_order())) for n in sizes]
    many, one = ([leaf[:1].double() for leaf in leaves(batch)] for batch in few)
    if not all(
        a.shape == b.shape and torch.allclose(a, b, 1e-4, 1e-6, equal_nan=True) for a, b in zip(many, one, strict=True)
    ):
        yield (
            f"{type(task).__name__}.preprocess makes another sample of the same one in another batch: what it "
            "computes of all samples belongs into Splits.statistics"
        )


def _equal(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether tensors are the same, NaN too."""

    pairs = zip(one, other, strict=True) if len(one) == len(other) else ()
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in pairs
    )
