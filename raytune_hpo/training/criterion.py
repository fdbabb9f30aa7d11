"""The criterion: how a task's models are compared with batches, in training and when they are measured.

batch -> loss: task.loss, or by the task's kind, of outputs that were checked
      -> outputs, targets -> Scores
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from raytune_hpo.errors import TrialError
from raytune_hpo.training.averaged import AveragedPredictions
from raytune_hpo.training.batches import Source
from raytune_hpo.training.data import Array, Batch, Kind, Split
from raytune_hpo.training.drawing import COUNTED_BATCH, MEASURED, counts, drawing
from raytune_hpo.training.file_arrays import lies_in_file
from raytune_hpo.training.kinds import OwnLoss
from raytune_hpo.training.losses import loss_of
from raytune_hpo.training.metrics import NOT_SCORED
from raytune_hpo.training.outputs import check_loss, check_outputs
from raytune_hpo.training.scores import Scores
from raytune_hpo.training.share import WHOLE, Share

if TYPE_CHECKING:
    from raytune_hpo.training.task import Task

Tensor = torch.Tensor


class Criterion:
    """Of one task on one trial's data. highest, weights: of the data's classes, see `criterion_of`."""

    def __init__(self, task: Task, highest: int | None = None, weights: Tensor | None = None) -> None:
        self.task = task
        self.measured = task.measured()
        self.highest, self.weights = highest, weights
        self._own_loss = task.has_own_loss
        #: Whether any metric is of outputs and targets.
        self.compares = any(not isinstance(metric, OwnLoss) for metric in self.measured)
        self._plain = not task.has_own_batches  # one forward, compared with y

    def loss(self, model: nn.Module, batch: Any, config: Mapping[str, Any], *, alone: bool = True) -> Tensor:
        """The mean training loss of a batch, shape []. alone: not inside a vmap, whose tensors do not tell whether
        gradients can be taken of them. Raises TrialError for what is none."""
        if self._own_loss:
            if isinstance(model, AveragedPredictions):  # an average of outputs has no loss of the task's: their mean
                weights = model.log_weights.exp()
                losses = [self.loss(member, batch, config) for member in model.members]
                return (torch.stack(losses) * weights).sum()
            found = self.task.loss(model, batch, config)
            if not torch.is_grad_enabled() and isinstance(found, float | int):  # where it is measured alone
                return torch.tensor(float(found))
            check_loss(found, self.task, differentiable=alone and torch.is_grad_enabled())
            return found
        outputs, targets = self.compared(model, batch)
        return loss_of(outputs, targets, self.task.kind, config["label_smoothing"], self.weights_of(config))

    def measured_loss(self, config: Mapping[str, Any]) -> Callable[[nn.Module, Any], Tensor]:
        """The loss that models are measured by: no label smoothing, no class weights."""
        if self._own_loss:
            return lambda model, batch: self.loss(model, batch, config)
        return lambda model, batch: loss_of(*self.compared(model, batch), self.task.kind)

    def weights_of(self, config: Mapping[str, Any]) -> Tensor | None:
        if config["class_weight"] == "none":
            return None
        if self.weights is None:
            raise TrialError("class_weight = 'balanced' needs classes or labels in memory, as y of a Split")
        return self.weights

    def compared(self, model: nn.Module, batch: Any) -> tuple[Any, Any]:
        """(outputs, targets), which fit each other where the kind says how. Raises TrialError."""
        if self._plain and isinstance(batch, Batch) and isinstance(batch.x, Tensor):
            outputs, targets = model(batch.x), batch.y
        else:
            outputs, targets = outputs_of(self.task, model, batch), self.task.targets(batch)
        if self.task.kind != "other":
            check_outputs(outputs, targets, self.highest)
        return outputs, targets

    def evaluate(
        self,
        model: nn.Module,
        source: Source,
        config: Mapping[str, Any],
        batch_size: int | None = None,
        *,
        counting: bool | None = None,
        share: Share = WHOLE,
    ) -> dict[str, float]:
        """The metrics by name, over a split on the model's device. The model is left in its mode.

        batch_size: samples of a pass. counting: as of `drawing.counts`, which is asked where it is None. share: of the
        batches, all of whose processes are to call this. Raises TrialError for outputs that do not fit the targets.
        """
        was_training = model.training
        counting = counts(self.task, model) if counting is None else counting
        batch_size = batch_size or (COUNTED_BATCH if counting else None)
        model.eval()
        scores = Scores(self.measured)
        batches = source.in_order(batch_size, share)
        try:
            with torch.no_grad():
                for number, batch in zip(count(share.rank, share.world), batches, strict=False):
                    with drawing(MEASURED, number, counting=counting):
                        losses = self.loss(model, batch, config) if self._own_loss else None
                    with drawing(MEASURED, number, counting=counting):
                        outputs, targets = self.compared(model, batch) if self.compares else (None, None)
                    scores.add(outputs, targets, losses=losses, samples=source.size(batch))
        finally:
            model.train(was_training)
        if share.world > 1:
            scores.add_others(share)
        return scores.results()[0]


def outputs_of(task: Task, model: nn.Module, batch: Any) -> Any:
    """What `Task.predict` answers, of an average of models by each of them."""
    if isinstance(model, AveragedPredictions):
        return model.averaged([outputs_of(task, member, batch) for member in model.members])
    return task.predict(model, batch)


def default_loss(task: Task, model: nn.Module, batch: Any, config: Mapping[str, Any]) -> Tensor:
    """What `Task.loss` is where a task overrides it and asks for it. Raises TrialError."""
    if task.kind == "other":
        raise TrialError(f"{type(task).__name__}: kind = 'other' has no loss; write loss(self, model, batch, config)")
    if config.get("class_weight", "none") != "none":
        raise TrialError(
            "class_weight = 'balanced' is of the default loss alone: a loss of the task's own weighs itself"
        )
    outputs, targets = task.predict(model, batch), task.targets(batch)
    check_outputs(outputs, targets)
    return loss_of(outputs, targets, task.kind, config.get("label_smoothing", 0.0))


def called(task: Task, model: nn.Module, batch: Any) -> Any:
    """The model's answer to x, or to all of a tuple but its last: a dict by name, a tuple one by one.

    Raises TrialError for a batch without either.
    """
    if isinstance(batch, Batch):
        x = batch.x
    elif isinstance(batch, tuple | list) and len(batch) > 1:
        x = batch[0] if len(batch) == 2 else tuple(batch[:-1])
    else:
        raise TrialError(_without(task, batch, "predict(self, model, batch)", "what the model is called with"))
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x) if isinstance(x, tuple | list) else model(x)


def targets_of(task: Task, batch: Any) -> Any:
    """y, or the last of a tuple. Raises TrialError for a batch without either."""
    if isinstance(batch, Batch) and batch.y is not None:
        return batch.y
    if isinstance(batch, tuple | list) and len(batch) > 1 and not isinstance(batch, Batch):
        return batch[-1]
    what = "what outputs are compared with, or kind = 'other' if nothing is"
    raise TrialError(_without(task, batch, "targets(self, batch)", what))


def _without(task: Task, batch: Any, method: str, what: str) -> str:
    keys = f" with {', '.join(map(repr, batch))}" if isinstance(batch, Mapping) else ""
    kind = "Split without y" if isinstance(batch, Batch) else f"{type(batch).__name__}{keys}"
    return f"{type(task).__name__}: a batch is a {kind}; write {method}: {what}"


def criterion_of(task: Task, train: Any, validation: Any, device: torch.device | str) -> Criterion:
    """highest: the highest class of both splits, where the task compares y with outputs and keeps it in memory.
    weights: of classes or labels in training, "balanced" (King & Zeng 2001, as scikit-learn has it): n / (C n_c)."""
    if task.kind not in ("classification", "multilabel") or task.has_own_loss or task.has_own_targets:
        return Criterion(task)
    own = _targets(train)
    targets = [y for y in (own, _targets(validation)) if y is not None]
    weights = None if own is None else class_weights(own, task.kind)
    highest = max((int(y.max()) for y in targets if y.size), default=None) if task.kind == "classification" else None
    return Criterion(task, highest, None if weights is None else torch.from_numpy(weights).to(device))


def class_weights(y: Array, kind: Kind) -> Array | None:
    """y: [n, ...] classes or [n, K] of 0 and 1, of training. Returns float64: [C], a class that has no sample 1; or
    [K], how much a yes weighs against a no."""
    if kind == "multilabel":
        yes = y.astype(np.float64).sum(0)
        return np.where((yes > 0) & (yes < len(y)), (len(y) - yes) / np.maximum(yes, 1), 1.0)
    scored = y[y != NOT_SCORED].ravel()
    if not scored.size:
        return None
    counts = np.bincount(scored)
    return np.where(counts > 0, scored.size / (max(1, (counts > 0).sum()) * np.maximum(counts, 1)), 1.0)


def _targets(split: Any) -> Array | None:
    """y of a split that is one array in memory, wherever x lies."""
    y = split.y if isinstance(split, Split) else None
    return y if isinstance(y, np.ndarray) and not lies_in_file(y) else None
