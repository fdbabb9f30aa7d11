"""Adagrad (Duchi et al. 2011)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from raytune_hpo.training.rules.rule import Array, Columns, Epoch, Rows, Rule, Slots, Values, root, slot

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Adagrad(Rule):
    name = "adagrad"
    movable = ("lr", "weight_decay")
    others = ("eps",)
    defaults: ClassVar[Mapping[str, Any]] = {"lr": 0.01, "eps": 1e-10}
    state_names = ("sum",)

    def torch_class(self) -> type[torch.optim.Optimizer]:
        import torch

        return torch.optim.Adagrad

    def torch_options(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"weight_decay": config["weight_decay"], "eps": config["eps"]}

    def columns(self, epoch: Epoch) -> dict[str, Array]:
        return {"lr": epoch.lr, "eps": epoch.of("eps"), **self.decay_columns(epoch)}

    def update_rows(self, c: Columns, r: Rows) -> None:
        self.decay_rows(c, r)
        r.first.addcmul_(r.gradient, r.gradient)
        scale = r.first.sqrt().add_(c["eps"])
        r.weights.addcdiv_(r.gradient.mul_(-c["lr"]), scale)

    def differentiable(self, weight: Tensor, gradient: Tensor, slots: Slots, hyper: Values) -> tuple[Tensor, Slots]:
        weight, gradient = self.decayed(weight, gradient, hyper)
        total = slot(slots, "sum", weight) + gradient**2
        return weight - hyper["lr"] * gradient / (root(total) + hyper["eps"]), {"sum": total}
