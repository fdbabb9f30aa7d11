"""Which modules share a stack, and that what they then are is what each would be alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lane_device import DEVICE, on_a_cpu
from lane_models import RECURRENT, REFUSED, SCALED, TASKS
from lane_tasks import part
from test_equality import EPOCHS, Config, check, compared, difference
from torch import nn

from raytune_hpo.storage.lane_files import write
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.lanes.lane_state import read_state
from raytune_hpo.training.lanes.reading import Reading
from raytune_hpo.training.lanes.refusals import NotFusableError
from raytune_hpo.training.trainer import SupervisedTrainer

pytestmark = pytest.mark.usefixtures("float64")


def fused(name: str, *configs: Config, chunk: int | None = 1000) -> FusedTrainer:
    together = FusedTrainer(TASKS[name], part(TASKS[name]), max_epochs=EPOCHS + 1, device=DEVICE, chunk=chunk)
    for i, config in enumerate(configs):
        together.enter(str(i), config, seed=i)
    return together


def solo(name: str, config: Config, seed: int = 0) -> SupervisedTrainer:
    alone = SupervisedTrainer(TASKS[name], part(TASKS[name]), max_epochs=EPOCHS + 1, device=DEVICE)
    alone.setup(config, seed)
    return alone


def stacks(together: FusedTrainer, lanes: int) -> list[int]:
    """The number of the stack that each lane is in."""
    groups = [together.group(str(i)) for i in range(lanes)]
    return [groups.index(group) for group in groups]


#: Learning rates and what no forward reads differ in pairs, what it reads from pair to pair.
PAIRS: list[Config] = [
    {"optimizer": "adam", "lr": 1e-3, "eps": 1e-3, "scale": 0.5, "spare": 1.0, "weight_decay": 0.1},
    {"optimizer": "adamw", "lr": 2e-3, "eps": 1e-3, "scale": 0.5, "spare": 2.0, "weight_decay": 0.1},
    {"optimizer": "sgd", "lr": 3e-2, "scale": 2.0, "spare": 1.0, "momentum": 0.5},
    {"optimizer": "sgd", "lr": 4e-2, "scale": 2.0, "spare": 2.0, "weight_decay": 0.1},
]


@pytest.mark.parametrize("name", SCALED)
def test_what_a_forward_reads_keeps_lanes_apart_and_nothing_else(name: str) -> None:
    check(name, PAIRS, 1e-10, chunk=1000)
    together = fused(name, *PAIRS)
    together.train_epoch()
    assert together.unfusable is None
    assert stacks(together, 4) == [0, 0, 2, 2]
    assert together.apart
    assert all(line.startswith("lanes of ") and "do not share a stack: its " in line for line in together.apart)


def test_it_is_said_which_value_differs() -> None:
    def apart(name: str) -> list[str]:
        return fused(name, *PAIRS).apart

    start = "lanes of OfDict do not share a stack: its attribute"
    assert apart("dict") == [f"{start} 'config['model']['scale']' differs (0.5, 2.0)"]
    assert apart("namespace")[0].endswith("its attribute 'args.scale' differs (0.5, 2.0)")
    assert apart("lambda")[0].endswith("its variable 'function: config['scale']' differs (0.5, 2.0)")
    assert apart("local value")[0].endswith("its variable '1.scaled: scale' differs (0.5, 2.0)")
    assert apart("buffer")[0].endswith("its buffer 'factors' differs")
    assert fused("dict", PAIRS[0], PAIRS[1]).apart == []


def test_many_lanes_cost_one_recorded_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, passes = Reading.run, []

    def noted(self: Reading, model: Any, config: Any) -> Any:
        passes.append(type(model).__name__)
        return forward(self, model, config)

    monkeypatch.setattr(Reading, "run", noted)
    fused("tied", *({"lr": 1e-4 * (i + 1), "scale": 7.5} for i in range(30)))
    assert passes == ["Tied"] * 3  # in training, in evaluation, and in training once more


def test_a_model_is_left_as_it_was() -> None:
    torch.manual_seed(3)
    config = {"lr": 0.1, "scale": 0.7}
    together = fused("small types", config)
    drawn = torch.rand(())
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(()))
    fresh = solo("small types", config)
    assert difference(compared(together.state_dict("0")), compared(fresh.state_dict())) == 0
    task = TASKS["lambda"]
    resolved = task.resolved(config)
    model = task.build_model(resolved)
    from raytune_hpo.training.lanes.structure import describe

    describe(model, lambda m: m(torch.zeros(2, 64)))
    assert model.function.__closure__[0].cell_contents is resolved  # type: ignore[union-attr,index]


def test_without_a_forward_everything_is_compared() -> None:
    from raytune_hpo.training.lanes.structure import describe

    def key(**config: float) -> Any:
        return describe(TASKS["dict"].build_model(TASKS["dict"].resolved(config))).structure.key

    assert key(lr=0.1) == key(lr=0.1)
    assert key(lr=0.1) != key(lr=0.2)


@pytest.mark.parametrize("name", REFUSED)
def test_what_lanes_cannot_do_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(NotFusableError, match=REFUSED[name][1]) as refusal:
        fused(name, {})
    assert "\n" not in str(refusal.value)


# Weights ----------------------------------------------------------------------------------------------

OPTIMIZED: list[Config] = [
    {"optimizer": name, "lr": 1e-3, "eps": 1e-3, "weight_decay": decay, "momentum": 0.5, "clip_norm": clip}
    for name, decay, clip in (("sgd", 0.0, 0.0), ("sgd", 0.1, 0.0), ("adam", 0.1, 0.1), ("adamw", 0.1, 0.0))
]


@pytest.mark.parametrize("name", ["small types", "partial weights", "encoder", "tied", "parametrized"])
@pytest.mark.parametrize("chunk", [1, 1000])
def test_weights_and_buffers_of_all_kinds(name: str, chunk: int) -> None:
    configs = [{**config, "dropout": 0.2 * (name == "tied"), "spare": i / 2} for i, config in enumerate(OPTIMIZED)]
    check(name, configs, 1e-10, chunk)
    together = fused(name, *configs)
    together.train_epoch()
    assert together.unfusable is None
    assert stacks(together, 4) == [0] * 4


@pytest.mark.parametrize("name", ["tied", "partial weights", "small types"])
def test_states_are_exchanged_with_the_solo_trainer(name: str, tmp_path: Any) -> None:
    config = OPTIMIZED[2]
    alone = solo(name, config)
    alone.train_epoch()
    together = fused(name)
    together.enter("0", config, 0, alone.state_dict())
    assert difference(together.train_epoch()["0"], alone.train_epoch()) < 1e-10
    ((_, kept),) = together.snapshots(["0"])
    (tmp_path / "lanes").mkdir()
    write(tmp_path / "lanes" / "x.safetensors", ["0"], kept.tensors, kept.shared, kept.facts)
    for state in (together.state_dict("0"), read_state(tmp_path / "lanes" / "x.safetensors", "0")):
        assert {n: t.dtype for n, t in state["model"].items()} == {
            n: t.dtype for n, t in alone.model.state_dict().items()
        }
        assert state["optimizer"]["state"].keys() == alone.optimizer.state_dict()["state"].keys()
        back = solo(name, config)
        back.load_state_dict(state)
        assert difference(compared(back.state_dict()), compared(alone.state_dict())) < 1e-10


def test_files_of_before_there_were_aliases_and_types_are_read(tmp_path: Any) -> None:
    together = fused("parametrized", OPTIMIZED[2])
    together.train_epoch()
    ((_, kept),) = together.snapshots(["0"])
    shared = {name: value for name, value in kept.shared.items() if name != "aliases"}
    shared["places"] = [{k: v for k, v in place.items() if k != "dtype"} for place in shared["places"]]
    (tmp_path / "lanes").mkdir()
    write(tmp_path / "lanes" / "x.safetensors", ["0"], kept.tensors, shared, kept.facts)
    state = read_state(tmp_path / "lanes" / "x.safetensors", "0")
    assert difference(compared(state), compared(together.state_dict("0"))) == 0


def test_a_copy_takes_the_donors_weights_to_what_its_own_forward_reads() -> None:
    together = fused("dict", PAIRS[0], PAIRS[1])
    together.train_epoch()
    state = together.state_dict("0")
    changed = {**PAIRS[0], "scale": 2.0}
    together.copy("0", "1", changed)
    alone = solo("dict", changed)
    alone.load_state_dict(state)
    assert stacks(together, 2) == [0, 1]
    assert difference(together.train_epoch()["1"], alone.train_epoch()) < 1e-10


def test_lanes_of_one_stack_that_vmap_refuses_run_each_its_own_model() -> None:
    """What a forward of two samples does not read, one of more may."""
    configs: list[Config] = [{"optimizer": "sgd", "lr": 0.1, "spare": spare} for spare in (0.5, 2.0)]
    check("routing", configs, 1e-10)
    together = fused("routing", *configs)
    together.train_epoch()
    assert stacks(together, 2) == [0, 0]
    assert together.unfusable is not None


# Recurrent layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name: str) -> None:
    check(name, [config for config in OPTIMIZED for _ in range(2)], 1e-10, chunk=1000, epochs=2)
    together = fused(name, *OPTIMIZED)
    together.train_epoch()
    assert together.unfusable is None


@on_a_cpu
def test_recurrent_layers_that_lay_their_weights_out_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def flatten(self: nn.RNNBase) -> None:
        for weight in self._flat_weights:
            if weight is not None and not weight.is_meta:
                weight.data_ptr()  # as for cuDNN, whenever a weight is set

    monkeypatch.setattr(nn.RNNBase, "flatten_parameters", flatten)
    together = fused("lstm 2 ways", *OPTIMIZED)
    together.train_epoch()
    assert together.unfusable is None
