"""What each of torch's random operations does with the numbers of `counters`: its name -> what stands for it.

These are the operations that have kernels of their own: all others (`torch.rand`, `F.dropout`, an LSTM's dropout, ...)
are made of them. Each takes the `Drawing` of the pass and torch's own arguments, as they come below autograd and below
vmap: with lanes, axis 0 of the tensors is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.counters import DIGITS, Stream

Tensor = torch.Tensor


class Drawing(Protocol):
    """A pass that draws."""

    def next(self, op: str, like: Tensor) -> tuple[Stream, torch.Size]:
        """The numbers of the next draw, and the shape that a lane has in a tensor of all lanes."""
        ...

    def next_row(self, n: int, device: torch.device) -> Tensor:
        """[n] int64: the next lane's permutation, of the draw that all lanes share. vmap asks for them one by one."""
        ...


def _bernoulli(now: Drawing, self: Tensor, p: float | Tensor = 0.5) -> Tensor:
    numbers, shape = now.next("bernoulli", self)
    if isinstance(p, Tensor):
        p = p.double().expand(self.shape)
    elif not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    return self.copy_(numbers.bernoulli(p, shape))


def _uniform(now: Drawing, self: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    numbers, shape = now.next("uniform", self)
    values = numbers.uniform(shape, _real(self))
    return self.copy_(values if (low, high) == (0, 1) else values.mul_(high - low).add_(low))


def _normal(now: Drawing, self: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    numbers, shape = now.next("normal", self)
    if self.is_complex():  # each part has half of the variance
        parts = numbers.normal((*shape, 2), _real(torch.view_as_real(self)))
        return self.copy_(torch.view_as_complex(parts.mul_(std * math.sqrt(0.5))).add_(mean))
    values = numbers.normal(shape, _real(self))
    return self.copy_(values if (mean, std) == (0, 1) else values.mul_(std).add_(mean))


def _log_normal(now: Drawing, self: Tensor, mean: float = 1.0, std: float = 2.0) -> Tensor:
    numbers, shape = now.next("log_normal", self)
    return self.copy_(numbers.normal(shape, _real(self)).mul_(std).add_(mean).exp_())


def _exponential(now: Drawing, self: Tensor, rate: float = 1.0) -> Tensor:
    numbers, shape = now.next("exponential", self)
    return self.copy_(numbers.exponential(shape, _real(self)).div_(rate))


def _cauchy(now: Drawing, self: Tensor, median: float = 0.0, sigma: float = 1.0) -> Tensor:
    numbers, shape = now.next("cauchy", self)
    return self.copy_(numbers.inner(shape, _real(self)).sub_(0.5).mul_(math.pi).tan_().mul_(sigma).add_(median))


def _geometric(now: Drawing, self: Tensor, p: float) -> Tensor:
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    numbers, shape = now.next("geometric", self)
    return self.copy_(numbers.exponential(shape, torch.float64).div_(-math.log1p(-p)).ceil_().clamp_(min=1))


def _random(now: Drawing, self: Tensor) -> Tensor:
    numbers, shape = now.next("random_", self)
    return self.copy_(numbers.integers(0, _largest(self.dtype) + 1, shape))


def _random_from(now: Drawing, self: Tensor, low: int, high: int | None) -> Tensor:
    numbers, shape = now.next("random_", self)
    return self.copy_(numbers.integers(low, _largest(self.dtype) + 1 if high is None else high, shape))


def _random_to(now: Drawing, self: Tensor, high: int) -> Tensor:
    return _random_from(now, self, 0, high)


def _normal_of(now: Drawing, mean: Tensor | float, std: Tensor | float = 1.0) -> Tensor:
    """torch.normal where the mean, the standard deviation or both are tensors."""
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        like = torch.empty(torch.Size(np.broadcast_shapes(mean.shape, std.shape)), dtype=mean.dtype, device=mean.device)
    else:
        like = mean if isinstance(mean, Tensor) else std  # type: ignore[assignment]  # one of them is
    numbers, shape = now.next("normal", like)
    return numbers.normal(shape, _real(like)).mul_(std).add_(mean)


def _randperm(now: Drawing, n: int, *, out: Tensor) -> Tensor:
    return out.copy_(now.next_row(n, out.device))


def _dropout(now: Drawing, x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    numbers, shape = now.next("dropout", x)
    kept = numbers.bernoulli(1 - p, shape)
    return x * kept * (0.0 if p == 1 else 1 / (1 - p)), kept


def _fused_dropout(now: Drawing, x: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """p: here, the probability that an element is kept."""
    out, kept = _dropout(now, x, 1 - p, True)
    return out, kept.to(torch.uint8)


def _rrelu(
    now: Drawing, x: Tensor, noise: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False
) -> Tensor:
    numbers, shape = now.next("rrelu", x)
    slope = numbers.uniform(shape, _real(x)).mul_(upper - lower).add_(lower)
    noise.copy_(torch.where(x <= 0, slope, 1.0))
    return x * noise


def _rrelu_in_place(now: Drawing, x: Tensor, noise: Tensor, *args: Any) -> Tensor:
    return x.copy_(_rrelu(now, x, noise, *args))


def _multinomial(now: Drawing, weights: Tensor, n: int, replacement: bool = False) -> Tensor:
    """[C] or [N, C] -> [n] or [N, n]. vmap gives the rows of all lanes as one axis: [lanes * N, C]."""
    least, total = weights.amin(-1), weights.sum(-1)
    if not bool(((least >= 0) & (total > 0) & total.isfinite()).all()):
        raise RuntimeError("multinomial: weights must be finite, at least 0, and not all 0 in a row")
    whole = torch.float64 if weights.dtype == torch.float64 else torch.float32
    if replacement:
        numbers, shape = now.next("multinomial", weights[..., :1].expand(*weights.shape[:-1], n))
        cumulated = weights.to(whole).cumsum(-1)
        total = cumulated[..., -1:]
        last = (cumulated < total).sum(-1, keepdim=True)  # the last of those with a weight, whatever rounding makes
        drawn = numbers.uniform(shape, whole).view(*weights.shape[:-1], n) * total
        return torch.searchsorted(cumulated, drawn, right=True).minimum(last)
    if n > weights.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    # As torch: the largest n of weight / exponential (Efraimidis and Spirakis 2006).
    numbers, shape = now.next("multinomial", weights)
    keys = weights.to(whole) / numbers.exponential(shape, whole).view(weights.shape)
    return keys.topk(n, -1).indices


def _real(x: Tensor) -> torch.dtype:
    if x.dtype not in DIGITS:
        raise TrialError(f"a random number of type {x.dtype}: this package draws {', '.join(map(str, DIGITS))}")
    return x.dtype


def _largest(dtype: torch.dtype) -> int:
    """What random_() draws up to: the largest of integers, all of them exact for floating-point types."""
    if dtype == torch.bool:
        return 1
    return 2 ** DIGITS[dtype] if dtype in DIGITS else int(torch.iinfo(dtype).max)


OPS: dict[str, Callable[..., Any]] = {
    "bernoulli_.float": _bernoulli,
    "bernoulli_.Tensor": _bernoulli,
    "uniform_": _uniform,
    "normal_": _normal,
    "log_normal_": _log_normal,
    "exponential_": _exponential,
    "cauchy_": _cauchy,
    "geometric_": _geometric,
    "random_": _random,
    "random_.from": _random_from,
    "random_.to": _random_to,
    "normal.Tensor_float": _normal_of,
    "normal.float_Tensor": _normal_of,
    "normal.Tensor_Tensor": _normal_of,
    "randperm.generator_out": _randperm,
    "multinomial": _multinomial,
    "native_dropout": _dropout,
    "_fused_dropout": _fused_dropout,
    "rrelu_with_noise": _rrelu,
    "rrelu_with_noise_": _rrelu_in_place,
}


#: Drawn by rejection, of as many numbers as it takes: by torch itself, of a generator that a counter seeds for a lane.
SEEDED = ("_standard_gamma", "_sample_dirichlet", "poisson", "binomial")


def seeded(now: Drawing, op: str, draw: Callable[..., Tensor], *parameters: Tensor, lanes: bool) -> Tensor:
    """draw: torch's operation, of tensors and a generator. With lanes axis 0 of these is theirs."""
    numbers, _ = now.next(op, parameters[0])
    seeds = [low & 0xFFFFFFFF | (high & 0x7FFFFFFF) << 32 for low, high in numbers.words.view(-1, 2).tolist()]
    generators = [torch.Generator(parameters[0].device).manual_seed(seed) for seed in seeds]
    if not lanes:
        return draw(*parameters, generators[0])
    return torch.stack([draw(*(p[i] for p in parameters), own) for i, own in enumerate(generators)])


def draws_nothing(op: str, arguments: dict[str, Any]) -> bool:
    """Whether a call with these arguments (by their names in torch's schema) draws no number."""
    if arguments.get("training") is False or arguments.get("train") is False:
        return True
    rate = arguments.get("dropout_p", arguments.get("dropout", arguments.get("p") if "dropout" in op else None))
    return rate == 0
