"""A fused trainer of one lane, as a Trainer: to train a lane's epochs again by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_hpo.training.data import TrialData
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.task import Task
from raytune_hpo.training.trainer import Trainer

NAME = "lane"


class OneLane(Trainer):
    """Gives the numbers of a lane among many: to the bit for linear layers, up to rounding otherwise."""

    def __init__(self, task: Task, data: TrialData, *, max_epochs: int, device: str | None = None) -> None:
        self._fused = FusedTrainer(task, data, max_epochs=max_epochs, device=device)

    def setup(self, config: Mapping[str, Any], seed: int) -> None:
        self._config, self._seed = dict(config), seed
        self._fused.enter(NAME, config, seed)

    def train_epoch(self) -> dict[str, float]:
        return self._fused.train_epoch()[NAME]

    def state_dict(self) -> dict[str, Any]:
        return self._fused.state_dict(NAME)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._fused.enter(NAME, self._config, self._seed, state)

    @property
    def epoch(self) -> int:
        return self._fused.epoch(NAME)
