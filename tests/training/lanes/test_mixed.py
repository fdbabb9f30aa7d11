"""A mixed stack: chains of every shape, side by side, whoever comes and goes in mid-epoch of the others."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from lane_device import DEVICE, on_a_cpu
from lane_tasks import part
from test_equality import Config, compared, difference, fused, solo

from raytune_hpo import TrialError
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.training.hyperparameters import ACTIVATIONS, OPTIMIZERS
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.lanes.mixed.buffers import Views
from raytune_hpo.training.lanes.mixed.chain import Block, Chain
from raytune_hpo.training.lanes.mixed.layout import Padded
from raytune_hpo.training.lanes.mixed.template import Template

#: As on a CPU, but that images of any number of lanes are one program.
TOGETHER = Template(elements=1 << 30)


def some_config(rng: random.Random) -> Config:
    """Of anything that a chain may be."""
    return {
        "optimizer": rng.choice(OPTIMIZERS),
        "lr": 10 ** rng.uniform(-3, -2),
        "momentum": rng.choice([0.0, 0.8]),
        "nesterov": rng.random() < 0.3,
        "batch_size": rng.choice([7, 16, 29, 64, 101]),
        "hidden_layers": rng.randrange(4),
        "hidden_units": rng.choice([3, 16, 20, 40]),
        "shape": rng.choice(["equal", "funnel"]),
        "dropout": rng.choice([0.0, 0.3]),
        "batch_norm": rng.random() < 0.5,
        "activation": rng.choice(ACTIVATIONS),
        "weight_decay": rng.choice([0.0, 0.01]),
        "label_smoothing": rng.choice([0.0, 0.1]),
        "clip_norm": rng.choice([0.0, 0.5]),
        "lr_schedule": rng.choice(["constant", "cosine", "plateau"]),
        "eps": 1e-3,
    }


def some_images(rng: random.Random) -> Config:
    """Of a CNN, with linear layers behind its convolutions or without."""
    shared = {
        name: value for name, value in some_config(rng).items() if not name.startswith("hidden") and name != "shape"
    }
    return shared | {
        "filters": rng.choice([2, 3, 4, 16]),
        "conv_layers": rng.randint(1, 3),
        "kernel_size": rng.choice([1, 2, 3, 5]),
        "stride": rng.choice([1, 1, 2]),
        "groups": rng.choice([1, 1, 2]),
        "pool": rng.choice(["none", "2", "3 by 1"]),
        "hidden": rng.choice([0, 0, 12, 40]),
        "eps": 0.1,  # a bias before a batch norm has a gradient of rounding errors alone, which these are divided by
    }


@pytest.mark.parametrize(
    ("task", "some", "template", "seed"),
    [
        *(("digits", some_config, None, seed) for seed in range(3)),
        *(("kernels", some_images, TOGETHER, seed) for seed in range(3)),
        ("kernels", some_images, Template.of("cuda"), 3),
    ],
)
def test_lanes_come_and_go_in_mid_epoch_of_others(
    float64: None, task: str, some: Callable[[random.Random], Config], template: Template | None, seed: int
) -> None:
    rng = random.Random(seed)
    together = fused(task, template=template)
    alone: dict[str, Any] = {}
    entered = 0
    for _ in range(25):
        while len(alone) < 6:
            name, config = str(entered), some(rng)
            together.enter(name, config, entered)
            alone[name] = solo(task, config, entered)
            entered += 1
        chosen = rng.sample(sorted(alone), rng.randint(1, 6))
        for name, metrics in together.advance(chosen).items():
            expected = alone[name].train_epoch()
            assert difference(metrics, expected) < 1e-10, alone[name].config
            assert difference(compared(together.state_dict(name)), compared(alone[name].state_dict())) < 1e-10
            if rng.random() < 0.3:
                together.leave(name)
                del alone[name]
            elif rng.random() < 0.2:  # out, and in again
                state = together.state_dict(name)
                together.leave(name)
                together.enter(name, alone[name].config, 0, state)
    assert not together._stacks, "all of it is one program"
    assert entered > 9


def test_a_lane_that_leaves_in_mid_epoch_changes_no_other(float64: None) -> None:
    together = fused("digits")
    together.enter("slow", {"optimizer": "adam", "lr": 1e-3, "batch_size": 4, "hidden_layers": 2}, 0)
    together.enter("quick", {"optimizer": "sgd", "lr": 0.05, "batch_size": 101}, 1)
    assert together.advance(["slow", "quick"]).keys() == {"quick"}
    assert together.in_mid_epoch("slow")
    assert not together.in_mid_epoch("quick")
    assert 0 < together.progress_of("slow") < 1
    together.leave("slow")
    alone = solo("digits", {"optimizer": "sgd", "lr": 0.05, "batch_size": 101}, 1)
    alone.train_epoch()
    assert difference(together.advance(["quick"])["quick"], alone.train_epoch()) < 1e-10


@on_a_cpu
@pytest.mark.parametrize(
    ("task", "some", "config"),
    [
        ("digits", some_config, {"hidden_units": 20, "hidden_layers": 2}),
        ("kernels", some_images, {"filters": 3, "conv_layers": 2, "kernel_size": 3}),
        ("kernels", some_images, {"filters": 4, "conv_layers": 1, "hidden": 12, "pool": "none"}),
    ],
)
def test_its_numbers_do_not_depend_on_its_neighbours_to_the_bit(
    task: str, some: Callable[[random.Random], Config], config: Config
) -> None:
    """In single precision, on a CPU."""
    rng = random.Random(5)
    config = config | {"optimizer": "adam", "lr": 1e-3, "batch_size": 29, "dropout": 0.2, "batch_norm": True}
    config |= {"activation": "tanh"}

    def trained(neighbours: int) -> Any:
        together = fused(task, template=TOGETHER)
        for i in range(neighbours):
            together.enter(f"n{i}", some(rng), i)
        together.enter("x", config, 3)
        for _ in range(2):
            together.train_epoch()
        return together.state_dict("x")

    states = [trained(neighbours) for neighbours in (0, 1, 7, 20)]
    for state in states[1:]:
        assert difference(state, states[0]) == 0.0


def test_a_rules_numbers_stand_still_with_their_lane(float64: None) -> None:
    together = fused("digits")
    for i, name in enumerate(OPTIMIZERS):
        together.enter(
            name, {"optimizer": name, "lr": 1e-3, "momentum": 0.9, "weight_decay": 0.1, "batch_size": 101}, i
        )
    together.enter("slow", {"optimizer": "sgd", "lr": 1e-3, "batch_size": 8}, 9)
    ended = together.advance([*OPTIMIZERS, "slow"])
    assert ended.keys() == set(OPTIMIZERS)
    before = {name: together.state_dict(name) for name in OPTIMIZERS}
    together.advance(["slow"])
    for name in OPTIMIZERS:
        assert difference(together.state_dict(name), before[name]) == 0.0


def test_what_a_mixed_stack_cannot_train_is_trained_in_a_stack() -> None:
    together: FusedTrainer = fused("digits")
    together.enter("mixed", {}, 0)
    together.enter("accumulated", {"accumulate": 2}, 1)
    assert together.group("mixed") != together.group("accumulated")
    assert together.train_epoch().keys() == {"mixed", "accumulated"}


def test_a_state_of_before_masks_came_from_counters(float64: None) -> None:
    """Alone it goes on as it began; lanes say why they do not."""
    config: Config = {"optimizer": "sgd", "lr": 0.05, "dropout": 0.3}
    old = solo("digits", config, 0)
    old._dropouts = []
    old.train_epoch()
    state = {key: value for key, value in old.state_dict().items() if key != "key"}
    again = solo("digits", config, 0)
    again.load_state_dict(state)
    # To the bit on a CPU; of a GPU's sums nobody promises the order.
    assert difference(again.train_epoch(), old.train_epoch()) <= (0.0 if DEVICE == "cpu" else 1e-10)
    with pytest.raises(TrialError, match="dropout masks came from a generator"):
        fused("digits").enter("x", config, 0, state)
    fused("digits").enter("x", {**config, "dropout": 0.0}, 0, state)


@dataclass(frozen=True)
class Misfits(Digits):
    """Some models have too few outputs for the classes, some take inputs of another width."""

    model_hyperparameters: ClassVar[Any] = {"inputs": 64, "outputs": 10}

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(config["inputs"], config["outputs"]))


@pytest.mark.parametrize("misfit", [{"outputs": 9}, {"inputs": 63}])
def test_a_model_that_does_not_fit_fails_by_itself(misfit: Config) -> None:
    task = Misfits()
    together = FusedTrainer(task, part(task), max_epochs=2, device=DEVICE)
    for name, config in {"a": {}, "b": {"batch_size": 16}, "misfit": misfit}.items():
        together.enter(name, config, 0)
    assert together.group("a") == together.group("b") != together.group("misfit")
    assert together.train_epoch(["a", "b"]).keys() == {"a", "b"}
    with pytest.raises((TrialError, RuntimeError)):
        together.train_epoch(["misfit"])


@pytest.mark.parametrize(
    ("task", "config"),
    [
        ("digits", {"hidden_layers": 2, "dropout": 0.2, "batch_norm": True}),
        ("kernels", {"conv_layers": 2, "dropout": 0.2, "batch_norm": True, "kernel_size": 3}),
        ("kernels", {"conv_layers": 2, "kernel_size": 3, "pool": "none", "hidden": 12}),
    ],
)
def test_where_launches_cost_nothing_is_done_lane_by_lane(task: str, config: Config) -> None:
    def operations(lanes: int) -> int:
        together = fused(task, template=Template.of("cuda"))
        for i in range(lanes):
            together.enter(str(i), {"optimizer": "adam", **config, "lr": 1e-3 * (i + 1)}, i)
        together.train_epoch()
        (stack,) = together._mixed.values()
        assert stack._placed is not None
        return len(stack._placed._ticks)  # type: ignore[arg-type]

    assert operations(3) == operations(9)


@on_a_cpu
def test_large_images_are_few_in_a_program() -> None:
    together = fused("kernels")
    for i, filters in enumerate([16, 16, 16, 16, 2, 2]):
        together.enter(str(i), {"filters": filters, "batch_size": 101, "kernel_size": 3, "conv_layers": 2}, i)
    groups = [together.group(str(i)) for i in range(6)]
    assert 2 <= len(set(groups)) <= 3
    assert together.train_epoch().keys() == {str(i) for i in range(6)}


def test_views_are_of_the_tensor_that_is_asked_for() -> None:
    """Another one may get the id of one that is gone."""
    views, ids = Views(), set()
    for i in range(100):
        tensor = torch.full((4,), float(i))
        ids.add(id(tensor))
        assert views.of(tensor, (2,), (1,), 1).tolist() == [i, i]
        del tensor
    assert len(ids) == 100, "they are kept"


def test_what_lanes_are_padded_to() -> None:
    template = Template()

    def chain(*sizes: int) -> Chain:
        return Chain(tuple(Block(str(i), a, b) for i, (a, b) in enumerate(itertools.pairwise(sizes))))

    found = [template.padded(chain(64, width, 10), 16, "sgd").width for width in (1, 32, 33, 64, 65, 96, 97, 200, 300)]
    assert found == [32, 32, 64, 64, 96, 96, 128, 256, 384]
    assert [template.padded(chain(4, 3), n, "sgd").batch for n in (1, 16, 17, 64, 90, 100)] == [16, 16, 32, 64, 96, 128]
    assert template.padded(chain(64, 20, 100, 10), 16, "sgd").width == 128
    assert Template((64, 256), (256,)).padded(chain(64, 65, 10), 16, "sgd") == Padded(
        chain(64, 65, 10), 256, 256, "sgd"
    )
    assert template.fits(chain(784, 300, 100, 10))
    assert template.fits(chain(64, 2, 2, 2, 10))
    assert not template.fits(chain(784, 16, 2000, 10))
