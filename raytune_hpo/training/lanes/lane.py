"""A lane: one trial's config, schedule, generators and epoch.

P, B, C: weights, other floating-point tensors (running statistics, frozen weights) and integer counters of a structure,
each flattened and padded, in the structure's order.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.seeding import derive_seed
from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, check_keys, resolve
from raytune_hpo.training.lanes.layers import LaneView, Tensor
from raytune_hpo.training.lanes.structure import Described, Structure, describe
from raytune_hpo.training.lr_schedules import LRSchedule
from raytune_hpo.training.random_states import get_random_states, preserved_random_states, seed_everything
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.task import Task
from raytune_hpo.training.trainer import steps_of_epoch

ALIGNMENT = 16  # numbers, of 4 bytes each


class NotFusableError(TrialError):
    """A model or an option that lanes cannot train as it would train alone."""


#: What tensors of the model lie in; the optimizer's state lies in rows like the weights'.
ROWS = ("weights", "buffers", "counts")


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in the rows: in `weights`, `buffers` or `counts`, from `start` to `end`."""

    name: str
    row: str
    start: int
    end: int
    padded: tuple[int, ...]

    def of(self, rows: Tensor) -> Tensor:
        """The tensor in rows, [L, ...] -> [L, *padded]."""
        return rows[:, self.start : self.end].view(len(rows), *self.padded)

    def corner(self, row: Tensor, shape: Sequence[int]) -> Tensor:
        """A lane's own part of the tensor in its row, as a view of `shape`."""
        return self.of(row[None])[0][tuple(slice(0, n) for n in shape)]


def places_of(structure: Structure) -> tuple[Place, ...]:
    """Raises NotFusableError for a model of several floating-point types."""
    places: list[Place] = []
    used = dict.fromkeys(ROWS, 0)
    dtype = torch.get_default_dtype()
    for shape in structure.shapes:
        if shape.dtype not in (dtype, torch.int64):
            raise NotFusableError(f"{shape.name} is {shape.dtype}: lanes hold {dtype} and int64")
        row = "weights" if shape.trained else "buffers" if shape.dtype == dtype else "counts"
        start = used[row]
        end = start + math.prod(shape.padded)
        used[row] = aligned(end)
        places.append(Place(shape.name, row, start, end, shape.padded))
    return tuple(places)


def aligned(size: int) -> int:
    """Rounded up to whole cache lines. Every lane's tensors then lie alike in memory, so that a matrix product rounds
    alike whichever row of a stack a lane has, and whoever its neighbours are."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass
class RowState:
    """What a stack holds of one lane: weights, first and second [P], buffers [B], counts [C]."""

    weights: Tensor
    first: Tensor
    second: Tensor
    buffers: Tensor
    counts: Tensor

    def first_row(self) -> RowState:
        """Of rows of several lanes, the first lane's."""
        return RowState(*(t[0] for t in self.tensors()))

    def forget_all_but(self, kept: Collection[str]) -> None:
        """Zero the optimizer's rows that torch would not have: with a momentum of 0, a lane's row for it may hold a
        gradient."""
        for name in ("first", "second"):
            if name not in kept:
                getattr(self, name).zero_()

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.weights, self.first, self.second, self.buffers, self.counts


@dataclass(eq=False)
class Lane:
    """One trial in a fused trainer. parked: its rows while it is in no stack."""

    name: str
    config: dict[str, Any]
    described: Described
    shapes: dict[str, tuple[int, ...]]  # its own, unpadded, by tensor name
    schedule: LRSchedule
    order: torch.Generator
    random: dict[str, Any]
    generator: torch.Generator  # of the device: what the model and the augmentation draw from
    samples: int  # of an epoch
    epoch: int = 0
    steps: int = 0  # of the optimizer
    parked: RowState | None = None
    gone: bool = False  # it has left; its row in a stack is not to be kept

    @functools.cached_property
    def python_state(self) -> Tensor:
        """The state of Python's generator, which no epoch changes, as it is saved."""
        return torch.tensor(self.random["python"]["internal"])

    @functools.cached_property
    def order_in_stack(self) -> tuple[str, str]:
        """Equal activations, then equal optimizers, are to be neighbours."""
        kinds = [v for v in self.described.variants.values() if isinstance(v, tuple)]
        return repr(kinds), self.config["optimizer"]

    @functools.cached_property
    def view(self) -> LaneView:
        return LaneView(self.described.variants, self.generator, self.described.widths)

    @functools.cached_property
    def group(self) -> tuple[Any, ...]:
        """Lanes of equal groups are trained in one stack."""
        return self.described.structure.key, self.config["batch_size"], self.config["precision"], self.samples

    @contextlib.contextmanager
    def as_global_generator(self, device: torch.device) -> Iterator[None]:
        """Let whatever draws from torch's global generator draw from this lane's."""
        on_gpu = device.type == "cuda"
        outside = _global_state(device)
        outside_cpu = torch.get_rng_state()
        _set_global_state(device, self.generator.get_state())
        if on_gpu:  # where an augmentation may draw on the CPU all the same
            torch.set_rng_state(self.random["torch"])
        try:
            yield
        finally:
            self.generator.set_state(_global_state(device))
            _set_global_state(device, outside)
            if on_gpu:
                self.random = {**self.random, "torch": torch.get_rng_state()}
                torch.set_rng_state(outside_cpu)


def _global_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_global_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def make_lane(
    name: str,
    task: Task,
    config: Mapping[str, Any],
    seed: int,
    *,
    samples: int,
    max_epochs: int,
    device: torch.device,
    order_seed: int | None = None,
) -> Lane:
    """A lane at epoch 0, as `SupervisedTrainer.setup` starts the same config and seed; parked.

    samples: of the training split. order_seed: of an order that all trials share, None for its own. Raises
    ExperimentError for a bad config, TrialError for an impossible one, NotFusableError for one that lanes cannot train.
    """
    resolved = _resolved(task, config)
    if resolved["precision"] == "float16" and device.type == "cuda":
        raise NotFusableError("float16 scales its gradients step by step, for one model at a time")
    with preserved_random_states():
        seed_everything(seed)
        model = task.build_model(resolved)
        random = get_random_states()
    tensors = model.state_dict()
    if tensors.keys() != {n for n, _ in (*model.named_parameters(), *model.named_buffers())}:
        raise NotFusableError("the model shares weights between layers, or keeps tensors out of its state")
    used, steps = steps_of_epoch(model, samples, resolved["batch_size"])
    generator = torch.Generator(device)
    generator.set_state(random["torch"] if device.type == "cpu" else random["cuda"][device.index or 0])
    lane = Lane(
        name,
        resolved,
        describe(model),
        {n: tuple(t.shape) for n, t in tensors.items()},
        LRSchedule(resolved, max_epochs=max_epochs, steps_per_epoch=steps),
        torch.Generator().manual_seed(derive_seed(seed if order_seed is None else order_seed, "data order")),
        random,
        generator,
        used,
    )
    lane.parked = rows_of(lane, tensors, {}, device)
    return lane


def _resolved(task: Task, config: Mapping[str, Any]) -> dict[str, Any]:
    known = {**TRAINER_HYPERPARAMETERS, **task.model_hyperparameters()}
    check_keys(config, known)
    return resolve(config, known)


def changed_lane(
    name: str, donor: Lane, task: Task, config: Mapping[str, Any], *, samples: int, max_epochs: int
) -> Lane:
    """A lane that goes on from where `donor` is, with another config, as a solo trainer that loads its state does.

    The rows are the caller's to copy. Raises TrialError where the config needs another structure.
    """
    resolved = _resolved(task, config)
    described, used, steps = donor.described, donor.samples, donor.schedule.steps_per_epoch
    if any(resolved[k] != donor.config[k] for k in resolved if k not in TRAINER_HYPERPARAMETERS or k == "batch_size"):
        with preserved_random_states():
            model = task.build_model(resolved)
        described = describe(model)
        used, steps = steps_of_epoch(model, samples, resolved["batch_size"])
    one, other = described, donor.described
    if (one.structure.key, one.widths) != (other.structure.key, other.widths) or resolved["optimizer"] != donor.config[
        "optimizer"
    ]:
        raise TrialError("the donor's state does not fit this trial's config: it has another structure")
    schedule = LRSchedule(resolved, max_epochs=max_epochs, steps_per_epoch=steps)
    schedule.load_state_dict(donor.schedule.state_dict())
    order, generator = torch.Generator(), torch.Generator(donor.generator.device)
    order.set_state(donor.order.get_state())
    generator.set_state(donor.generator.get_state())
    return Lane(
        name,
        resolved,
        described,
        donor.shapes,
        schedule,
        order,
        donor.random,
        generator,
        used,
        donor.epoch,
        donor.steps,
    )


def rows_of(lane: Lane, tensors: Mapping[str, Tensor], optimizer: Mapping[int, Any], device: torch.device) -> RowState:
    """Tensors by name, and torch's state of the lane's optimizer by parameter, as padded rows on the device."""
    places = places_of(lane.described.structure)
    size = {row: aligned(max((p.end for p in places if p.row == row), default=0)) for row in ROWS}
    dtype = torch.get_default_dtype()
    weights, first, second = (torch.zeros(size["weights"], dtype=dtype) for _ in range(3))
    buffers, counts = torch.zeros(size["buffers"], dtype=dtype), torch.zeros(size["counts"], dtype=torch.int64)
    rows = RowState(weights, first, second, buffers, counts)
    kept = RULES[lane.config["optimizer"]].kept_rows(momentum=lane.config["momentum"] > 0)
    for number, place in enumerate(places):
        shape = lane.shapes[place.name]
        place.corner(getattr(rows, place.row), shape).copy_(tensors[place.name].detach())
        if place.row == "weights":
            for row, name in kept.items():
                value = optimizer.get(number, {}).get(name)
                if value is not None:
                    place.corner(getattr(rows, row), shape).copy_(value)
    return RowState(*(t.to(device) for t in rows.tensors()))
