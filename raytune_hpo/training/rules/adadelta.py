"""Adadelta (Zeiler 2012, arXiv:1212.5701); `beta2` is torch's rho."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from raytune_hpo.training.rules.rule import Array, Columns, Epoch, Rows, Rule, Slots, Values, root, slot

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Adadelta(Rule):
    name = "adadelta"
    movable = ("lr", "weight_decay", "beta2")
    others = ("eps",)
    defaults: ClassVar[Mapping[str, Any]] = {"lr": 1.0, "beta2": 0.9, "eps": 1e-6}
    torch_names: ClassVar[Mapping[str, str]] = {"beta2": "rho"}
    state_names = ("square_avg", "acc_delta")

    def torch_class(self) -> type[torch.optim.Optimizer]:
        import torch

        return torch.optim.Adadelta

    def torch_options(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"rho": config["beta2"], "weight_decay": config["weight_decay"], "eps": config["eps"]}

    def columns(self, epoch: Epoch) -> dict[str, Array]:
        beta2 = epoch.of("beta2")
        return {
            "lr": epoch.lr,
            "beta2": beta2,
            "rest2": 1 - beta2,
            "eps": epoch.of("eps"),
            **self.decay_columns(epoch),
        }

    def update_rows(self, c: Columns, r: Rows) -> None:
        self.decay_rows(c, r)
        eps = c["eps"]
        r.first.mul_(c["beta2"]).addcmul_(r.gradient, r.gradient * c["rest2"])
        delta = (r.second + eps).sqrt_().div_((r.first + eps).sqrt_()).mul_(r.gradient)
        r.second.mul_(c["beta2"]).addcmul_(delta, delta * c["rest2"])
        r.weights.addcmul_(delta, -c["lr"])

    def differentiable(self, weight: Tensor, gradient: Tensor, slots: Slots, hyper: Values) -> tuple[Tensor, Slots]:
        lr, beta2, eps = hyper["lr"], hyper["beta2"], hyper["eps"]
        weight, gradient = self.decayed(weight, gradient, hyper)
        before = slot(slots, "acc_delta", weight)
        square = beta2 * slot(slots, "square_avg", weight) + (1 - beta2) * gradient**2
        change = gradient * root(before + eps) / root(square + eps)
        changes = beta2 * before + (1 - beta2) * change**2
        return weight - lr * change, {"square_avg": square, "acc_delta": changes}
