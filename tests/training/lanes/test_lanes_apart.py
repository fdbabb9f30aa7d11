"""What losses and models read and draw that differs from lane to lane: each lane trains as its trainer would alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lane_device import DEVICE
from test_own_lanes import ADAM, SGD, Config, check, cut, rng
from torch import nn
from torch.nn import functional

from raytune_hpo import Choice, SearchSpace, Splits, Task
from raytune_hpo.training.lanes.chunks import ChunkSize
from raytune_hpo.training.lanes.refusals import NotFusableError

pytestmark = pytest.mark.usefixtures("float64")


@dataclass(frozen=True)
class Outputs(Task):
    """Two numbers a sample, and a loss that `read` makes of the error and the config."""

    kind: ClassVar = "regression"
    read: ClassVar[Any] = staticmethod(lambda error, model, config: error)
    model: ClassVar[Any] = staticmethod(lambda config: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)))

    def load(self, seed: int) -> Splits:
        x = rng().normal(size=(66, 5))
        return cut(x, x[:, :2])

    def model_hyperparameters(self) -> Mapping[str, Any]:
        return {"beta": 0.0, "gamma": 0.1, "weights": None, "dropout": 0.2}

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return self.model(config)  # type: ignore[no-any-return]

    def loss(self, model: nn.Module, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
        return self.read(functional.mse_loss(model(batch.x), batch.y), model, config)  # type: ignore[no-any-return]


class Drawing(nn.Module):
    """It draws in training, after a dropout; `always`: and where it is measured."""

    def __init__(self, rate: float, *, always: bool = False) -> None:
        super().__init__()
        self.first, self.drop, self.second, self.last = (
            nn.Linear(5, 8),
            nn.Dropout(rate),
            nn.Dropout(0.3),
            nn.Linear(8, 2),
        )
        self.always = always

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.drop(torch.tanh(self.first(x)))
        if self.training or self.always:
            found = found + 0.1 * torch.randn_like(found)
        return self.last(self.second(found))  # type: ignore[no-any-return]


def test_a_number_that_the_loss_reads_on_one_side_of_a_branch_keeps_lanes_apart() -> None:
    class Branching(Outputs):
        read = staticmethod(lambda error, model, config: error * config["gamma"] if config["beta"] > 0.5 else error)

    numbers = ({"beta": 0.0}, {"beta": 1.0, "gamma": 0.1}, {"beta": 1.0, "gamma": 2.0}, {"beta": 0.0, "gamma": 3.0})
    together = check(Branching(), [{**ADAM, **each} for each in numbers])
    assert sorted(len(stack.lanes) for stack in together._stacks.values()) == [1, 1, 2]


def test_a_number_that_the_loss_reads_where_it_measures_is_the_lanes_own() -> None:
    class Measuring(Outputs):
        read = staticmethod(lambda error, model, config: error if model.training else error * config["gamma"])

    together = check(Measuring(), [ADAM, {**ADAM, "gamma": 2.0}])
    assert len(together._stacks) == 1


def test_arrays_of_the_space_that_the_loss_reads_keep_lanes_apart_by_their_content() -> None:
    class Weighing(Outputs):
        read = staticmethod(lambda error, model, config: error * float(config["weights"].mean()))

    ones, other = np.ones(3000), np.ones(3000)
    other[1500] = 1e4  # of which a text of the array shows nothing
    space = SearchSpace({"weights": Choice({"ones": ones, "equal": ones.copy(), "other": other})})
    task = Weighing().with_objects(space.objects)
    together = check(task, [{**ADAM, "weights": name} for name in ("ones", "other", "equal")])
    assert sorted(len(stack.lanes) for stack in together._stacks.values()) == [1, 2]


@pytest.mark.parametrize("chunk", [1, 1000])
def test_outputs_draw_the_same_numbers_as_the_loss_where_they_are_measured(chunk: int) -> None:
    class Noisy(Outputs):
        model = staticmethod(lambda config: Drawing(0.2, always=True))

    check(Noisy(), [ADAM, SGD], chunk=chunk)


@pytest.mark.parametrize("rates", [(0.0, 0.0), (1.0, 0.0, 1.0), (0.0, 0.5, 0.3)])
def test_a_rate_at_which_nothing_is_drawn_moves_no_other_draw(rates: tuple[float, ...]) -> None:
    class Dropping(Outputs):
        model = staticmethod(lambda config: Drawing(config["dropout"]))

    class Chained(Outputs):
        model = staticmethod(lambda config: nn.Sequential(nn.Dropout(config["dropout"]), Drawing(0.3)))

    for task in (Dropping(), Chained()):
        check(task, [{**ADAM, "dropout": rate} for rate in rates])


class Helped(nn.Module):
    """An auxiliary layer, for losses that ask for it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.last, self.helper, self.tau = nn.Linear(5, 2), nn.Linear(5, 2), config["gamma"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("read", ["beta", "weights"])
def test_what_a_model_is_used_for_is_of_the_config_that_the_loss_reads(read: str) -> None:
    class Helping(Outputs):
        model = staticmethod(Helped)

        def loss(self, model: Any, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
            found = functional.mse_loss(model(batch.x), batch.y)
            if config["beta"] > 0.5 or config["weights"] is not None:
                found = found + model.tau * functional.mse_loss(model.helper(batch.x), batch.y)
            return found

    helped = {"beta": {"beta": 1.0}, "weights": {"weights": "yes"}}[read]
    together = check(Helping(), [ADAM, {**ADAM, **helped}, {**ADAM, **helped, "gamma": 5.0}])
    assert len(together._stacks) == 3


def test_what_one_task_was_seen_to_do_says_nothing_of_another() -> None:
    class Drawn(Outputs):
        read = staticmethod(lambda error, model, config: error * np.random.rand())

    check(Outputs(), [ADAM, SGD])
    with pytest.raises(NotFusableError, match="draws from Python's or NumPy's generator"):
        check(Drawn(), [ADAM, SGD])


def gamma_drawn(error: torch.Tensor, model: nn.Module, config: Config) -> torch.Tensor:
    return error * torch._standard_gamma(torch.full((3,), 2.0, device=DEVICE)).mean()


def mixture_drawn(error: torch.Tensor, model: nn.Module, config: Config) -> torch.Tensor:
    with torch.device(DEVICE):
        mixed = torch.distributions.Beta(0.4, 0.4).sample() + torch.poisson(torch.ones(2)).sum()
        return error * (1 + mixed + torch.binomial(torch.full((3,), 10.0), torch.full((3,), 0.3)).sum())


def seeded(error: torch.Tensor, model: nn.Module, config: Config) -> torch.Tensor:
    torch.manual_seed(0)
    return error * torch.rand((), device=DEVICE)


@pytest.mark.filterwarnings("ignore")  # of torch's own code
@pytest.mark.parametrize("chunk", [1, 1000])
@pytest.mark.parametrize("drawn", [gamma_drawn, mixture_drawn, seeded])
def test_what_torch_draws_by_rejection_and_what_is_seeded_anew_is_the_trials_own(drawn: Any, chunk: int) -> None:
    class Drawn(Outputs):
        read = staticmethod(drawn)

    together = check(Drawn(), [ADAM, SGD, {**ADAM, "lr": 0.1}], chunk=chunk)
    assert drawn is mixture_drawn or together.unfusable is None


class Following(nn.Module):
    """A running mean that its forward puts in the buffer's place."""

    mean: torch.Tensor
    count: torch.Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.last = nn.Linear(5, 2)
        self.register_buffer("mean", torch.zeros(5))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean, self.count = 0.9 * self.mean + 0.1 * x.mean(0), self.count + 1
        return self.last(x - self.mean)  # type: ignore[no-any-return]


@pytest.mark.parametrize("chunk", [1, 1000])
def test_buffers_that_a_forward_replaces_are_kept(chunk: int) -> None:
    class Replacing(Outputs):
        model = staticmethod(Following)

    together = check(Replacing(), [ADAM, SGD], chunk=chunk)
    assert len(together._stacks) == 1


def test_on_a_gpu_a_pass_is_undone_though_one_of_its_size_went_well() -> None:
    """Memory that was there may be another's later."""
    chunk, done, undone = ChunkSize(torch.device("cuda"), fixed=4), [], []

    @contextlib.contextmanager
    def undoable(at: slice) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            undone.append(at.stop - at.start)
            raise

    def one_pass(at: slice) -> None:
        if done and not undone:
            raise torch.OutOfMemoryError
        done.append(at.stop - at.start)

    for _ in range(2):
        chunk.run(4, one_pass, undoable)
    assert (done, undone) == ([4, 2, 2], [4])
