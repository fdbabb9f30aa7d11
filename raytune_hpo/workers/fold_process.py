"""Trainers in processes of their own: how the folds of one trial run side by side on several CPUs.

The processes are Ray actors that claim no resources, since their trial has claimed the CPUs; they die with
the worker that started them.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import ray
from ray import cloudpickle

from raytune_hpo.errors import TrialError
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.trainer import Trainer
from raytune_hpo.workers.imports import Imports, of_this_process


class FoldProcess:
    """Holds the trainers of some folds of the running trial, one thread for all."""

    def __init__(self, imports: Imports, recipe: bytes) -> None:
        import torch

        torch.set_num_threads(1)
        imports.take()
        self._recipe: Recipe = pickle.loads(recipe)
        self._trainers: dict[int, Trainer] = {}

    def make(self, fold: int, data: TrialData) -> None:
        self._trainers[fold] = self._recipe.trainer(data, "cpu")

    def call(self, fold: int, method: str, *arguments: Any) -> tuple[Any, int]:
        """(the answer, the trainer's epoch after it). Raises what the trainer raises."""
        trainer = self._trainers[fold]
        return getattr(trainer, method)(*arguments), trainer.epoch if method != "setup" else 0


def start_processes(recipe: Recipe, count: int) -> list[Any]:
    actor = ray.remote(FoldProcess).options(num_cpus=0, max_restarts=0)
    pickled = cloudpickle.dumps(recipe)
    return [actor.remote(of_this_process(), pickled) for _ in range(count)]


class RemoteTrainer(Trainer):
    """A trainer that lives in a FoldProcess."""

    def __init__(self, process: Any, fold: int, data: TrialData) -> None:
        self._process = process
        self._fold = fold
        self._epoch = 0
        self._call_made = process.make.remote(fold, data)

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            ray.get(self._call_made)
            answer, self._epoch = ray.get(self._process.call.remote(self._fold, method, *arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, TrialError) else error from None
        return answer

    def setup(self, config: Mapping[str, Any], seed: int) -> None:
        self._call("setup", dict(config), seed)

    def train_epoch(self) -> dict[str, float]:
        metrics: dict[str, float] = self._call("train_epoch")
        return metrics

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self._call("state_dict")
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._call("load_state_dict", dict(state))

    def close(self) -> None:
        self._call("close")

    @property
    def epoch(self) -> int:
        return self._epoch
