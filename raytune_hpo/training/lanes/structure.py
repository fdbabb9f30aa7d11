"""Structure: which models may be fused, and the program that runs them fused.

A model of nn.Sequential alone is a chain of layers, whose linear layers' widths are rounded up so that more models are
alike: a lane's weights are then the leading corner of a padded tensor that is 0 elsewhere, and stay so. Any other
module is one layer by itself (`mapped`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from raytune_hpo.training.lanes.layers import (
    ACTIVATIONS,
    LaneView,
    Layer,
    StackedActivation,
    StackedBatchNorm,
    StackedConv2d,
    StackedDropout,
    StackedFlatten,
    StackedLinear,
    StackedMaxPool2d,
    Tensor,
    Weights,
    activation_variant,
)
from raytune_hpo.training.lanes.mapped import Mapped, dropout_rates

SMALLEST_WIDTH = 16


def rounded_width(width: int) -> int:
    """The next of 16, 32, 48, 64, 96, 128, 192, 256, ...: less than 1.5 times the width from 33 on."""
    rounded = SMALLEST_WIDTH
    while rounded < width:
        rounded = (
            rounded * 3 // 2 if rounded & (rounded - 1) == 0 and rounded > SMALLEST_WIDTH else _next_power(rounded)
        )
    return rounded


def _next_power(width: int) -> int:
    return 1 << width.bit_length()


@dataclass(frozen=True)
class Shape:
    """A tensor of the model: its name, its padded shape, whether it is a parameter, and one that is trained."""

    name: str
    padded: tuple[int, ...]
    dtype: torch.dtype
    parameter: bool
    trained: bool


@dataclass(frozen=True, eq=False)
class Structure:
    """What lanes of one key have in common."""

    key: Hashable
    layers: tuple[Layer, ...]
    shapes: tuple[Shape, ...]
    padded: bool  # whether it rounds any width up

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], *, training: bool) -> Tensor:
        """x: [L, N, ...], weights: by name, [L, *padded shape] -> outputs, [L, N, ...]."""
        for layer in self.layers:
            x = layer.run(x, weights, lanes, training)
        return x


@dataclass(frozen=True)
class Described:
    """A model's structure, and what it has of its own besides weights."""

    structure: Structure
    variants: Mapping[str, Any]
    widths: Mapping[str, int]


def describe(model: nn.Module) -> Described:
    """The structure of a model. Reads the model, does not keep it."""
    chain = list(_chain(model, ""))
    if len({id(m) for _, m in chain}) < len(chain) or chain[0][0] == "":
        chain = [("", model)]  # a layer that comes twice, or a model that is no chain
    last = max((i for i, (_, m) in enumerate(chain) if isinstance(m, nn.Linear)), default=-1)
    pads = all(type(m) in _KEEP_PADDING or type(m) in ACTIVATIONS for _, m in chain)
    layers: list[Layer] = []
    variants: dict[str, Any] = {}
    widths: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    width: tuple[int, int] | None = None  # of the features here: a lane's own, and the padded one
    for i, (name, module) in enumerate(chain):
        plain = name != "" and not (module._forward_hooks or module._forward_pre_hooks)
        if plain and type(module) is nn.Linear:
            own_in, own_out = module.in_features, module.out_features
            padded_in = width[1] if width is not None else own_in
            padded_out = rounded_width(own_out) if pads and i != last else own_out
            layers.append(StackedLinear(name, module, padded_in, padded_out))
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (padded_out, padded_in), (padded_out,)
            width = (own_out, padded_out) if pads and i != last else None
            continue
        if width is not None:
            widths[name] = width[0]
        if plain and type(module) in ACTIVATIONS:
            layers.append(StackedActivation(name, padded=width is not None))
            variants[name] = activation_variant(module)
        elif plain and type(module) is nn.Dropout:
            layers.append(StackedDropout(name))
            variants[name] = module.p
        elif plain and type(module) in (nn.BatchNorm1d, nn.BatchNorm2d) and module.momentum is not None:
            assert isinstance(module, nn.modules.batchnorm._BatchNorm)
            features = width[1] if width is not None else module.num_features
            layers.append(StackedBatchNorm(name, module, features))
            for tensor in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{name}.{tensor}"] = (features,)
        elif plain and type(module) is nn.Conv2d and module.padding_mode == "zeros":
            layers.append(StackedConv2d(name, module))
        elif plain and type(module) is nn.Flatten:
            layers.append(StackedFlatten(name, module))
        elif plain and type(module) is nn.MaxPool2d and not module.return_indices:
            layers.append(StackedMaxPool2d(name, module))
        else:
            layers.append(Mapped(name, module))
            variants[name] = dropout_rates(module)
    tensors = tuple(
        Shape(n, shapes.get(n, tuple(t.shape)), t.dtype, parameter, t.requires_grad)
        for parameter, named in ((True, model.named_parameters()), (False, model.named_buffers()))
        for n, t in named
    )
    key = (tuple(layer.key for layer in layers), tensors)
    padded = any(shape.padded != tuple(t.shape) for shape, t in zip(tensors, _tensors(model), strict=True))
    return Described(Structure(key, tuple(layers), tensors, padded), variants, widths)


#: Besides activations, the layers through which padding stays 0 at the end of the features.
_KEEP_PADDING = (nn.Linear, nn.Dropout, nn.BatchNorm1d, nn.Flatten)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _chain(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested nn.Sequential containers in order; any other module whole."""
    if type(module) is not nn.Sequential:
        yield name, module
        return
    for child_name, child in module._modules.items():  # named_children() leaves out a layer that comes twice
        assert child is not None
        yield from _chain(child, f"{name}.{child_name}" if name else child_name)
