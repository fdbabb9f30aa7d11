"""Structure: which models may be fused, and the program that runs them fused.

A model of nn.Sequential alone is a chain of layers. Any other module is one layer by itself (`mapped`). Chains that a
mixed stack can train (`mixed.chain`) are not run by this structure's layers, but have it as well: it says how their
weights lie in a file.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from raytune_hpo.training.lanes.fingerprint import Fingerprint, Prints, Reads
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
from raytune_hpo.training.lanes.recording import Run, own_constants
from raytune_hpo.training.lanes.refusals import NotFusableError
from raytune_hpo.training.parameter_groups import Group


@dataclass(frozen=True)
class Shape:
    """A tensor of the model: its name, its shape, whether it is a parameter, one that is trained, and one that
    is to be, but that the outputs do not depend on: torch's optimizers leave such a weight alone."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    parameter: bool
    trained: bool
    unused: bool = False


@dataclass(frozen=True, eq=False)
class Structure:
    """What lanes of one key have in common. outline: the key without what forwards read; reads: that, module by
    module. aliases: the further names of tied tensors, each with the one that is in `shapes`."""

    name: str  # the model's class
    key: Hashable
    outline: Hashable
    reads: Reads
    layers: tuple[Layer, ...]
    shapes: tuple[Shape, ...]
    aliases: Mapping[str, str]
    counting: bool  # whether it draws from counters, see `training.drawing`
    groups: tuple[Group, ...] = ()  # of its parameters

    @property
    def is_mapped(self) -> bool:
        """Whether any of it runs under vmap, which may refuse it."""
        return any(isinstance(layer, Mapped) for layer in self.layers)

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], *, training: bool) -> Tensor:
        """x: [L, N, ...], weights: by name, [L, *shape] -> outputs, [L, N, ...]."""
        for layer in self.layers:
            x = layer.run(x, weights, lanes, training)
        return x


@dataclass(frozen=True)
class Described:
    """A model's structure, and what it has of its own besides weights."""

    structure: Structure
    variants: Mapping[str, Any]


def is_chain(model: nn.Module) -> bool:
    """Whether a model is a chain of layers that are known here, and nothing else."""
    return chain_of_layers(model) is not None


def chain_of_layers(model: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The layers of a chain by name, None where the model is none."""
    try:
        chain, _ = _layers_of(model)
    except NotFusableError:
        return None
    return chain if all(_is_plain(name, module) for name, module in chain) else None


def describe(model: nn.Module, run: Run | None = None, *, whole: bool = False, by: Hashable = None) -> Described:
    """The structure of a model that `build_model` made. Reads the model, does not keep it.

    run: a forward of two samples or so in the mode the model is in, answering what the loss is made of; it finds out
    which attributes are read. Without it all have to be alike. whole: the model is no chain, whatever it is made of: a
    function is called with it. by: as of `Prints`. Raises NotFusableError for what lanes cannot train.
    """
    chain, aliases = _layers_of(model)
    if whole:
        chain = [("", model)]
    prints: dict[str, Fingerprint] = {}
    unused: frozenset[str] = frozenset()
    mapped = [name for name, module in chain if not _is_plain(name, module)]
    if mapped:
        found = Prints(model, run, by)
        unused = found.unused
        each = {name: found.of(name) for name in mapped}
        if None in each.values():  # modules that know each other
            chain, each = [("", model)], {"": found.of("")}
        prints = {name: fingerprint for name, fingerprint in each.items() if fingerprint is not None}
    program = _Program(chain, prints)
    constants = {id(buffer) for _, buffer in own_constants(model)}
    named = ((True, model.named_parameters()), (False, model.named_buffers()))
    held = [(n, t, parameter) for parameter, own in named for n, t in own if id(t) not in constants]
    tensors = tuple(
        Shape(n, tuple(t.shape), t.dtype, parameter, t.requires_grad, n in unused) for n, t, parameter in held
    )
    # Where a rate is 0 or 1 torch draws nothing: what is drawn after it would be another number.
    draws = tuple((at, _drawn(p)) for at, p in program.rates())
    structure = Structure(
        name=type(model).__name__,
        key=(tuple(layer.key for layer in program.layers), tensors, draws),
        counting=bool(prints) or any(kind == "some" for _, kind in draws),
        outline=(
            tuple(layer.outline or layer.key for layer in program.layers),
            tuple(replace(shape, unused=False) for shape in tensors),
        ),
        reads=tuple(read for fingerprint in prints.values() for read in fingerprint.reads),
        layers=tuple(program.layers),
        shapes=tensors,
        aliases=aliases,
    )
    return Described(structure, program.variants)


def _layers_of(model: nn.Module) -> tuple[list[tuple[str, nn.Module]], dict[str, str]]:
    """(the layers of a chain, or the model whole; the further names of tied tensors)."""
    aliases = _aliases(model)
    chain = list(_chain(model, ""))
    if aliases or len({id(m) for _, m in chain}) < len(chain) or chain[0][0] == "":
        chain = [("", model)]  # weights or a layer that come twice, or a model that is no chain
    return chain, aliases


def _drawn(rate: float) -> str:
    return "none" if rate in (0, 1) else "some"


class _Program:
    """The layers that run a chain of modules for many lanes; what a model has of its own."""

    def __init__(self, chain: Sequence[tuple[str, nn.Module]], prints: Mapping[str, Fingerprint]) -> None:
        self.layers: list[Layer] = []
        self.variants: dict[str, Any] = {}
        for name, module in chain:
            if name in prints:
                self.layers.append(Mapped(name, module, prints[name]))
                self.variants[name] = dropout_rates(module)
            else:
                self._add(name, module)

    def rates(self) -> Iterator[tuple[tuple[str, str], float]]:
        """The rate of each dropout, by where it is."""
        for layer in self.layers:
            if isinstance(layer, Mapped):
                yield from (((layer.name, path), rate) for path, rate in self.variants[layer.name].items())
            elif isinstance(layer, StackedDropout):
                yield (layer.name, ""), self.variants[layer.name]

    def _add(self, name: str, module: nn.Module) -> None:
        if type(module) in ACTIVATIONS:
            self.layers.append(StackedActivation(name))
            self.variants[name] = activation_variant(module)
        elif isinstance(module, nn.Linear):
            self.layers.append(StackedLinear(name, module))
        elif isinstance(module, nn.Dropout):
            self.layers.append(StackedDropout(name))
            self.variants[name] = module.p
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            self.layers.append(StackedBatchNorm(name, module))
        elif isinstance(module, nn.Conv2d):
            self.layers.append(StackedConv2d(name, module))
        elif isinstance(module, nn.Flatten):
            self.layers.append(StackedFlatten(name, module))
        elif isinstance(module, nn.MaxPool2d):
            self.layers.append(StackedMaxPool2d(name, module))


def _is_plain(name: str, module: nn.Module) -> bool:
    """Whether `layers` knows a layer of a chain, and it does what its class says."""
    own = vars(module)
    if name == "" or own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_non_persistent_buffers_set"]:
        return False
    if "forward" in own:
        return False
    match module:
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            fits = module.momentum is not None
        case nn.Conv2d():
            fits = module.padding_mode == "zeros"
        case nn.MaxPool2d():
            fits = not module.return_indices
        case _:
            fits = True
    return fits and (type(module) in _KNOWN or type(module) in ACTIVATIONS)


_KNOWN = (nn.Linear, nn.Dropout, nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv2d, nn.Flatten, nn.MaxPool2d)


def _aliases(model: nn.Module) -> dict[str, str]:
    """Further names of tied parameters and buffers -> the name that torch's own lists have them by.

    Raises NotFusableError where parameters and buffers are not the model's whole state.
    """
    every = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    if lazy := [n for n, t in every if is_lazy(t)]:
        raise NotFusableError(f"{lazy[0]} has no shape before the first forward, which build_model has to do then")
    constants = {id(buffer) for _, buffer in own_constants(model)}
    first: dict[int, str] = {}
    names = {n: first.setdefault(id(t), n) for n, t in every if id(t) not in constants}
    if other := model.state_dict(keep_vars=True).keys() ^ names.keys():
        raise NotFusableError(f"the model's state is not its parameters and buffers alone: {min(other)}")
    return {n: known for n, known in names.items() if known != n}


def _chain(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested nn.Sequential containers in order; any other module whole."""
    if type(module) is not nn.Sequential:
        yield name, module
        return
    for child_name, child in module._modules.items():  # named_children() leaves out a layer that comes twice
        assert child is not None
        yield from _chain(child, f"{name}.{child_name}" if name else child_name)
