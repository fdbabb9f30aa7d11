"""Adam (Kingma & Ba 2015, arXiv:1412.6980) and AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_hpo.training.rules.rule import Array, Columns, Epoch, Lists, Rows, Rule, Slots, Values, root, slot

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Adam(Rule):
    name = "adam"
    movable = ("lr", "weight_decay", "beta1", "beta2")
    others = ("eps",)
    state_names = ("exp_avg", "exp_avg_sq")

    def torch_class(self) -> type[torch.optim.Optimizer]:
        import torch

        return torch.optim.Adam

    def torch_options(self, config: Mapping[str, Any]) -> dict[str, Any]:
        betas = (config["beta1"], config["beta2"])
        return {"betas": betas, "weight_decay": config["weight_decay"], "eps": config["eps"]}

    def set_in_group(self, group: dict[str, Any], name: str, value: float) -> None:
        beta1, beta2 = group["betas"]
        if name == "beta1":
            group["betas"] = (value, beta2)
        elif name == "beta2":
            group["betas"] = (beta1, value)
        else:
            super().set_in_group(group, name, value)

    def columns(self, epoch: Epoch) -> dict[str, Array]:
        beta1, beta2 = epoch.of("beta1"), epoch.of("beta2")
        return {
            "step_size": epoch.lr / (1 - beta1**epoch.count),
            "correction": np.sqrt(1 - beta2**epoch.count),
            "beta2": beta2,
            "rest1": 1 - beta1,
            "rest2": 1 - beta2,
            "eps": epoch.of("eps"),
            **self.decay_columns(epoch),
        }

    def update_rows(self, c: Columns, r: Rows) -> None:
        self.decay_rows(c, r)
        r.first.lerp_(r.gradient, c["rest1"])
        r.second.mul_(c["beta2"]).addcmul_(r.gradient, r.gradient * c["rest2"])
        scale = r.second.sqrt().div_(c["correction"]).add_(c["eps"])
        r.weights.addcdiv_(r.first * -c["step_size"], scale)

    is_fused = True

    def fused_step(self, config: Mapping[str, Any], lr: float, count: int, lists: Lists) -> None:
        steps = [self._kernel_step(count)] * len(lists.weights)
        tensors: tuple[Any, ...] = (lists.weights, lists.gradients, lists.first, lists.second, [], steps)
        options = {name: config[name] for name in ("beta1", "beta2", "weight_decay", "eps")}
        self._kernel()(*tensors, lr=lr, amsgrad=False, maximize=False, **options)

    def _kernel(self) -> Any:
        import torch

        return torch._fused_adam_

    @staticmethod
    def _kernel_step(count: int) -> Tensor:
        import torch

        return torch.tensor(float(count), dtype=torch.float32)

    is_of_moments = True

    def moments(self, epoch: Epoch) -> dict[str, Array]:
        beta1, beta2 = epoch.of("beta1"), epoch.of("beta2")
        with np.errstate(divide="ignore"):
            step = (1 - beta1**epoch.count) / epoch.lr
        root = step / np.sqrt(1 - beta2**epoch.count)
        return {
            "keep1": beta1,
            "new1": 1 - beta1,
            "keep2": beta2,
            "new2": 1 - beta2,
            "root": np.where(np.isfinite(step), root, 0.0),  # a step of 0 goes nowhere: the rest is infinite
            "rest": np.where(np.isfinite(step), epoch.of("eps") * step, np.inf),
            **self._decay_moments(epoch),
        }

    def _decay_moments(self, epoch: Epoch) -> dict[str, Array]:
        return {"decay": epoch.of("weight_decay")}

    def differentiable(self, weight: Tensor, gradient: Tensor, slots: Slots, hyper: Values) -> tuple[Tensor, Slots]:
        beta1, beta2 = hyper["beta1"], hyper["beta2"]
        weight, gradient = self.decayed(weight, gradient, hyper)
        step = float(slots.get("step", 0)) + 1
        mean = beta1 * slot(slots, "exp_avg", weight) + (1 - beta1) * gradient
        square = beta2 * slot(slots, "exp_avg_sq", weight) + (1 - beta2) * gradient**2
        denominator = root(square) / (1 - beta2**step) ** 0.5 + hyper["eps"]
        change = mean / (1 - beta1**step) / denominator
        return weight - hyper["lr"] * change, {"step": step, "exp_avg": mean, "exp_avg_sq": square}


class AdamW(Adam):
    """Adam that takes the weight decay off the weights themselves."""

    name = "adamw"
    defaults: ClassVar[Mapping[str, Any]] = {"weight_decay": 0.01}

    def torch_class(self) -> type[torch.optim.Optimizer]:
        import torch

        return torch.optim.AdamW

    def _kernel(self) -> Any:
        import torch

        return torch._fused_adamw_

    def _decay_moments(self, epoch: Epoch) -> dict[str, Array]:
        return {"shrink": 1 - epoch.lr * epoch.of("weight_decay")}

    def decay_columns(self, epoch: Epoch) -> dict[str, Array]:
        decay = epoch.of("weight_decay")
        return {"shrink": 1 - epoch.lr * decay} if (decay > 0).any() else {}

    def decay_rows(self, c: Columns, r: Rows) -> None:
        if "shrink" in c:
            r.weights.mul_(c["shrink"])

    def decayed(self, weight: Tensor, gradient: Tensor, hyper: Values) -> tuple[Tensor, Tensor]:
        return weight * (1 - hyper["lr"] * hyper["weight_decay"]), gradient
