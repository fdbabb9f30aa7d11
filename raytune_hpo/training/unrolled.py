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

from raytune_hpo.training.called import Called
from raytune_hpo.training.criterion import Criterion
from raytune_hpo.training.losses import loss_of
from raytune_hpo.training.parameter_groups import Group
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.rules.rule import Slots, root
from raytune_hpo.training.trees import leaves

Hyper = Mapping[str, torch.Tensor | float]


def optimizer_slots(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Slots]:
    """Every weight's optimizer state as it is now, by the weight's name; empty before the first step."""
    return {name: dict(optimizer.state.get(p, {})) for name, p in model.named_parameters()}


def validation_loss_after(
    model: nn.Module,
    slots: Mapping[str, Slots],
    config: Mapping[str, Any],
    hyper: Hyper,
    batches: Sequence[Any],
    lr_factors: Sequence[float],
    validation: Any,
    criterion: Criterion,
    groups: Sequence[Group],
) -> torch.Tensor:
    """The validation loss, shape [], after one optimizer step on each of the K `batches`.

    K = 0 gives the loss as it is. Dropout is off, and batch norm goes by the validation batch. The model and
    its optimizer stay as they are. config: resolved; `hyper` goes before it. lr_factors: [K],
    the schedule's. groups: of the model's parameters. Raises RuntimeError where gradients are asked of a model
    without second derivatives, TrialError for outputs that do not fit the targets.
    """
    rule = RULES[config["optimizer"]]
    # Where no hyperparameter is to be differentiated by, each step's graph can go at once.
    keep = any(isinstance(value, torch.Tensor) and value.requires_grad for value in hyper.values())
    values = {**config, **hyper}
    of = {name: group.config(values) for group in groups for name in group.parameters}
    slots = dict(slots)
    weights = {name: p.detach().requires_grad_(p.requires_grad) for name, p in model.named_parameters()}
    trained = [name for name, weight in weights.items() if weight.requires_grad]
    # Copies: batch norm updates its running means in place.
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    was_training = model.training
    model.train()

    def training(model: nn.Module, batch: Any) -> torch.Tensor:
        if not isinstance(values["label_smoothing"], torch.Tensor) or criterion.task.has_own_loss:
            return criterion.loss(model, batch, values)
        outputs, targets = criterion.compared(model, batch)
        return smoothed_loss(outputs, targets, criterion.weights_of(values), values["label_smoothing"])

    try:
        for batch, factor in zip(batches, lr_factors, strict=True):
            loss: torch.Tensor = Called(model, training).with_tensors({**weights, **buffers}, batch)
            found = torch.autograd.grad(loss, [weights[name] for name in trained], create_graph=keep, allow_unused=True)
            gradients = {name: gradient for name, gradient in zip(trained, found, strict=True) if gradient is not None}
            for name, gradient in clipped(gradients, values["clip_norm"]).items():
                at_step = {**of[name], "lr": of[name]["lr"] * factor}
                start = weights[name] if keep else weights[name].detach()
                weight, slots[name] = rule.differentiable(start, gradient, slots[name], at_step)
                weights[name] = weight if keep else weight.requires_grad_()
        model.eval()
        if next(len(leaf) for leaf in leaves(validation) if leaf.ndim) > 1:
            # Running means have no gradient; the validation batch's own stand in for them.
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train()
        measured = Called(model, criterion.measured_loss(config))
        found_loss: torch.Tensor = measured.with_tensors({**weights, **buffers}, validation)
        return found_loss
    finally:
        model.train(was_training)


def smoothed_loss(
    outputs: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None, label_smoothing: torch.Tensor
) -> torch.Tensor:
    """The cross entropy of `loss_of`, where the label smoothing is a tensor. Shape: [].

    It is linear in the smoothing, so that its values at 0 and at 1/2 are enough.
    """
    plain, half = (loss_of(outputs, y, "classification", s, weights) for s in (0.0, 0.5))
    return plain + 2 * label_smoothing * (half - plain)


def clipped(gradients: dict[str, torch.Tensor], clip_norm: float) -> dict[str, torch.Tensor]:
    """The gradients as `clip_grad_norm_` leaves them; a norm of 0 is no clipping."""
    if clip_norm <= 0:
        return gradients
    norm = root(torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum())
    factor = torch.clamp(clip_norm / (norm + 1e-6), max=1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}
