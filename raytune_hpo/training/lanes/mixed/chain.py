"""A chain: a model as the mixed program lays it out, block by block: convolutions, then linear layers."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from raytune_hpo.training.lanes.layers import ACTIVATIONS, activation_variant
from raytune_hpo.training.lanes.structure import chain_of_layers

Pair = tuple[int, int]


@dataclass(frozen=True)
class Norm:
    """A batch norm over features."""

    name: str
    eps: float
    momentum: float


@dataclass(frozen=True)
class Window:
    """What a convolution or a max-pooling moves over an image, (height, width) each."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)

    def over(self, size: Pair) -> Pair:
        """The size of what it gives of an image of this size; not positive where that is too small."""
        each = zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in each)
        return height, width


@dataclass(frozen=True)
class Block:
    """A linear layer, [outputs, inputs], or a convolution, and what follows it: batch norm, activation, max-pooling,
    dropout, in this order. groups: of a convolution's channels."""

    name: str
    inputs: int
    outputs: int
    norm: Norm | None = None
    activation: tuple[str, Any] = ("linear", None)
    rate: float = 0.0
    convolution: Window | None = None
    groups: int = 1
    pool: Window | None = None

    @property
    def weight_shape(self) -> tuple[int, ...]:
        if self.convolution is None:
            return self.outputs, self.inputs
        return self.outputs, self.inputs // self.groups, *self.convolution.kernel


@dataclass(frozen=True)
class Chain:
    """blocks: the last one is of the outputs, a linear layer alone."""

    blocks: tuple[Block, ...]

    @functools.cached_property
    def convolutions(self) -> int:
        """How many of the blocks, the first ones, are convolutions."""
        return sum(block.convolution is not None for block in self.blocks)

    @functools.cached_property
    def depth(self) -> int:
        """Hidden linear blocks."""
        return len(self.blocks) - 1 - self.convolutions

    @functools.cached_property
    def hidden(self) -> tuple[Block, ...]:
        """The hidden linear blocks."""
        return self.blocks[self.convolutions : -1]

    @functools.cached_property
    def features(self) -> int:
        """What the first linear block takes."""
        return self.blocks[self.convolutions].inputs

    @functools.cached_property
    def width(self) -> int:
        """The largest of the hidden linear blocks, 0 where there are none."""
        return max((block.outputs for block in self.hidden), default=0)

    @functools.cached_property
    def dropouts(self) -> tuple[int, ...]:
        """The blocks that draw a mask, in order: the number of a draw is the place in here."""
        return tuple(i for i, block in enumerate(self.blocks) if 0 < block.rate < 1)

    def sizes(self, shape: Sequence[int]) -> list[tuple[Pair, Pair]]:
        """Of each convolution's images, of samples of this shape: (as it gives them, as they are pooled)."""
        found = []
        size: Pair = (shape[-2], shape[-1]) if self.convolutions else (1, 1)
        for block in self.blocks[: self.convolutions]:
            assert block.convolution is not None
            given = block.convolution.over(size)
            size = given if block.pool is None else block.pool.over(given)
            found.append((given, size))
        return found

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether samples of this shape go through it."""
        if not self.convolutions:
            return self.features == math.prod(shape)
        if len(shape) != 3 or shape[0] != self.blocks[0].inputs:
            return False
        sizes = self.sizes(shape)
        if any(n < 1 for pair in sizes for size in pair for n in size):
            return False
        return self.features == self.blocks[self.convolutions - 1].outputs * math.prod(sizes[-1][1])

    def tensors(self) -> Iterator[tuple[str, int, str]]:
        """(name, number of the block, which of its tensors) of all parameters and running statistics."""
        for i, block in enumerate(self.blocks):
            yield f"{block.name}.weight", i, "weight"
            yield f"{block.name}.bias", i, "bias"
            if block.norm is not None:
                for which, name in _OF_NORM.items():
                    yield f"{block.norm.name}.{name}", i, which

    def counters(self) -> Iterator[str]:
        """The counters of steps that batch norms keep."""
        yield from (f"{block.norm.name}.num_batches_tracked" for block in self.blocks if block.norm is not None)


_OF_NORM = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}


def chain_of(model: nn.Module) -> Chain | None:
    """The chain that a model is; None of any other, and where a parameter is frozen or missing."""
    layers = chain_of_layers(model)
    if layers is None or not all(p.requires_grad for p in model.parameters()):
        return None
    blocks = _blocks_of(layers)
    if not blocks or blocks[-1] != Block(blocks[-1].name, blocks[-1].inputs, blocks[-1].outputs):
        return None
    linear = [block for block in blocks if block.convolution is None]
    images = blocks[: len(blocks) - len(linear)]
    fitting = all(a.outputs == b.inputs for own in (images, linear) for a, b in itertools.pairwise(own))
    return Chain(tuple(blocks)) if fitting else None


def _blocks_of(layers: Sequence[tuple[str, nn.Module]]) -> list[Block] | None:
    """None where a layer is of another kind, or at another place."""
    blocks: list[Block] = []
    follows = 0  # how much of what may follow a block's weights has come, in order
    flat = False
    for i, (name, module) in enumerate(layers):
        images = bool(blocks) and not flat
        match module:
            case nn.Flatten() if module.start_dim == 1 and module.end_dim == -1 and (images or i == 0):
                flat = True
                continue
            case nn.Linear() if module.bias is not None and not images:
                blocks.append(Block(name, module.in_features, module.out_features))
                flat, follows = True, 0
                continue
            case nn.Conv2d() if module.bias is not None and not flat and not isinstance(module.padding, str):
                own = (module.kernel_size, module.stride, module.padding, module.dilation)
                window = Window(*(_pair(n) for n in own))
                blocks.append(Block(name, module.in_channels, module.out_channels, convolution=window))
                blocks[-1] = replace(blocks[-1], groups=module.groups)
                follows = 0
                continue
        if not blocks or (flat and blocks[-1].convolution is not None):
            return None
        place, change = _following(name, module, of_images=images)
        if place <= follows:
            return None
        follows = place
        blocks[-1] = replace(blocks[-1], **change)
    return blocks


def _following(name: str, module: nn.Module, *, of_images: bool) -> tuple[int, dict[str, Any]]:
    """(its place after a block's weights, from 1; 0 for what has none, what it says of the block)."""
    match module:
        case nn.BatchNorm1d() | nn.BatchNorm2d() if module.affine and module.track_running_stats:
            if isinstance(module, nn.BatchNorm2d) == of_images:
                return 1, {"norm": Norm(name, module.eps, float(module.momentum or 0.0))}
        case nn.MaxPool2d() if of_images and not module.ceil_mode:
            own = (module.kernel_size, module.stride, module.padding, module.dilation)
            return 3, {"pool": Window(*(_pair(n) for n in own))}
        case nn.Dropout() if module.p < 1:
            return 4, {"rate": module.p}
        case _ if type(module) in ACTIVATIONS:
            return 2, {"activation": activation_variant(module)}
    return 0, {}


def _pair(n: Any) -> Pair:
    return (n, n) if isinstance(n, int) else (n[0], n[1])
