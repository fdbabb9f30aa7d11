"""Layers of many lanes at once. L: lanes, N: a mini-batch.

Each class runs one kind of torch module for L lanes: x [L, N, ...] in and out, weights [L, *shape]. With one
lane it calls torch's own function without the lane axis, which is what that lane would do alone. A module that no class
here knows is `Mapped`: torch.func.vmap over the module itself.

What may differ between lanes without changing a shape, an activation and a dropout rate, is a lane's `variant` at that
layer and not part of the layer's key.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from raytune_hpo.training.models import ACTIVATION_MODULES

Tensor = torch.Tensor
Weights = Mapping[str, Tensor]

ACTIVATIONS: dict[type[nn.Module], str] = {cls: name for name, cls in ACTIVATION_MODULES.items()}


@dataclass(frozen=True)
class LaneView:
    """What layers see of a lane in a pass. variants: by layer name. counting: whether it draws (from counters)."""

    variants: Mapping[str, Any]
    counting: bool = False


class Layer(ABC):
    """One layer of the program. key: lanes may share a layer of equal keys."""

    key: Hashable
    #: Its key without what a module's forward reads, where that is less.
    outline: Hashable = None

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Tensor: ...

    def _of(self, weights: Weights, name: str) -> Tensor | None:
        return weights.get(f"{self.name}.{name}")


class StackedLinear(Layer):
    def __init__(self, name: str, module: nn.Linear) -> None:
        super().__init__(name)
        self.key = ("linear", module.in_features, module.out_features, module.bias is not None)

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Tensor:
        weight, bias = weights[f"{self.name}.weight"], self._of(weights, "bias")
        shape = x.shape
        out: Tensor = _LinearOfLanes.apply(x.flatten(1, -2), weight, bias)  # all axes between are a batch
        return out if len(shape) == 3 else out.view(*shape[:-1], out.shape[-1])


class _LinearOfLanes(torch.autograd.Function):
    """x [L, M, in], weight [L, out, in], bias [L, out] -> [L, M, out].

    Of its own for one reason: autograd's gradient of a transposed weight is transposed too, and would be copied.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda")  # type: ignore[untyped-decorator]  # under autocast, back as it went forth
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        turned = weight.transpose(1, 2)
        return torch.bmm(x, turned) if bias is None else torch.baddbmm(bias[:, None], x, turned)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if for_x else None,
            torch.bmm(gradient.transpose(1, 2), x) if for_weight else None,
            gradient.sum(1) if for_bias else None,
        )


class StackedConv2d(Layer):
    """One convolution with a group a lane."""

    def __init__(self, name: str, module: nn.Conv2d) -> None:
        super().__init__(name)
        self.options = (module.stride, module.padding, module.dilation, module.groups)
        self.key = ("conv2d", *self.options, tuple(module.weight.shape), module.bias is not None)

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Tensor:
        weight, bias = weights[f"{self.name}.weight"], self._of(weights, "bias")
        stride, padding, dilation, groups = self.options
        L = len(x)
        if L == 1:
            own = None if bias is None else bias[0]
            return functional.conv2d(x[0], weight[0], own, stride, padding, dilation, groups)[None]
        out = functional.conv2d(
            x.transpose(0, 1).flatten(1, 2),
            weight.flatten(0, 1),
            None if bias is None else bias.flatten(),
            stride,
            padding,
            dilation,
            groups * L,
        )
        return _lanes_first(out, L)


class StackedBatchNorm(Layer):
    """Running statistics a lane, updated in place."""

    def __init__(self, name: str, module: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__(name)
        self.eps, self.momentum = module.eps, module.momentum
        self.tracks = module.track_running_stats
        self.key = (
            "batch norm",
            type(module),
            module.num_features,
            self.eps,
            self.momentum,
            module.affine,
            self.tracks,
        )

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Tensor:
        L = len(x)
        mean, var = self._of(weights, "running_mean"), self._of(weights, "running_var")
        if training and self.tracks:
            weights[f"{self.name}.num_batches_tracked"].add_(1)
        # One batch norm over the features of all lanes side by side.
        side_by_side = x.transpose(0, 1).flatten(1, 2)
        means, variances = (None if t is None else t.flatten().clone() for t in (mean, var))
        scale, shift = (
            None if t is None else t.flatten() for t in (self._of(weights, "weight"), self._of(weights, "bias"))
        )
        batch_statistics = training or not self.tracks
        out = functional.batch_norm(
            side_by_side, means, variances, scale, shift, batch_statistics, self.momentum or 0.0, self.eps
        )
        if training and mean is not None and var is not None and means is not None and variances is not None:
            mean.copy_(means.view_as(mean))
            var.copy_(variances.view_as(var))
        return _lanes_first(out, L)


def _lanes_first(side_by_side: Tensor, lanes: int) -> Tensor:
    """[N, L * C, ...] -> [L, N, C, ...]"""
    N, *rest = side_by_side.shape
    return side_by_side.reshape(N, lanes, rest[0] // lanes, *rest[1:]).transpose(0, 1)


class StackedActivation(Layer):
    """Each lane's own activation: lanes lie sorted by it, so that each is computed on a few slices."""

    key = ("activation",)

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Tensor:
        runs = runs_of([lane.variants[self.name] for lane in lanes])
        if len(runs) == 1:
            return _activated(runs[0][0], x)
        return torch.cat([_activated(kind, x[start:end]) for kind, start, end in runs])


def _activated(kind: tuple[str, Any], x: Tensor) -> Tensor:
    return ACTIVATION_FUNCTIONS[kind[0]](x, kind[1])


#: Activation -> function of (x, the module's own number).
ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "relu": lambda x, _: functional.relu(x),
    "leaky_relu": functional.leaky_relu,
    "tanh": lambda x, _: torch.tanh(x),
    "sigmoid": lambda x, _: torch.sigmoid(x),
    "elu": functional.elu,
    "gelu": lambda x, approximate: functional.gelu(x, approximate=approximate),
    "silu": lambda x, _: functional.silu(x),
    "linear": lambda x, _: x,
}


def activation_variant(module: nn.Module) -> tuple[str, Any]:
    """(name, the module's own number): what makes two activations the same."""
    name = ACTIVATIONS[type(module)]
    option = {"leaky_relu": "negative_slope", "elu": "alpha", "gelu": "approximate"}.get(name)
    return name, getattr(module, option) if option is not None else None


class StackedDropout(Layer):
    """Masks from counters, see `training.drawing`."""

    key = ("dropout",)

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Tensor:
        rates = [lane.variants[self.name] for lane in lanes]
        if not training or not any(rate > 0 for rate in rates):
            return x
        if len(lanes) == 1:
            return functional.dropout(x[0], rates[0])[None]
        keep = keeps_of(rates, x.device).view(-1, *(1 for _ in x.shape[1:]))
        return rated_dropout(x, keep, draws=draws_masks(rates))


def keeps_of(rates: Sequence[float], device: torch.device) -> Tensor:
    """[L] float64: the shares that dropouts of these rates keep. All are 0, all 1, or none is either: see
    `structure.describe`."""
    return 1 - torch.tensor(rates, dtype=torch.float64, device=device)


def draws_masks(rates: Sequence[float]) -> bool:
    """Whether dropouts of these rates draw; of 0 and of 1 torch draws nothing, and counts no draw."""
    return any(0 < rate < 1 for rate in rates)


def rated_dropout(x: Tensor, keep: Tensor, *, draws: bool) -> Tensor:
    """torch's dropout, as it draws from counters, where the rate is a number of the lane. keep: float64, of x's axes or
    none. draws: as of `draws_masks`."""
    if not draws:
        return x * keep.to(x.dtype)
    mask = torch.bernoulli(keep.expand(x.shape))
    return x * (mask / keep.clamp(min=torch.finfo(torch.float64).tiny)).to(x.dtype)


class StackedFlatten(Layer):
    def __init__(self, name: str, module: nn.Flatten) -> None:
        super().__init__(name)
        self.start, self.end = module.start_dim, module.end_dim
        self.key = ("flatten", self.start, self.end)

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Tensor:
        start = self.start + 1 if self.start >= 0 else self.start
        end = self.end + 1 if self.end >= 0 else self.end
        return x.flatten(start, end)


class StackedMaxPool2d(Layer):
    def __init__(self, name: str, module: nn.MaxPool2d) -> None:
        super().__init__(name)
        self.options = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
        self.key = ("max pool 2d", *self.options)

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Tensor:
        kernel, stride, padding, dilation, ceil = self.options
        flat = functional.max_pool2d(x.flatten(0, 1), kernel, stride, padding, dilation, ceil)
        return flat.view(*x.shape[:2], *flat.shape[1:])


def runs_of(values: Sequence[Any]) -> list[tuple[Any, int, int]]:
    """(value, start, end) of each stretch of equal neighbours."""
    runs: list[tuple[Any, int, int]] = []
    for i, value in enumerate(values):
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1], i + 1)
        else:
            runs.append((value, i, i + 1))
    return runs
