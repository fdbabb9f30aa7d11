"""A lane: one trial's config, schedule, generators and epoch."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from raytune_hpo.errors import TrialError
from raytune_hpo.space.named import equal
from raytune_hpo.training.data_order import DataOrder, order_of
from raytune_hpo.training.drawing import training_key
from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS
from raytune_hpo.training.lanes.layers import LaneView, Tensor
from raytune_hpo.training.lanes.mixed.chain import Chain, chain_of
from raytune_hpo.training.lanes.program import OwnProgram
from raytune_hpo.training.lanes.reading import OwnValues, Reading
from raytune_hpo.training.lanes.refusals import NotFusableError
from raytune_hpo.training.lanes.rows import RowState, places_of, rows_of
from raytune_hpo.training.lanes.structure import Described, describe
from raytune_hpo.training.lanes.vmappable import refusal
from raytune_hpo.training.lr_schedules import LRSchedule
from raytune_hpo.training.parameter_groups import Group, groups_of
from raytune_hpo.training.random_states import get_random_states, preserved_random_states, seed_everything
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.task import Task


@dataclass(eq=False)
class Lane:
    """One trial in a fused trainer. parked: its rows while it is in no stack."""

    name: str
    config: dict[str, Any]
    described: Described
    shapes: dict[str, tuple[int, ...]]  # by tensor name
    schedule: LRSchedule
    order: DataOrder
    random: dict[str, Any]
    generator: torch.Generator  # of the device: what the augmentation draws from
    key: int  # of the counters that any other model draws from
    own: OwnValues  # of the config, that a task's own loss reads
    chain: Chain | None  # where it can be one of a mixed stack
    epoch: int = 0
    steps: int = 0  # of the optimizer
    parked: RowState | None = None
    gone: bool = False  # it has left; its row in a stack is not to be kept
    number: int = 0  # of the mixed stack that it is in, where there are several,
    share: float = 0.0  # and how much of one it takes
    counts: Tensor = field(default_factory=lambda: torch.empty(0))  # its row of these when a mixed stack let it in,
    counted: int = 0  # and the steps that it had taken

    def park(self, tensors: Mapping[str, Tensor], optimizer: Mapping[int, Any], device: torch.device) -> None:
        """Have these tensors, by name, and torch's state of the optimizer, by parameter, as rows of its own."""
        kept = kept_rows(self.config, self.described.structure.groups)
        self.parked = rows_of(self.described.structure, self.shapes, tensors, kept, optimizer, device)

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
        described = self.described
        return LaneView(described.variants, described.structure.counting)

    @functools.cached_property
    def group(self) -> tuple[Any, ...]:
        """Lanes of equal groups are trained in one stack."""
        if self.chain is not None:
            first, last = self.chain.blocks[0], self.chain.blocks[-1]
            return "mixed", self.number, first.convolution is not None, first.inputs, last.outputs
        config = self.config
        of_steps = (config["batch_size"], config["accumulate"], config["precision"], config["class_weight"])
        structure = self.described.structure
        return structure.key, structure.groups, of_steps, self.order.used, self.order.counted, self.own.fixed

    def finished(self, train_loss: float, lr: float, scores: dict[str, float]) -> dict[str, float]:
        """Its epoch has ended: the metrics, as the solo trainer gives them. scores: on the validation data."""
        self.epoch += 1
        self.steps += self.schedule.steps_per_epoch
        if not math.isfinite(train_loss):
            scores = dict.fromkeys(scores, math.nan)
            train_loss = math.nan
        self.schedule.end_epoch(scores.get("loss", math.nan))
        reported = {f"validation_{name}": value for name, value in scores.items()}
        return {"train_loss": train_loss, **reported, "lr": lr}

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
    reading: Reading,
    mixes: Callable[[Chain], bool],
    order_seed: int | None = None,
) -> Lane:
    """A lane at epoch 0, as `SupervisedTrainer.setup` starts the same config and seed; parked.

    samples: of the training split. reading: finds out what the model and the task's loss read. mixes: whether a
    mixed stack can train a chain on the data. order_seed: of an order
    that all trials share, None for its own. Raises ExperimentError for a bad config, TrialError for an impossible one,
    NotFusableError for one that lanes cannot train.
    """
    resolved = task.checked_config(config)
    if resolved["precision"] == "float16" and device.type == "cuda":
        raise NotFusableError("float16 scales its gradients step by step, for one model at a time")
    with preserved_random_states():
        seed_everything(seed)
        model = task.build_model(resolved)
        random = get_random_states()
        described, own = described_of(task, model, resolved, reading)
    tensors = model.state_dict()
    own_order = seed if order_seed is None else order_seed
    order = order_of(task, model, resolved["batch_size"], samples, resolved, own_order)
    generator = torch.Generator(device)
    generator.set_state(random["torch"] if device.type == "cpu" else random["cuda"][device.index or 0])
    lane = Lane(
        name,
        resolved,
        described,
        {n: tuple(t.shape) for n, t in tensors.items()},
        LRSchedule(resolved, max_epochs=max_epochs, steps_per_epoch=order.steps),
        order,
        random,
        generator,
        training_key(seed),
        own,
        _mixed_chain(model, resolved, device, mixes),
    )
    lane.park(tensors, {}, device)
    return lane


def _mixed_chain(
    model: nn.Module, config: Mapping[str, Any], device: torch.device, mixes: Callable[[Chain], bool]
) -> Chain | None:
    """The chain of a model that a mixed stack can train with a resolved config; None of any other."""
    chain = chain_of(model) if _mixes(config, device) else None
    return chain if chain is not None and mixes(chain) else None


def _mixes(config: Mapping[str, Any], device: torch.device) -> bool:
    whole = config["accumulate"] == 1 and config["class_weight"] == "none"
    return whole and (config["precision"] == "float32" or device.type == "cpu")


def described_of(
    task: Task, model: nn.Module, config: Mapping[str, Any], reading: Reading
) -> tuple[Described, OwnValues]:
    """Of a model as `build_model` made it for a resolved config."""
    first = reading.run_by(config)
    described = _described(task, model, config, reading, first)
    own = _own_values(described, model, config, reading)
    by = reading.run_by(config, own)
    if by != first:  # the loss reads more of the config than was thought: its runs are told apart by that, too
        described = _described(task, model, config, reading, by)
        own = _own_values(described, model, config, reading)
    return described, own


def _described(task: Task, model: nn.Module, config: Mapping[str, Any], reading: Reading, by: Hashable) -> Described:
    found = describe(model, lambda m: reading.run(m, config), whole=reading.whole, by=by)
    return replace(found, structure=replace(found.structure, groups=groups_of(task, model, config)))


def _own_values(described: Described, model: nn.Module, config: Mapping[str, Any], reading: Reading) -> OwnValues:
    return reading.own_values(
        described.structure, model, config, lambda names: takes_tensors(reading, described, config, names)
    )


def takes_tensors(reading: Reading, described: Described, config: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """Whether a task's own loss runs where the numbers of these names are tensors, as those of lanes are."""
    program = OwnProgram(described.structure, reading.criterion, unscored=False)
    return refusal(program, described, config, OwnValues(moving=names), reading.two) is None


def kept_rows(config: Mapping[str, Any], groups: Sequence[Group]) -> list[dict[str, str]]:
    """Of each group of parameters, row -> torch's name of the optimizer's state that it holds."""
    rule = RULES[config["optimizer"]]
    return [rule.kept_rows(momentum=group.config(config)["momentum"] > 0) for group in groups]


def changed_lane(
    name: str,
    donor: Lane,
    task: Task,
    config: Mapping[str, Any],
    *,
    samples: int,
    max_epochs: int,
    reading: Reading,
    mixes: Callable[[Chain], bool],
) -> Lane:
    """A lane that goes on from where `donor` is, with another config, as a solo trainer that loads its state does.

    The rows are the caller's to copy. Raises TrialError where the config needs another structure.
    """
    resolved = task.checked_config(config)
    described, own, order = donor.described, donor.own, copy.deepcopy(donor.order)
    chain = donor.chain
    changed = [k for k in resolved if not equal(resolved[k], donor.config[k])]
    if donor.described.structure.reads or reading.whole:  # its forward may read any of them
        rebuilt = bool(changed)
    else:
        rebuilt = any(k not in TRAINER_HYPERPARAMETERS or k in ("batch_size", "accumulate") for k in changed)
    if rebuilt:
        with preserved_random_states():
            model = task.build_model(resolved)
            described, own = described_of(task, model, resolved, reading)
            chain = _mixed_chain(model, resolved, donor.generator.device, mixes)
        order = order_of(task, model, resolved["batch_size"], samples, resolved, 0)
        order.load_state_dict(donor.order.state_dict())
    if _of_state(described) != _of_state(donor.described) or resolved["optimizer"] != donor.config["optimizer"]:
        raise TrialError("the donor's state does not fit this trial's config: it has another structure")
    schedule = LRSchedule(resolved, max_epochs=max_epochs, steps_per_epoch=order.steps)
    schedule.load_state_dict(donor.schedule.state_dict())
    generator = torch.Generator(donor.generator.device)
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
        donor.key,
        own,
        chain if _mixes(resolved, donor.generator.device) else None,
        donor.epoch,
        donor.steps,
    )


def _of_state(described: Described) -> tuple[Any, ...]:
    """What two models have in common whose states fit each other; their forwards may read other values."""
    structure = described.structure
    return structure.outline, structure.groups, places_of(structure)
