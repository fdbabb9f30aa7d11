"""Any torch module for many lanes at once, by torch.func.vmap over the module itself.

Dropout modules step out of the vmap, to draw from each lane's own generator: an autograd.Function with a vmap rule sees
all lanes' values. A module that vmap refuses is run lane by lane (`Stack.unfusable`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from raytune_hpo.training.lanes.layers import LaneView, Layer, Tensor, Weights, dropout_scales


class Mapped(Layer):
    """A module of any kind. Its dropout rates are the lanes' variants; everything else is in its key."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__(name)
        self.key = ("module", fingerprint(module))
        self._prefix = f"{name}." if name else ""
        self._alone = copy.deepcopy(module).to("meta")
        self._fused = copy.deepcopy(self._alone)
        self._dropouts: list[_SteppingOut] = []
        for path, child in list(self._fused.named_modules()):
            if type(child) is nn.Dropout:
                own = _SteppingOut(path)
                self._dropouts.append(own)
                if path:
                    self._fused.set_submodule(path, own)
                else:
                    self._fused = own

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Tensor:
        own = {k.removeprefix(self._prefix): v for k, v in weights.items() if k.startswith(self._prefix)}
        if len(lanes) == 1:
            rates = lanes[0].variants[self.name]
            for path, p in rates.items():
                module = self._alone.get_submodule(path)
                assert isinstance(module, nn.Dropout)
                module.p = p
            self._alone.train(training)
            out = functional_call(self._alone, {k: v[0] for k, v in own.items()}, (_each(x, lambda t: t[0]),))
            answer: Tensor = _each(out, lambda t: t[None])
            return answer
        self._fused.train(training)
        for dropout in self._dropouts:
            dropout.lanes = [
                LaneView({"": lane.variants[self.name][dropout.path]}, lane.generator, {}) for lane in lanes
            ]

        def one(values: dict[str, Tensor], sample: Tensor) -> Tensor:
            out: Tensor = functional_call(self._fused, values, (sample,))
            return out

        # vmap's rules update running statistics in a copy where these do not lie side by side, as rows do not.
        moving = {k: v.clone() for k, v in own.items() if not v.requires_grad} if training else {}
        fused: Tensor = torch.func.vmap(one)({**own, **moving}, x)
        for k, v in moving.items():
            own[k].copy_(v)
        return fused


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A layer's answer with each of its tensors changed: one layer may hand a tuple to the next, as an LSTM does."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return tuple(_each(item, change) for item in value)
    return {k: _each(v, change) for k, v in value.items()} if isinstance(value, dict) else value


class _SteppingOut(nn.Module):
    """In place of nn.Dropout inside a vmap over lanes."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.lanes: list[LaneView] = []

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not any(lane.variants[""] > 0 for lane in self.lanes):
            return x
        out: Tensor = _DropoutOfLanes.apply(x, self.lanes)
        return out


class _DropoutOfLanes(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, lanes: list[LaneView]) -> Tensor:
        raise AssertionError("only called under vmap, where the rule below stands for it")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], x: Tensor, lanes: list[LaneView]) -> tuple[Tensor, int]:
        lane_axis = in_dims[0]
        x = x.expand(info.batch_size, *x.shape) if lane_axis is None else x.movedim(lane_axis, 0)
        return x * dropout_scales(x, lanes, ""), 0


def dropout_rates(module: nn.Module) -> dict[str, float]:
    """Path -> rate of each nn.Dropout within a module."""
    return {path: child.p for path, child in module.named_modules() if type(child) is nn.Dropout}


def fingerprint(module: nn.Module) -> Hashable:
    """Equal for two modules that differ in their weights and dropout rates alone."""
    parts: list[Hashable] = []
    for path, child in module.named_modules():
        parts.append((path, type(child), tuple(_settings(child))))
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        parts.append((name, tuple(tensor.shape), tensor.dtype))
    return tuple(parts)


def _settings(module: nn.Module) -> Iterator[Hashable]:
    for name, value in sorted(vars(module).items()):
        if name in ("_parameters", "_buffers", "_modules", "training") or (type(module) is nn.Dropout and name == "p"):
            continue
        yield name, _plain(value)


def _plain(value: Any) -> Hashable:
    """What stands for a setting: its value, or where that says nothing, the object itself, equal to nothing else."""
    if value is None or isinstance(value, str | int | float | bool | torch.dtype | type):
        return value
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, set | frozenset):
        return tuple(sorted(map(repr, value)))
    if isinstance(value, dict):
        return tuple((repr(k), _plain(v)) for k, v in value.items())
    qualified = getattr(value, "__qualname__", None)
    if callable(value) and qualified is not None and "<lambda>" not in qualified and "<locals>" not in qualified:
        return f"{value.__module__}.{qualified}"
    return id(value)
