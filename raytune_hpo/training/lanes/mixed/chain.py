"""A chain: an MLP as the mixed program lays it out, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from raytune_hpo.training.lanes.layers import ACTIVATIONS, activation_variant
from raytune_hpo.training.lanes.structure import chain_of_layers


@dataclass(frozen=True)
class Norm:
    """A batch norm over features."""

    name: str
    eps: float
    momentum: float


@dataclass(frozen=True)
class Block:
    """A linear layer, [outputs, inputs], and what follows it: batch norm, activation, dropout, in this order."""

    name: str
    inputs: int
    outputs: int
    norm: Norm | None = None
    activation: tuple[str, Any] = ("linear", None)
    rate: float = 0.0


@dataclass(frozen=True)
class Chain:
    """blocks: the last one is of the outputs, a linear layer alone."""

    blocks: tuple[Block, ...]

    @property
    def depth(self) -> int:
        """Hidden blocks."""
        return len(self.blocks) - 1

    @property
    def width(self) -> int:
        """The largest of the hidden blocks, 0 where there are none."""
        return max((block.outputs for block in self.blocks[:-1]), default=0)

    @property
    def dropouts(self) -> tuple[int, ...]:
        """The blocks that draw a mask, in order: the number of a draw is the place in here."""
        return tuple(i for i, block in enumerate(self.blocks) if 0 < block.rate < 1)

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
    blocks: list[Block] = []
    follows = 0  # how much of what may follow a linear layer has come, in order
    for i, (name, module) in enumerate(layers):
        match module:
            case nn.Flatten() if i == 0 and module.start_dim == 1 and module.end_dim == -1:
                continue
            case nn.Linear() if module.bias is not None:
                blocks.append(Block(name, module.in_features, module.out_features))
                follows = 0
                continue
        if not blocks:
            return None
        place, change = _following(name, module)
        if place <= follows:
            return None
        follows = place
        blocks[-1] = Block(**{**vars(blocks[-1]), **change})
    if not blocks or follows or any(a.outputs != b.inputs for a, b in itertools.pairwise(blocks)):
        return None
    return Chain(tuple(blocks))


def _following(name: str, module: nn.Module) -> tuple[int, dict[str, Any]]:
    """(its place after a linear layer, from 1; 0 for what has none, what it says of the block)."""
    match module:
        case nn.BatchNorm1d() if module.affine and module.track_running_stats:
            return 1, {"norm": Norm(name, module.eps, float(module.momentum or 0.0))}
        case nn.Dropout() if module.p < 1:
            return 3, {"rate": module.p}
        case _ if type(module) in ACTIVATIONS:
            return 2, {"activation": activation_variant(module)}
    return 0, {}
