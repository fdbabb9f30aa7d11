"""What a model answers, compared with the targets before anything is computed of both.

torch broadcasts: outputs [N] against targets [N, 1] have a loss, that of N x N pairs, which falls while the model
learns nothing. So every place that trains or measures asks here first, batch by batch: shapes alone are looked at.
"""

from __future__ import annotations

from typing import Any

import torch

from raytune_hpo.errors import TrialError

Tensor = torch.Tensor


def check_tensor(outputs: Any, *, lanes: bool = False) -> None:
    """Raise TrialError for anything but a tensor of real numbers. lanes: shapes have their axis before the samples'."""
    lead = 1 if lanes else 0
    if not isinstance(outputs, Tensor):
        parts = outputs.values() if isinstance(outputs, dict) else outputs if isinstance(outputs, list | tuple) else ()
        shapes = ", ".join(str(list(part.shape[lead:])) for part in parts if isinstance(part, Tensor))
        of = f" of {shapes}" if shapes else ""
        pick = "; of several predict(self, model, batch) answers one" if shapes else ""
        kind = type(outputs).__name__
        raise TrialError(f"the model answers a {kind}{of}: it must answer one tensor, its outputs{pick}")
    if not outputs.is_floating_point():
        dtype, shape = str(outputs.dtype).removeprefix("torch."), list(outputs.shape[lead:])
        raise TrialError(
            f"the model answers {dtype} {shape}: outputs must be floating-point (of classes logits, "
            "not the likeliest class)"
        )


def check_loss(loss: Any, task: Any, *, differentiable: bool) -> None:
    """Raise TrialError unless a task's own loss is one real number that gradients can be taken of."""
    name = f"{type(task).__name__}.loss"
    if not isinstance(loss, Tensor):
        raise TrialError(
            f"{name} answers a {type(loss).__name__}: it must answer a tensor of shape [], the batch's mean"
        )
    if loss.shape != ():
        raise TrialError(f"{name} answers shape {list(loss.shape)}: it must answer one number, as .mean() of these is")
    if not loss.is_floating_point():
        dtype = str(loss.dtype).removeprefix("torch.")
        raise TrialError(f"{name} answers {dtype}: it must answer a floating-point number")
    if differentiable and not loss.requires_grad:
        raise TrialError(f"{name} does not depend on any parameter: .item(), .detach() or no_grad has cut it off")


def check_outputs(outputs: Any, y: Any, highest: int | None = None, *, lanes: bool = False) -> None:
    """Raise TrialError unless outputs fit the targets, so that nothing broadcasts.

    y: [N, ...] int64 classes for outputs [N, C, ...], or [N, ...] targets for outputs [N, ...]; lanes: outputs have the
    axis of lanes before these. highest: the highest class of the data, which must be below C.
    """
    check_tensor(outputs, lanes=lanes)
    if not isinstance(y, Tensor):
        raise TrialError(f"the targets of a batch are a {type(y).__name__}: they must be one tensor")
    found = list(outputs.shape[1:] if lanes else outputs.shape)
    wanted = list(y.shape)
    if y.is_floating_point():
        if found != wanted:
            hint = "; outputs.unsqueeze(-1) makes it" if [*found, 1] == wanted else ""
            raise TrialError(
                f"the model answers {found} for targets of shape {wanted}: it must answer that shape, or each answer "
                f"would be compared with every target{hint}"
            )
    elif len(found) != len(wanted) + 1 or found[:1] + found[2:] != wanted:
        shape = ", ".join(["N", "C", *map(str, wanted[1:])])
        hint = "; outputs.movedim(-1, 1) makes it" if len(wanted) > 1 and found[:-1] == wanted else ""
        raise TrialError(
            f"the model answers {found} for targets of shape {wanted}: it must answer [{shape}], a logit for each "
            f"class{hint}"
        )
    elif highest is not None and highest >= found[1]:
        raise TrialError(
            f"the model answers {found}, {found[1]} logits a sample, for targets with classes 0 to {highest}: it must "
            f"answer {highest + 1} or more"
        )
