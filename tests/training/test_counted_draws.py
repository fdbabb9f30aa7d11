"""What torch draws within `counted`: the same alone and as a lane of vmap, whatever the global generator is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from raytune_hpo.errors import TrialError
from raytune_hpo.training.counted_draws import counted, random_ops
from raytune_hpo.training.counters import key_of
from raytune_hpo.training.drawing_ops import OPS, SEEDED
from raytune_hpo.training.recurrent import let_vmap_run_recurrent_layers

KEYS = torch.tensor([key_of(seed, "train") for seed in (3, 1, 4)])
STEPS = torch.tensor([7, 7, 2])  # lanes may be at different steps


class Of(nn.Module):
    """A linear layer, then a function that draws."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], width: int = 6) -> None:
        super().__init__()
        self.inner = nn.Linear(6, width)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.inner(x))


class Vae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_std, self.back = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(3, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, std = self.mean(x), self.log_std(x).exp()
        return self.back(mean + std * torch.randn_like(std)) - x


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.layers = kind(6, 5, num_layers=2, dropout=0.3, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)[0]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: Of(lambda x: functional.dropout(x, 0.4)),
    "native": lambda: Of(lambda x: torch.native_dropout(x, 0.3, True)[0]),
    "in place": lambda: Of(lambda x: functional.dropout(x * 1, 0.4, inplace=True)),
    "nn.Dropout": lambda: nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.2), nn.Linear(6, 6), nn.Dropout(0.5)),
    "Dropout2d": lambda: Of(lambda x: functional.dropout2d(x[:, :, :, None], 0.4)),
    "AlphaDropout": lambda: nn.Sequential(nn.Linear(6, 6), nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(0.3)),
    "VAE": Vae,
    "Normal": lambda: Of(lambda x: torch.distributions.Normal(x, x.exp(), validate_args=False).rsample()),
    "Exponential": lambda: Of(lambda x: torch.distributions.Exponential(x.exp(), validate_args=False).rsample()),
    "Laplace": lambda: Of(lambda x: torch.distributions.Laplace(x, 1.0, validate_args=False).rsample()),
    "Bernoulli": lambda: Of(
        lambda x: x * torch.distributions.Bernoulli(logits=x, validate_args=False).sample()  # type: ignore[no-untyped-call]
    ),
    "gumbel": lambda: Of(lambda x: functional.gumbel_softmax(x, tau=0.7)),
    "GRU": lambda: Recurrent(nn.GRU),
    "LSTM": lambda: Recurrent(nn.LSTM, batch_first=True, bidirectional=True),
    "RNN": lambda: Recurrent(nn.RNN),
    "transformer": lambda: nn.TransformerEncoderLayer(6, 2, 12, dropout=0.1, batch_first=True),
    "attention": lambda: Of(lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.2)),
    "stochastic depth": lambda: Of(lambda x: torch.where(torch.rand(()) < 0.5, x.sin(), x)),
    "drop path": lambda: Of(lambda x: x * x.new_empty(len(x), 1, 1).bernoulli_(0.7)),
    "torchvision's": lambda: Of(lambda x: x * torch.empty(len(x), 1, 1, dtype=x.dtype).bernoulli_(0.7)),
    "probabilities": lambda: Of(lambda x: x * torch.bernoulli(x.sigmoid())),
    "their rows": lambda: Of(lambda x: x * torch.empty_like(x).bernoulli_(x[0, 0].sigmoid())),
    "randn": lambda: Of(lambda x: x * torch.randn(6, dtype=x.dtype) + torch.randn_like(x)),
    "normal": lambda: Of(lambda x: torch.normal(x, x.exp()) * x + x * torch.normal(0.0, 2.0, (6,))),
    "randperm": lambda: Of(lambda x: x[:, torch.randperm(4)] * torch.rand_like(x)),
    "randint": lambda: Of(lambda x: x * torch.randint(3, (4, 1)) + torch.randint_like(x, 2, 9)),
    "multinomial": lambda: Of(lambda x: x.gather(2, torch.multinomial(x.exp().flatten(0, 1), 6, True).view(x.shape))),
    "without": lambda: Of(lambda x: x.gather(2, torch.multinomial(x.exp().flatten(0, 1), 2).view(*x.shape[:-1], 2))),
    "one row": lambda: Of(lambda x: x[..., torch.multinomial(x.exp()[0, 0], 4)]),
    "others": lambda: Of(
        lambda x: (
            x
            * (
                torch.empty_like(x).cauchy_()
                + torch.empty_like(x).geometric_(0.3)
                + torch.empty_like(x).log_normal_(0, 1)
            )
        )
    ),
}


def losses_and_gradients(
    run: Callable[[dict[str, torch.Tensor]], torch.Tensor], weights: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss = run(weights)
    slopes = torch.autograd.grad(loss.sum(), list(weights.values()))
    return loss.detach(), dict(zip(weights, slopes, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_lane_draws_as_it_does_alone(name: str) -> None:
    let_vmap_run_recurrent_layers()
    torch.manual_seed(0)
    models = [MODELS[name]().double().train() for _ in KEYS]
    weights, buffers = torch.func.stack_module_state(models)
    x = torch.randn(3, 5, 4, 6, dtype=torch.float64)

    def one(own: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(models[0], (own, {}), (batch,)).square().mean()

    def together(own: dict[str, torch.Tensor]) -> torch.Tensor:
        with counted(KEYS, STEPS):
            return torch.func.vmap(one, randomness="different")(own, x)

    before = torch.get_rng_state()
    losses, gradients = losses_and_gradients(together, weights)
    assert torch.equal(torch.get_rng_state(), before)
    for lane in range(3):
        torch.manual_seed(lane)

        def alone(own: dict[str, torch.Tensor], i: int = lane) -> torch.Tensor:
            with counted(int(KEYS[i]), int(STEPS[i])):
                return one(own, x[i])

        own = {k: v[lane].detach().requires_grad_() for k, v in weights.items()}
        loss, slopes = losses_and_gradients(alone, own)
        torch.testing.assert_close(losses[lane], loss, rtol=1e-12, atol=1e-12)
        for k, slope in slopes.items():
            torch.testing.assert_close(gradients[k][lane], slope, rtol=1e-12, atol=1e-12)
    again, _ = losses_and_gradients(together, weights)
    assert torch.equal(again, losses)
    with counted(KEYS, STEPS + 1):
        assert not torch.equal(torch.func.vmap(one, randomness="different")(weights, x), losses)
    assert not buffers


def test_draws_of_a_pass_follow_one_another() -> None:
    with counted(5, 0):
        first, second = torch.rand(4), torch.rand(4)
        with counted(5, 0):
            assert torch.equal(torch.rand(4), first)
        third = torch.rand(4)
    assert len({tuple(x.tolist()) for x in (first, second, third)}) == 3


def test_numbers_have_the_distributions_that_torch_gives_them() -> None:
    n = 40_000
    with counted(11, 0):
        drawn = {
            "uniform": torch.empty(n).uniform_(2, 4),
            "normal": torch.empty(n).normal_(1, 2),
            "exponential": torch.empty(n).exponential_(0.5),
            "geometric": torch.empty(n).geometric_(0.25),
            "log_normal": torch.empty(n).log_normal_(0, 0.5),
            "randint": torch.randint(3, 8, (n,)).float(),
            "random_": torch.empty(n, dtype=torch.uint8).random_().float(),
            "bernoulli": torch.empty(n).bernoulli_(0.3),
            "dropout": functional.dropout(torch.ones(n), 0.3),
            "native": torch.native_dropout(torch.ones(n), 0.3, True)[0],
            "fused": torch._fused_dropout(torch.ones(n), 0.7)[0],
            "kept": torch._fused_dropout(torch.ones(n), 0.7)[1].float(),
            "keywords": torch.empty(n).normal_(std=0.5, mean=3.0),
            "multinomial": torch.multinomial(torch.tensor([0.0, 1, 3, 0]), n, True).float(),
            "rrelu": functional.rrelu(-torch.ones(n), 0.1, 0.3, training=True),
            "half": torch.rand(n, dtype=torch.float16).float(),
            "complex": torch.randn(n, dtype=torch.complex64).abs().square(),
        }
        without = torch.multinomial(torch.tensor([1.0, 0, 2, 2]).expand(n, 4), 3)
        median = torch.empty(n).cauchy_(2, 1).median()
    means = {"uniform": 3, "normal": 1, "exponential": 2, "geometric": 4, "log_normal": np.exp(0.125), "randint": 5}
    means |= {"random_": 127.5, "bernoulli": 0.3, "dropout": 1, "multinomial": 1.75, "rrelu": -0.2, "half": 0.5}
    means |= {"complex": 1, "native": 1, "fused": 1, "kept": 0.7, "keywords": 3}
    for name, x in drawn.items():
        assert abs(float(x.mean()) - means[name]) < 5 * float(x.std()) / n**0.5, name
    assert set(drawn["randint"].tolist()) == {3, 4, 5, 6, 7}
    assert set(drawn["multinomial"].tolist()) == {1, 2}
    assert drawn["geometric"].min() == 1
    assert (without.sort(-1).values == torch.tensor([0, 2, 3])).all()
    assert abs(float((without[:, 0] == 0).float().mean()) - 0.2) < 0.01
    assert abs(float(median) - 2) < 0.05


def test_an_operation_without_a_counter_is_refused() -> None:
    def draw() -> torch.Tensor:
        return torch.bernoulli(torch.ones(3), out=torch.empty(3))

    with pytest.raises(TrialError, match=r"aten\.bernoulli\.out "), counted(5, 0):
        draw()
    draw()


def test_what_is_drawn_by_rejection_is_of_the_key_and_the_step_and_has_its_distribution() -> None:
    def drawn(key: int, step: int) -> list[torch.Tensor]:
        shape, ones = torch.full((4000,), 2.5), torch.ones(4000)
        with counted(key, step):
            gamma = torch.distributions.Gamma(shape, ones).sample()
            dirichlet = torch._sample_dirichlet(torch.tensor([1.0, 3.0]).expand(4000, 2))
            return [gamma, dirichlet[:, 0], torch.poisson(4 * ones), torch.binomial(10 * ones, 0.3 * ones)]

    torch.manual_seed(1)
    found = drawn(5, 0)
    torch.manual_seed(2)
    assert all(map(torch.equal, found, drawn(5, 0)))
    assert not any(map(torch.equal, found, drawn(5, 1)))
    for values, mean in zip(found, (2.5, 0.25, 4.0, 3.0), strict=True):
        assert abs(float(values.mean()) - mean) < 5 * float(values.std()) / 4000**0.5


def test_every_operation_of_torch_that_draws_is_known_or_refused() -> None:
    assert set(OPS) <= set(random_ops())
    # With a GPU's, whose kernels draw by themselves; a new one of torch's is refused until someone has read it.
    assert set(SEEDED) | {"_cudnn_rnn"} <= set(random_ops()) - set(OPS)


def test_lanes_draw_inside_their_vmap_only() -> None:
    with pytest.raises(TrialError, match="not of the 3 lanes"), counted(KEYS, 0):
        torch.rand(4)
    with pytest.raises(TrialError, match="randperm"), counted(KEYS, 0):
        torch.randperm(4)
    with pytest.raises(TrialError, match="Generator"), counted(KEYS, 0):
        torch.rand(3, generator=torch.Generator())


def test_a_generator_of_the_models_own_is_left_to_it() -> None:
    with counted(5, 0):
        drawn = torch.rand(3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(1)))


def test_use_of_the_global_generator_is_seen() -> None:
    def elsewhere(seed: int | None = None) -> None:  # where no context is
        if seed is not None:
            torch.manual_seed(seed)
        thread = threading.Thread(target=torch.rand, args=(3,))
        thread.start()
        thread.join()

    with pytest.raises(TrialError, match="global generator"), counted(5, 0):
        elsewhere()
    with pytest.raises(TrialError, match="global generator"), counted(5, 0):
        elsewhere(seed=3)


def test_a_model_that_seeds_the_global_generator_draws_from_counters_all_the_same() -> None:
    torch.manual_seed(0)
    torch.rand(2)
    before = torch.get_rng_state()
    with counted(5, 0):
        torch.manual_seed(3)
        seeded = torch.rand(3)
    with counted(5, 0):
        assert torch.equal(torch.rand(3), seeded)
    assert torch.equal(torch.get_rng_state(), before)


def test_outside_and_in_other_threads_torch_draws_as_ever() -> None:
    torch.manual_seed(0)
    expected = torch.rand(4)
    found = []

    def elsewhere() -> None:
        found.append(torch.rand(4))

    other = torch.Generator().manual_seed(0)
    with counted(5, 0):
        thread = threading.Thread(target=lambda: found.append(torch.rand(4, generator=other)))
        thread.start()
        thread.join()
    torch.manual_seed(0)
    elsewhere()
    assert torch.equal(found[0], expected)
    assert torch.equal(found[1], expected)
    with pytest.raises(RuntimeError, match="unbatched"):
        torch.func.vmap(lambda x: torch.empty(2).normal_() + x, randomness="different")(torch.ones(3))


def test_torch_export_is_as_before() -> None:
    with counted(5, 0):
        torch.rand(3)
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    program = torch.export.export(model, (torch.ones(2, 4),))
    assert (program.module()(torch.ones(2, 4)) == 0).any()
