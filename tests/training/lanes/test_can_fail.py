"""The equality suite can fail: broken on purpose in one formula, one mask, one data order, it is red."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from lane_device import on_a_cpu
from test_equality import BASE, Config, check

from raytune_hpo.training import counted_draws
from raytune_hpo.training.lanes import fingerprint, layers
from raytune_hpo.training.lanes.chunks import ChunkSize
from raytune_hpo.training.lanes.mixed import masks, mixed_stack
from raytune_hpo.training.lanes.mixed.activations import Activations
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.following import Following
from raytune_hpo.training.lanes.mixed.norms import Norms
from raytune_hpo.training.lanes.mixed.steps import Steps
from raytune_hpo.training.lanes.mixed.tick import Orders, Tick
from raytune_hpo.training.lanes.program import ChainProgram
from raytune_hpo.training.lanes.stack import Stack
from raytune_hpo.training.lanes.watching import Recorder, Step
from raytune_hpo.training.rules.adam import Adam
from raytune_hpo.training.rules.rule import Columns, Rows

ADAM: Config = {"optimizer": "adam", "lr": 1e-3, "hidden_units": 20}
DROPOUT: Config = {**BASE, "dropout": 0.3}
SIGMOID: Config = {**BASE, "activation": "sigmoid"}
NORM: Config = {**BASE, "batch_norm": True}
#: What some of these break is the padding, which is another on a GPU.
pytestmark = [on_a_cpu, pytest.mark.usefixtures("float64")]

#: Of no mixed stack.
STACKED: Config = {"accumulate": 2}


def red(task: str, configs: list[Config]) -> None:
    with pytest.raises(AssertionError):
        check(task, configs, 1e-10)


#: Two lanes that do not share a stack, by what each of these models' forwards reads.
SCALES: list[Config] = [{"optimizer": "sgd", "lr": 0.05, "scale": scale} for scale in (0.5, 2.0)]
READING = ("dict", "namespace", "lambda", "local class", "in evaluation", "tied")


def test_as_it_is_it_is_green() -> None:
    for name in READING:
        check(name, SCALES, 1e-10)
    check("lstm dropout", SCALES, 1e-10, chunk=2)
    check("small types", SCALES, 1e-10, chunk=2)
    configs = [ADAM, DROPOUT, SIGMOID, NORM, {**NORM, "batch_size": 29}, {**BASE, "hidden_layers": 3}]
    check("digits", configs, 1e-10)
    check("digits", [{**config, **STACKED} for config in configs], 1e-10)
    check("residuals", [{"dropout": 0.3, "eps": 1e-3}] * 2, 1e-10)


def test_a_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_correction(self: Adam, c: Columns, r: Rows) -> None:
        r.first.lerp_(r.gradient, c["rest1"])
        r.second.mul_(c["beta2"]).addcmul_(r.gradient, r.gradient * c["rest2"])
        r.weights.addcdiv_(r.first * -c["step_size"], r.second.sqrt().add_(c["eps"]))

    monkeypatch.setattr(Adam, "update_rows", without_correction)
    red("digits", [{**ADAM, **STACKED}])
    check("digits", [{**BASE, **STACKED}], 1e-10)


def numbers_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lanes draw from counters is what the first of them draws."""
    own = counted_draws.words_of

    def of_the_first(keys: Any, *rest: Any) -> torch.Tensor:
        found = own(keys, *rest)
        return found[:, :1].expand_as(found) if isinstance(keys, torch.Tensor) else found

    monkeypatch.setattr(counted_draws, "words_of", of_the_first)


def test_a_counter_of_a_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers_of_the_first(monkeypatch)
    red("residuals", [{"dropout": 0.3, "eps": 1e-3}] * 2)


def test_a_data_order(monkeypatch: pytest.MonkeyPatch) -> None:
    train = Stack.train_epoch

    def alike(self: Stack) -> Any:
        for lane in self.lanes:
            lane.order.load_state_dict(self.lanes[0].order.state_dict())
        return train(self)

    monkeypatch.setattr(Stack, "train_epoch", alike)
    red("digits", [{**BASE, **STACKED}] * 2)


def test_running_statistics_that_are_not_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    own = layers.Layer._of

    def copied(self: layers.Layer, weights: layers.Weights, name: str) -> torch.Tensor | None:
        found = own(self, weights, name)
        return found.clone() if found is not None and name.startswith("running") else found

    monkeypatch.setattr(layers.Layer, "_of", copied)
    red("digits", [{**NORM, **STACKED}] * 2)


def test_a_pass_that_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    run, refused = ChainProgram._run, []

    def fitting(self: Any, x: torch.Tensor, weights: Any, lanes: Any, *, training: bool) -> torch.Tensor:
        out = run(self, x, weights, lanes, training=training)
        if training and not refused:
            refused.append(len(lanes))
            raise torch.OutOfMemoryError("simulated, after dropout has drawn")
        return out

    monkeypatch.setattr(ChainProgram, "_run", fitting)
    monkeypatch.setattr(ChunkSize, "size", lambda self, lanes: lanes if self._fits is None else self._fits)
    init = ChunkSize.__init__

    def trusting(self: ChunkSize, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        self._proven = 10**9

    monkeypatch.setattr(ChunkSize, "__init__", trusting)
    red("digits", [{**NORM, **STACKED}] * 2)
    assert refused == [2]


@pytest.mark.parametrize("name", READING)
def test_a_read_that_is_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Recorder.read

    def but_the_scale(self: Recorder, noting: Any, *steps: Step) -> None:
        read(self, noting, *(step for step in steps if step[-1] != "scale"))

    monkeypatch.setattr(fingerprint, "_RECORDINGS", fingerprint._Recordings())
    monkeypatch.setattr(Recorder, "read", but_the_scale)
    with pytest.raises(AssertionError):
        check(name, SCALES, 1e-10, chunk=2)


def test_constants_of_another_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "_RECORDINGS", fingerprint._Recordings())
    monkeypatch.setattr("raytune_hpo.training.lanes.recording.tensor_key", lambda tensor: tensor.shape)
    with pytest.raises(AssertionError):
        check("buffer", SCALES, 1e-10, chunk=2)


def test_a_mask_between_recurrent_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers_of_the_first(monkeypatch)
    with pytest.raises(AssertionError):
        check("lstm dropout", SCALES, 1e-10, chunk=2)


# The mixed stack ------------------------------------------------------------------------------------


def test_a_number_of_a_mixed_update(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Adam.moments
    monkeypatch.setattr(
        Adam, "moments", lambda self, epoch: own(self, epoch) | {"root": own(self, epoch)["rest"] * 0 + 1}
    )
    red("digits", [ADAM])
    check("digits", [BASE], 1e-10)


def test_the_step_of_a_lanes_own_update(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Steps.taken

    def late(self: Steps, lane: int) -> Any:
        step = own(self, lane)
        return step and replace(step, count=step.count + 1)

    monkeypatch.setattr(Steps, "taken", late)
    red("digits", [{**ADAM, "hidden_units": 64}])
    check("digits", [ADAM], 1e-10)  # a small one has no update of its own


def test_a_mixed_counter_that_is_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    own = mixed_stack.words_by_numpy
    monkeypatch.setattr(mixed_stack, "words_by_numpy", lambda key, steps, first, n: own(key, steps, first + 1, n))
    red("digits", [DROPOUT, BASE])
    check("digits", [BASE, NORM], 1e-10)


def test_a_mask_of_a_mixed_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Steps.words
    monkeypatch.setattr(Steps, "words", lambda self: own(self)[:1].expand(self.lanes * self.draws, 2))
    red("digits", [DROPOUT, DROPOUT])


def test_the_features_of_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    own = masks._numbers
    monkeypatch.setattr(masks, "_numbers", lambda rows, samples, features: own(rows, samples, rows))
    red("digits", [DROPOUT])
    check("digits", [{**DROPOUT, "hidden_units": 32}], 1e-10)


@pytest.mark.parametrize("neighbour", [NORM, BASE])
def test_the_mask_of_a_padded_batch(neighbour: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Tick._there

    def all_of_them(self: Tick, ops: Any, steps: Steps, numbers: torch.Tensor) -> torch.Tensor:
        return own(self, ops, steps, numbers * 0)

    monkeypatch.setattr(Tick, "_there", all_of_them)
    red("digits", [{**neighbour, "batch_size": 29}])


def test_the_mask_of_mixed_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    init = Activations.__init__

    def unmasked(self: Activations, *given: Any, **named: Any) -> None:
        init(self, *given, **named)
        self._own = None

    monkeypatch.setattr(Activations, "__init__", unmasked)
    red("digits", [SIGMOID])
    check("digits", [{**SIGMOID, "hidden_units": 32}], 1e-10)


def test_a_sample_that_is_none_of_a_sigmoid(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**SIGMOID, "batch_norm": True, "hidden_layers": 2, "batch_size": 29}
    check("digits", [config], 1e-10)
    monkeypatch.setattr(Activations, "lifts", False)
    red("digits", [config])


def test_a_stage_that_is_run_for_a_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Arena.matrix

    def rolled(self: Arena, pages: torch.Tensor, cell: Any, kind: str, *place: Any) -> torch.Tensor:
        found = own(self, pages, cell, kind, *place)
        gradients = getattr(self, "matrix_gradients", None)
        return found if kind != "hidden" or pages is gradients else found[:1].expand_as(found)

    monkeypatch.setattr(Arena, "matrix", rolled)
    deep = {**BASE, "hidden_layers": 2}
    red("digits", [deep, deep])
    check("digits", [deep, BASE], 1e-10)


def test_an_order_of_a_mixed_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Orders.begin
    first: list[Any] = []

    def of_the_first(self: Orders, lane: int, samples: Any) -> None:
        first.append(samples)
        own(self, lane, first[0])

    monkeypatch.setattr(Orders, "begin", of_the_first)
    red("digits", [BASE, BASE])


def test_running_statistics_that_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Norms, "_run", lambda self, ops, arena, samples: None)
    red("digits", [NORM])


KERNELS: Config = {"optimizer": "sgd", "lr": 0.05, "filters": 3, "kernel_size": 3, "conv_layers": 2}


def test_the_kernels_of_a_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Arena.kernels
    check("kernels", [KERNELS, KERNELS], 1e-10)

    def of_the_first(self: Arena, pages: torch.Tensor, lane: int, block: int, count: int) -> torch.Tensor:
        return own(self, pages, lane if pages is getattr(self, "matrix_gradients", None) else 0, block, count)

    monkeypatch.setattr(Arena, "kernels", of_the_first)
    red("kernels", [KERNELS, KERNELS])
    check("kernels", [KERNELS], 1e-10)


def test_a_sample_that_is_none_of_a_convolutions_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**KERNELS, "hidden": 12, "batch_size": 29}
    check("kernels", [config], 1e-10)
    monkeypatch.setattr(Following, "_lifts", lambda self, strip: False)
    red("kernels", [config])


def test_a_bias_that_a_norm_takes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the running mean all the same."""
    config = {**KERNELS, "batch_norm": True}
    check("kernels", [config], 1e-10)
    own = Arena.vector

    def without(self: Arena, pages: torch.Tensor, kind: str, stage: int) -> torch.Tensor:
        found = own(self, pages, kind, stage)
        return found * 0 if kind == "bias" and stage and pages is not self.vector_gradients else found

    broken = Norms._run

    def run(self: Norms, ops: Any, arena: Arena, samples: Any) -> None:
        monkeypatch.setattr(Arena, "vector", without)
        broken(self, ops, arena, samples)
        monkeypatch.setattr(Arena, "vector", own)

    monkeypatch.setattr(Norms, "_run", run)
    red("kernels", [config])


def test_what_pooling_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    init = Following.__init__

    def unpooled(self: Following, *given: Any) -> None:
        init(self, *given)
        self._chosen = Zeros()

    class Zeros(list[Any]):
        def append(self, chosen: Any) -> None:
            super().append(torch.zeros_like(chosen))

    monkeypatch.setattr(Following, "__init__", unpooled)
    red("kernels", [KERNELS])
    check("kernels", [{**KERNELS, "pool": "none"}], 1e-10)
