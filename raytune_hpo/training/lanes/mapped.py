"""Any torch module for many lanes at once, by torch.func.vmap over the module itself.

Dropout modules step out of the vmap, to draw from each lane's own generator: an autograd.Function with a vmap rule sees
all lanes' values. So do recurrent ones (`recurrences`). Buffers that no state holds are constants, without a lane axis.
A module that vmap refuses is run lane by lane (`Stack.unfusable`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from raytune_hpo.training.lanes.fingerprint import Fingerprint
from raytune_hpo.training.lanes.layers import LaneView, Layer, Tensor, Weights, dropout_scales
from raytune_hpo.training.lanes.recording import copied, own_constants
from raytune_hpo.training.lanes.recurrences import OF_LANES
from raytune_hpo.training.lanes.value_keys import Hashed


class Mapped(Layer):
    """A module of any kind. Its dropout rates are the lanes' variants; everything else is in its key, or not read."""

    def __init__(self, name: str, module: nn.Module, fingerprint: Fingerprint) -> None:
        super().__init__(name)
        self.fingerprint = fingerprint
        self.key = ("module", fingerprint.outline, Hashed(fingerprint.reads))
        self.outline = ("module", fingerprint.outline)
        self._prefix = f"{name}." if name else ""
        self._alone = copied(module, lambda tensor: torch.empty_like(tensor, device="meta"))
        self._constants = {n: b.detach().clone() for n, b in own_constants(module)}

    @functools.cached_property
    def _fused(self) -> nn.Module:
        """What runs under vmap: made where lanes are many, not for every lane."""
        fused = copied(self._alone, torch.empty_like)
        for path, child in list(fused.named_modules()):
            if type(child) is nn.Dropout:
                if not path:
                    return _SteppingOut(path)
                fused.set_submodule(path, _SteppingOut(path))
            elif type(child) in OF_LANES:
                child.__class__ = OF_LANES[type(child)]
        return fused

    def run(self, x: Tensor, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Tensor:
        own = {k.removeprefix(self._prefix): v for k, v in weights.items() if k.startswith(self._prefix)}
        if any(constant.device != x.device for constant in self._constants.values()):
            self._constants = {name: constant.to(x.device) for name, constant in self._constants.items()}
        if len(lanes) == 1:
            return self._run_one(x, own, lanes[0], training)
        self._fused.train(training)
        for child in self._fused.modules():
            if isinstance(child, _SteppingOut):
                child.lanes = [
                    LaneView({"": lane.variants[self.name][child.path]}, lane.generator, {}) for lane in lanes
                ]
            elif type(child) in OF_LANES.values():
                child.lanes = lanes  # type: ignore[assignment]

        def one(values: dict[str, Tensor], sample: Tensor) -> Tensor:
            out: Tensor = functional_call(self._fused, {**values, **self._constants}, (sample,))
            return out

        # vmap's rules update running statistics in a copy where these do not lie side by side, as rows do not.
        moving = {k: v.clone() for k, v in own.items() if not v.requires_grad} if training else {}
        with _with_vmap_rules(x.device):
            fused: Tensor = torch.func.vmap(one)({**own, **moving}, x)
        for k, v in moving.items():
            own[k].copy_(v)
        return fused

    def _run_one(self, x: Tensor, own: Weights, lane: LaneView, training: bool) -> Tensor:
        for path, p in lane.variants[self.name].items():
            module = self._alone.get_submodule(path)
            assert isinstance(module, nn.Dropout)
            module.p = p
        self._alone.train(training)
        values = {**{k: v[0] for k, v in own.items()}, **self._constants}
        out = functional_call(self._alone, values, (_each(x, lambda t: t[0]),))
        answer: Tensor = _each(out, lambda t: t[None])
        return answer


@contextlib.contextmanager
def _with_vmap_rules(device: torch.device) -> Iterator[None]:
    """Let torch leave out the fused kernels that have no rule for vmap: of transformer layers in evaluation, and of
    attention on a CPU, where vmap would run them lane by lane."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


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
