"""Optimizer steps that the hyperparameters can be differentiated through.

`torch.optim` updates its tensors in place, which cuts the graph. Here a step is a function: the rule's
`differentiable`, from the optimizer's own state, with new tensors for results. A hypergradient is
reverse mode through a few such steps (Maclaurin et al. 2015, arXiv:1502.03492; Franceschi et al. 2017,
arXiv:1703.01785), kept in memory and not reversed, since they are few.

Notations
    K        the number of unrolled steps
    hyper    hyperparameter -> a scalar tensor [], which may require gradients, or a float
    slots    one weight's optimizer state, by torch.optim's own names ("exp_avg", "step", ...)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from raytune_hpo.training.data import Kind
from raytune_hpo.training.losses import loss_of
from raytune_hpo.training.metrics import NOT_SCORED
from raytune_hpo.training.outputs import check_outputs
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.rules.rule import Slots, root

Hyper = Mapping[str, torch.Tensor | float]
Batch = tuple[torch.Tensor, torch.Tensor]
"""x: [N, ...]; y: [N] classes or [N, d] targets."""


def optimizer_slots(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Slots]:
    """Every weight's optimizer state as it is now, by the weight's name; empty before the first step."""
    return {name: dict(optimizer.state.get(p, {})) for name, p in model.named_parameters()}


def validation_loss_after(
    model: nn.Module,
    slots: Mapping[str, Slots],
    config: Mapping[str, Any],
    hyper: Hyper,
    batches: Sequence[Batch],
    lr_factors: Sequence[float],
    validation: Batch,
    kind: Kind,
    highest: int | None = None,
) -> torch.Tensor:
    """The validation loss, shape [], after one optimizer step on each of the K `batches`.

    K = 0 gives the loss as it is. Dropout is off, and batch norm goes by the validation batch. The model and
    its optimizer stay as they are. config: resolved; `hyper` goes before it. lr_factors: [K],
    the schedule's. highest: the highest class of the data. Raises RuntimeError where gradients are asked of a model
    without second derivatives, TrialError for outputs that do not fit the targets.
    """
    rule = RULES[config["optimizer"]]
    # Where no hyperparameter is to be differentiated by, each step's graph can go at once.
    keep = any(isinstance(value, torch.Tensor) and value.requires_grad for value in hyper.values())
    values = {**config, **hyper}
    slots = dict(slots)
    weights = {name: p.detach().requires_grad_(p.requires_grad) for name, p in model.named_parameters()}
    trained = [name for name, weight in weights.items() if weight.requires_grad]
    # Copies: batch norm updates its running means in place.
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    was_training = model.training
    model.train()
    try:
        for (x, y), factor in zip(batches, lr_factors, strict=True):
            outputs = functional_call(model, {**weights, **buffers}, (x,))
            check_outputs(outputs, y, highest)
            loss = training_loss(outputs, y, kind, values["label_smoothing"])
            found = torch.autograd.grad(loss, [weights[name] for name in trained], create_graph=keep, allow_unused=True)
            gradients = {name: gradient for name, gradient in zip(trained, found, strict=True) if gradient is not None}
            at_step = {**values, "lr": values["lr"] * factor}
            for name, gradient in clipped(gradients, values["clip_norm"]).items():
                start = weights[name] if keep else weights[name].detach()
                weight, slots[name] = rule.differentiable(start, gradient, slots[name], at_step)
                weights[name] = weight if keep else weight.requires_grad_()
        x, y = validation
        model.eval()
        if len(x) > 1:
            # Running means have no gradient; the validation batch's own stand in for them.
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train()
        outputs = functional_call(model, {**weights, **buffers}, (x,))
        check_outputs(outputs, y, highest)
        return loss_of(outputs, y, kind)
    finally:
        model.train(was_training)


def training_loss(
    outputs: torch.Tensor, y: torch.Tensor, kind: Kind, label_smoothing: torch.Tensor | float
) -> torch.Tensor:
    """`loss_of`, where the label smoothing may be a tensor. Shape: []."""
    if kind == "regression":
        return loss_of(outputs, y, kind)
    scored = y != NOT_SCORED
    spread = -torch.where(scored.unsqueeze(1), functional.log_softmax(outputs, dim=1), 0.0).mean()
    spread = spread * (y.numel() / scored.sum(dtype=outputs.dtype))
    return (1 - label_smoothing) * functional.cross_entropy(outputs, y) + label_smoothing * spread


def clipped(gradients: dict[str, torch.Tensor], clip_norm: float) -> dict[str, torch.Tensor]:
    """The gradients as `clip_grad_norm_` leaves them; a norm of 0 is no clipping."""
    if clip_norm <= 0:
        return gradients
    norm = root(torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum())
    factor = torch.clamp(clip_norm / (norm + 1e-6), max=1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}
