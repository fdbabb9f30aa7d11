"""Several models as one: the weighted average of their predictions, of probabilities for classes and labels.

Notations
    M, N, C, d   members, samples of a batch, classes, outputs of a regression
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from raytune_hpo.training.data import Kind
from raytune_hpo.training.trees import mapped


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

    def forward(self, x: Any) -> Any:
        return self.averaged([member(x) for member in self.members])

    def averaged(self, members: Sequence[Any]) -> Any:
        """members: [N, C, ...] logits, [N, K] logits of labels, or [N, ...] numbers, each; or trees of such."""
        if not isinstance(members[0], torch.Tensor):
            return mapped(lambda *outputs: self.averaged(outputs), *members)
        outputs = torch.stack(list(members))
        log_weights = self.log_weights.view(-1, *(1 for _ in outputs.shape[1:]))
        if self.kind == "classification":
            return (outputs.log_softmax(2) + log_weights).logsumexp(0)
        if self.kind == "multilabel":
            return torch.logit((outputs.sigmoid() * log_weights.exp()).sum(0), eps=1e-7)
        return (outputs * log_weights.exp()).sum(0)
