"""Several models as one: the weighted average of their predictions.

The average is of probabilities for classes, and of outputs for regression. Also the model of a trial that was
trained on k folds, which is the average of its k.

Notations
    M, N, C, d   members, samples of a batch, classes, outputs of a regression
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from raytune_hpo.errors import TrialError
from raytune_hpo.training.data import Array, Kind, Split
from raytune_hpo.training.evaluation import EVALUATION_BATCH, tensors_of
from raytune_hpo.training.outputs import check_outputs, highest_class
from raytune_hpo.training.random_states import preserved_random_states
from raytune_hpo.training.task import Task


class AveragedPredictions(nn.Module):
    """x [N, ...] -> [N, C] logs of the averaged class probabilities, or [N, d] averaged outputs.

    A log-probability is a logit, so cross entropy, softmax and argmax of the answer mean what they mean for
    one model. weights: [M], positive, of any sum; equal if left out.
    """

    def __init__(self, members: Sequence[nn.Module], kind: Kind, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        given = [1.0] * len(members) if weights is None else [float(w) for w in weights]
        if not members or len(given) != len(members) or not all(math.isfinite(w) and w > 0 for w in given):
            raise ValueError(f"{len(members)} members need as many positive weights, and at least one: {weights}")
        self.members = nn.ModuleList(members)
        self.kind = kind
        self.log_weights: torch.Tensor
        # A buffer, so that the state dict alone says what is averaged how.
        self.register_buffer("log_weights", torch.tensor([math.log(w / sum(given)) for w in given]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = torch.stack([member(x) for member in self.members])  # [M, N, C or d]
        if self.kind == "classification":
            weighted = outputs.log_softmax(-1) + self.log_weights[:, None, None]
            return weighted.logsumexp(0)
        return (outputs * self.log_weights.exp()[:, None, None]).sum(0)


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


def _model(task: Task, config: Mapping[str, Any], state: Mapping[str, Any]) -> nn.Module:
    with preserved_random_states():  # build_model draws weights, which the state replaces
        model = task.build_model(config)
    model.load_state_dict(state["model"])
    return model


def predictions(model: nn.Module, split: Split, kind: Kind, batch: int = EVALUATION_BATCH) -> Array:
    """[n, C] class probabilities or [n, d] outputs, float32, of a model in eval mode on the device it is on.

    Raises TrialError for outputs that do not fit the split's targets.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x, y = tensors_of(split, kind, device)
    highest = highest_class(y)
    found = []
    with torch.no_grad():
        for start in range(0, len(x), batch):
            outputs = model(x[start : start + batch].clone())  # a copy, as in `evaluate_tensors`
            check_outputs(outputs, y[start : start + batch], highest)
            found.append((outputs.double().softmax(1) if kind == "classification" else outputs).float().cpu())
    return torch.cat(found).numpy()
