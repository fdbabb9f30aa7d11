"""RMSprop (Tieleman & Hinton 2012), with a momentum (Graves 2013, arXiv:1308.0850); `beta2` is torch's alpha."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from raytune_hpo.training.rules.rule import Array, Columns, Epoch, Rows, Rule, Slots, Values, root, slot

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class RMSprop(Rule):
    name = "rmsprop"
    movable = ("lr", "momentum", "weight_decay", "beta2")
    others = ("eps",)
    defaults: ClassVar[Mapping[str, Any]] = {"momentum": 0.0, "beta2": 0.99}
    torch_names: ClassVar[Mapping[str, str]] = {"beta2": "alpha"}
    state_names = ("square_avg", "momentum_buffer")
    momentum_buffer = "momentum_buffer"

    def torch_class(self) -> type[torch.optim.Optimizer]:
        import torch

        return torch.optim.RMSprop

    def torch_options(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "alpha": config["beta2"],
            "momentum": config["momentum"],
            "weight_decay": config["weight_decay"],
            "eps": config["eps"],
        }

    def complete_state(self, optimizer: torch.optim.Optimizer) -> None:
        import torch

        # torch makes the buffers at the first step, and only where the momentum was above 0 then.
        for group in optimizer.param_groups:
            for parameter in group["params"] if group["momentum"] > 0 else ():
                slots = optimizer.state.get(parameter)
                if slots is not None and "momentum_buffer" not in slots:
                    slots["momentum_buffer"] = torch.zeros_like(parameter)

    def columns(self, epoch: Epoch) -> dict[str, Array]:
        momentum, beta2 = epoch.of("momentum"), epoch.of("beta2")
        found = {
            "lr": epoch.lr,
            "beta2": beta2,
            "rest2": 1 - beta2,
            "eps": epoch.of("eps"),
            **self.decay_columns(epoch),
        }
        if (momentum > 0).any():
            found["momentum"] = momentum
        return found

    def update_rows(self, c: Columns, r: Rows) -> None:
        self.decay_rows(c, r)
        r.first.mul_(c["beta2"]).addcmul_(r.gradient, r.gradient * c["rest2"])
        change = r.gradient.div_(r.first.sqrt().add_(c["eps"]))
        if "momentum" in c:
            change = r.second.mul_(c["momentum"]).add_(change)
        r.weights.addcmul_(change, -c["lr"])

    def differentiable(self, weight: Tensor, gradient: Tensor, slots: Slots, hyper: Values) -> tuple[Tensor, Slots]:
        lr, momentum, beta2 = hyper["lr"], hyper["momentum"], hyper["beta2"]
        weight, gradient = self.decayed(weight, gradient, hyper)
        square = beta2 * slot(slots, "square_avg", weight) + (1 - beta2) * gradient**2
        buffer = momentum * slot(slots, "momentum_buffer", weight) + gradient / (root(square) + hyper["eps"])
        return weight - lr * buffer, {"square_avg": square, "momentum_buffer": buffer}
