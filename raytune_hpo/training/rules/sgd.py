"""SGD, with a momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_hpo.training.rules.rule import Array, Columns, Epoch, Lists, Rows, Rule, Slots, Values

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class SGD(Rule):
    """`nesterov` asks for a momentum above 0 and is ignored without one: a search that draws both need not exclude
    the pair."""

    name = "sgd"
    movable = ("lr", "momentum", "weight_decay")
    others = ("nesterov",)
    defaults: ClassVar[Mapping[str, Any]] = {"lr": 0.01}
    state_names = ("momentum_buffer",)
    momentum_buffer = "momentum_buffer"
    counts_steps = False

    def torch_class(self) -> type[torch.optim.Optimizer]:
        import torch

        return torch.optim.SGD

    def torch_options(self, config: Mapping[str, Any]) -> dict[str, Any]:
        momentum = config["momentum"]
        nesterov = config["nesterov"] and momentum > 0
        return {"momentum": momentum, "nesterov": nesterov, "weight_decay": config["weight_decay"]}

    def fixed_when_built(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        # Without a momentum at the start torch's class was built without Nesterov's.
        return {"nesterov": optimizer.param_groups[0]["nesterov"]}

    def columns(self, epoch: Epoch) -> dict[str, Array]:
        momentum, nesterov = epoch.of("momentum"), epoch.of("nesterov")
        found = {"lr": epoch.lr, **self.decay_columns(epoch)}
        if (momentum > 0).any():
            found["momentum"] = momentum
        if (nesterov * momentum > 0).any():
            found["nesterov"] = nesterov
        return found

    def update_rows(self, c: Columns, r: Rows) -> None:
        self.decay_rows(c, r)
        change = r.gradient
        if "momentum" in c:
            r.first.mul_(c["momentum"]).add_(r.gradient)
            change = r.first
            if "nesterov" in c:
                ahead = r.gradient + c["momentum"] * r.first
                change = ahead.where(c["nesterov"] > 0, r.first)
        r.weights.addcmul_(change, -c["lr"])

    is_fused = True

    def fused_step(self, config: Mapping[str, Any], lr: float, count: int, lists: Lists) -> None:
        import torch

        kernel: Any = torch._fused_sgd_
        buffers = lists.first if config["momentum"] > 0 else []
        fixed = {"dampening": 0.0, "maximize": False, "is_first_step": False}  # not: buffers begin with 0
        kernel(lists.weights, lists.gradients, buffers, lr=lr, **self.torch_options(config), **fixed)

    is_of_moments = True

    def moments(self, epoch: Epoch) -> dict[str, Array]:
        momentum, nesterov = epoch.of("momentum"), epoch.of("nesterov")
        looks_ahead = (nesterov > 0) & (momentum > 0)
        with np.errstate(divide="ignore"):
            return {
                "keep1": momentum,
                "rest": 1 / epoch.lr,
                "ahead": np.where(looks_ahead, momentum, 1.0),
                "now": np.where(looks_ahead, 1.0, 0.0),
                "decay": epoch.of("weight_decay"),
            }

    def differentiable(self, weight: Tensor, gradient: Tensor, slots: Slots, hyper: Values) -> tuple[Tensor, Slots]:
        lr, momentum = hyper["lr"], hyper["momentum"]
        weight, gradient = self.decayed(weight, gradient, hyper)
        known = slots.get("momentum_buffer")
        buffer = gradient if known is None else momentum * known + gradient
        nesterov = hyper["nesterov"] and bool(momentum > 0)
        return weight - lr * (gradient + momentum * buffer if nesterov else buffer), {"momentum_buffer": buffer}
