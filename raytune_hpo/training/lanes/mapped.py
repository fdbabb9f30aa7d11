"""Any torch module for many lanes at once, by torch.func.vmap over the module itself.

What it draws comes from counters (`training.counted_draws`), for each lane what it would draw alone; the rates of its
dropouts are the lanes' own. Buffers that no state holds are constants, without a lane axis. A module that vmap refuses
is run lane by lane (`Stack.unfusable`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from raytune_hpo.training.called import Called
from raytune_hpo.training.lanes.fingerprint import Fingerprint
from raytune_hpo.training.lanes.layers import LaneView, Layer, Tensor, Weights, draws_masks, keeps_of, rated_dropout
from raytune_hpo.training.lanes.recording import copied, own_constants
from raytune_hpo.training.lanes.value_keys import Hashed
from raytune_hpo.training.lanes.vmap_rules import let_vmap_normalise_halves
from raytune_hpo.training.recurrent import let_vmap_run_recurrent_layers
from raytune_hpo.training.trees import mapped


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
        let_vmap_run_recurrent_layers()
        let_vmap_normalise_halves()
        # An operation without a rule is done lane by lane, which is slow and not wrong: the passes are timed.
        torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore[attr-defined]
        fused = copied(self._alone, torch.empty_like)
        for path, child in list(fused.named_modules()):
            if isinstance(child, nn.RNNBase):  # lays weights out for cuDNN whenever one is set: vmap's have no memory
                child.flatten_parameters = _nothing  # type: ignore[method-assign]
            if type(child) is nn.Dropout:
                if not path:
                    return _Rated(path)
                fused.set_submodule(path, _Rated(path))
        return fused

    def run(self, x: Any, weights: Weights, lanes: Sequence[LaneView], training: bool) -> Any:
        return self.each(lambda module, own: module(own), weights, (x,), lanes, training)

    def each(
        self,
        function: Callable[..., Any],
        weights: Weights,
        arguments: tuple[Any, ...],
        lanes: Sequence[LaneView],
        training: bool,
        shared: tuple[bool, ...] | None = None,
    ) -> Any:
        """`function(module, *arguments)` of each lane, its tensors [L, ...]. arguments: trees of tensors [L, ...], or
        without that axis where `shared` says so."""
        shared = shared or tuple(False for _ in arguments)
        own = {k.removeprefix(self._prefix): v for k, v in weights.items() if k.startswith(self._prefix)}
        device = next((t.device for t in weights.values()), torch.device("cpu"))
        if any(constant.device != device for constant in self._constants.values()):
            self._constants = {name: constant.to(device) for name, constant in self._constants.items()}
        if len(lanes) == 1:
            of_lane = [a if s else mapped(lambda t: t[0], a) for a, s in zip(arguments, shared, strict=True)]
            return mapped(lambda t: t[None], self._alone_with(function, own, of_lane, lanes[0], training))
        self._fused.train(training)
        rated = [child for child in self._fused.modules() if isinstance(child, _Rated)]
        rates = {child.path: [view.variants[self.name][child.path] for view in lanes] for child in rated}
        keeps = {path: keeps_of(own_rates, device) for path, own_rates in rates.items()}
        called = Called(self._fused, function)

        def one(values: dict[str, Tensor], keep: dict[str, Tensor], *sample: Any) -> Any:
            for child in rated:
                child.keep, child.draws = keep[child.path], draws_masks(rates[child.path])
            return called.with_tensors({**values, **self._constants}, *sample)

        # vmap's rules update running statistics in a copy where these do not lie side by side, as rows do not.
        moving = {k: v.clone() for k, v in own.items() if not v.requires_grad} if training else {}
        # A tree for each argument, as one that holds None has no axis there.
        axes = (0, 0, *(None if s else mapped(lambda _: 0, a) for a, s in zip(arguments, shared, strict=True)))
        with _with_vmap_rules(device):
            fused = torch.func.vmap(one, axes, randomness="different")({**own, **moving}, keeps, *arguments)
        for k, v in moving.items():
            own[k].copy_(v)
        return fused

    def _alone_with(
        self, function: Callable[..., Any], own: Weights, arguments: Sequence[Any], lane: LaneView, training: bool
    ) -> Any:
        for path, p in lane.variants[self.name].items():
            module = self._alone.get_submodule(path)
            assert isinstance(module, nn.Dropout)
            module.p = p
        self._alone.train(training)
        return Called(self._alone, function).with_tensors(
            {**{k: v[0] for k, v in own.items()}, **self._constants}, *arguments
        )


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


def _nothing() -> None:
    pass


class _Rated(nn.Module):
    """In place of nn.Dropout inside a vmap over lanes. keep: [] of a lane, as of `keeps_of`. draws: `draws_masks`."""

    keep: Tensor
    draws: bool

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        return rated_dropout(x, self.keep, draws=self.draws) if self.training else x


def dropout_rates(module: nn.Module) -> dict[str, float]:
    """Path -> rate of each nn.Dropout within a module."""
    return {path: child.p for path, child in module.named_modules() if type(child) is nn.Dropout}
