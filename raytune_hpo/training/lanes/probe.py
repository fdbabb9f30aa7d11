"""Whether lanes can train a task, and whether they are faster, found by training a few steps of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.data import Split, TrialData
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.trainer import SupervisedTrainer

LANES = 8
STEPS = 4
#: A step of one model that takes this long on a CPU keeps it busy with arithmetic alone: stacking has nothing to save.
LONG_STEP_S = 0.03
SMALLEST_GAIN = 1.1


def refusal(recipe: Recipe, data: TrialData, config: Mapping[str, Any], device: str) -> str | None:
    """Why the task's trials are better trained in processes; None where lanes are faster.

    config: a usual one of the space. Trains LANES models of it for a few steps both ways.
    """
    few = _part(data, config)

    def solo() -> None:
        trainer.train_epoch()

    try:
        trainer = SupervisedTrainer(recipe.task, few, max_epochs=recipe.max_epochs, device=device)
        trainer.setup(config, 0)
        alone = _seconds(solo, device)
        if device == "cpu" and alone / STEPS > LONG_STEP_S:
            return f"a step of one model takes {alone / STEPS:.2g} s by itself, lanes have nothing to save"
        fused = FusedTrainer(recipe.task, few, max_epochs=recipe.max_epochs, device=device, chunk=LANES)
        for lane in range(LANES):
            fused.enter(str(lane), config, lane)
        together = _seconds(fused.train_epoch, device) / LANES
    except TrialError as error:
        return str(error)
    if fused.unfusable is not None:
        return fused.unfusable
    gain = alone / together
    return None if gain >= SMALLEST_GAIN else f"{LANES} lanes train at {gain:.1f} times the speed of one model"


def _part(data: TrialData, config: Mapping[str, Any]) -> TrialData:
    """Enough samples for a few steps, and as many to validate on."""
    samples = STEPS * int(config.get("batch_size", 64))

    def first(split: Split) -> Split:
        return Split(split.x[:samples], split.y[:samples])

    return TrialData(first(data.train), first(data.validation))


def _seconds(epoch: Callable[[], object], device: str) -> float:
    """Of an epoch once it is warm: the quicker of two. On a CPU its own time, whatever else runs there."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    found = []
    for _ in range(3):
        before = clock()
        epoch()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(clock() - before)
        if found[0] > 10 * STEPS * LONG_STEP_S:
            break
    return min(found[1:] or found)
