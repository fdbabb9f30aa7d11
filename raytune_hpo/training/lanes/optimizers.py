"""The rules' updates over rows, with every hyperparameter a number a lane. L: lanes, P: a lane's weights.

A rule says what it reads and how a step goes (`rules.rule`); here is what all of them share: the numbers of an epoch
laid out as columns once, and as many rows at a time as the processor keeps at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.rules import RULES
from raytune_hpo.training.rules.rule import Epoch, Rows

Tensor = torch.Tensor

#: Rows that an update takes at a time on a CPU: what it touches then stays in the cache.
CPU_ROWS = 16


class Updates:
    """The updates of one epoch for neighbouring lanes of one optimizer.

    configs: resolved ones. lrs: [steps, L], a learning rate for every step. done: [L], optimizer steps taken before.
    """

    def __init__(
        self,
        optimizer: str,
        configs: Sequence[Mapping[str, Any]],
        lrs: np.ndarray[Any, Any],
        done: Sequence[int],
        like: Tensor,
    ) -> None:
        self._rule = RULES[optimizer]
        self._like = like
        columns = {name: self._column(c) for name, c in self._rule.columns(Epoch(configs, lrs, done)).items()}
        self._fixed = [(name, column) for name, column in columns.items() if column.dim() == 2]
        self._by_step = [(name, column) for name, column in columns.items() if column.dim() == 3]

    def _column(self, values: np.ndarray[Any, Any]) -> Tensor:
        """[..., L, 1], in the weights' own precision and place."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._like)[..., None]

    def apply(self, step: int, rows: Rows) -> None:
        """The update of the epoch's step `step` (from 0)."""
        count = len(rows.weights)
        size = CPU_ROWS if self._like.device.type == "cpu" else count
        for start in range(0, count, size):
            at = slice(start, min(start + size, count))
            columns = {name: column[at] for name, column in self._fixed}
            for name, column in self._by_step:
                columns[name] = column[step, at]
            self._rule.update_rows(columns, rows.part(at.start, at.stop))


def clip(gradient: Tensor, largest: Tensor) -> None:
    """Scale each row of [L, P] down to the norm `largest`, [L, 1]; 0 leaves it. As torch's clip_grad_norm_."""
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    gradient.mul_(torch.where(largest > 0, factor, torch.ones_like(factor)))
