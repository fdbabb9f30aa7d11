"""Several models as one: the weighted average of their predictions.

The average is of probabilities for classes, and of outputs for regression. Also the model of a trial that was
trained on k folds, which is the average of its k.

Notations
    M, N, C, d   members, samples of a batch, classes, outputs of a regression
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from raytune_hpo.errors import TrialError
from raytune_hpo.training.averaged import AveragedPredictions
from raytune_hpo.training.batches import source
from raytune_hpo.training.criterion import criterion_of
from raytune_hpo.training.data import Array, Kind
from raytune_hpo.training.drawing import COUNTED_BATCH, MEASURED, counts, drawing
from raytune_hpo.training.evaluation import device_of
from raytune_hpo.training.random_states import preserved_random_states
from raytune_hpo.training.task import Task


def model_of(task: Task, config: Mapping[str, Any], state: Mapping[str, Any]) -> nn.Module:
    """The trained model of a checkpoint, on the CPU, in eval mode.

    config: with the defaults filled in. state: a SupervisedTrainer's, {"model": ...}, or of a trial with
    folds, {"folds": [{"model": ...}, ...]}. Raises TrialError where the state does not fit the config.
    """
    try:
        if "folds" in state:
            folds = [_model(task, config, fold) for fold in state["folds"]]
            return AveragedPredictions(folds, task.kind).eval()
        return _model(task, config, state).eval()
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise TrialError(f"the saved state does not fit its config: {reason[0] if reason else error!r}") from error


def untrained(task: Task, config: Mapping[str, Any], folds: int | None) -> nn.Module:
    """A model of the form that `model_of` answers, for weights to be loaded into. config: with the defaults."""
    with preserved_random_states():
        models = [task.build_model(config) for _ in range(folds or 1)]
    return models[0] if folds is None else AveragedPredictions(models, task.kind)


def _model(task: Task, config: Mapping[str, Any], state: Mapping[str, Any]) -> nn.Module:
    with preserved_random_states():  # build_model draws weights, which the state replaces
        model = task.build_model(config)
    model.load_state_dict(state["model"])
    return model


def predictions(
    model: nn.Module, split: Any, task: Task, statistics: Mapping[str, Any] | None = None, batch: int | None = None
) -> tuple[Array, Array]:
    """(predictions, targets) of a model in eval mode on the device it is on.

    predictions: [n, C] class probabilities, [n, K] of labels or [n, d] outputs, float32. targets: [n] int64 classes or
    [n, d] float64. Raises TrialError for outputs that do not fit the targets, and where they are not of this form.
    """
    device = device_of(model)
    samples = source(task, split, statistics or {}, device)
    criterion = criterion_of(task, split, split, device)
    found, compared = [], []
    with torch.no_grad():
        counting = counts(task, model)
        for number, part in enumerate(samples.in_order(batch or (COUNTED_BATCH if counting else None))):
            with drawing(MEASURED, number, counting=counting):
                outputs, targets = criterion.compared(model, part)
            if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor) or task.kind == "other":
                raise TrialError(f"predictions of kind = {task.kind!r} are no probabilities or numbers of one form")
            if task.kind == "classification" and targets.ndim > 1:
                raise TrialError("its classes are of several places a sample: this is for one class a sample")
            found.append(probabilities(outputs, task.kind).float().cpu())
            compared.append(targets.cpu())
    y = torch.cat(compared)
    own = y if task.kind == "classification" else y.double().flatten(1)
    return torch.cat(found).flatten(1).numpy(), own.numpy()


def probabilities(outputs: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Of logits, in float64; other outputs as they are."""
    if kind == "classification":
        return outputs.double().softmax(1)
    return outputs.double().sigmoid() if kind == "multilabel" else outputs
