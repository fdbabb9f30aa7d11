"""How long a trial's epoch takes, by itself and as a lane: found by training a few steps of some configs."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.training.checkpoint import save_state
from raytune_hpo.training.data import STREAMED, ArraySplit, Stream, TrialData
from raytune_hpo.training.recipe import Recipe

STEPS = 4
#: A step of one model that takes this long on a CPU keeps it busy with arithmetic alone: stacking has nothing to save.
LONG_STEP_S = 0.03
SMALLEST_GAIN = 1.1
#: Of all configs alone; then those measured so far have to do.
MOST_S = 0.3


@dataclass(frozen=True)
class Speed:
    """alone_s: an epoch of one trial, with its validation and its checkpoint, the mean over the configs. lane_s: the
    same as one of many lanes, None where it was not measured. refusal: why lanes are not worth it, None where they
    are."""

    alone_s: float
    lane_s: float | None
    refusal: str | None

    @property
    def epoch_s(self) -> float:
        return self.alone_s if self.refusal is not None or self.lane_s is None else self.lane_s


def measured(
    recipe: Recipe,
    loaded: TrialData,
    configs: Sequence[Mapping[str, Any]],
    device: str,
    refusal: str | None,
    checkpoint_every: int = 1,
) -> Speed:
    """Trains the configs for a few steps, each alone and then all as lanes.

    loaded: what trials see of the data. refusal: why there can be no lanes, where that is known already.
    checkpoint_every: epochs between two checkpoints of a trial. Raises what the task's own code raises.
    """
    batches = [int(config.get("batch_size", 64)) for config in configs]
    samples = max(*batches, STEPS * int(statistics.median(batches)), 1)
    if not (isinstance(loaded.train, ArraySplit) and isinstance(loaded.validation, ArraySplit)):
        refusal = refusal or STREAMED
    parts = [_part(data, samples) for data in recipe.data(loaded)]
    whole = len(loaded.train) / len(parts[0].train)
    began = time.perf_counter()
    alone: list[float] = []
    saving: list[float] = []
    for config, batch in zip(configs, batches, strict=True):
        measured_parts = [_alone(recipe, part, config, device) for part in parts]
        alone.append(sum(epoch_s for epoch_s, _ in measured_parts))
        saving.append(sum(save_s for _, save_s in measured_parts) / checkpoint_every)
        step_s = alone[-1] / len(parts) / math.ceil(len(parts[0].train) / batch)
        if refusal is None and device == "cpu" and step_s > LONG_STEP_S:
            refusal = f"a step of one model takes {step_s:.2g} s by itself, lanes have nothing to save"
        if time.perf_counter() - began > MOST_S:
            break
    alone_s = statistics.mean(alone) * whole + statistics.mean(saving)
    if refusal is not None:
        return Speed(alone_s, None, refusal)
    try:
        times, apart = _as_lanes(recipe, parts[0], configs[: len(alone)], [a / len(parts) for a in alone], device)
    except TrialError as error:
        return Speed(alone_s, None, str(error))
    # Lanes write their checkpoints while they train on.
    lane_s = statistics.mean(alone) * whole / times
    if alone_s / lane_s < SMALLEST_GAIN:
        why = "".join(f"; {line}" for line in apart[:1])
        refusal = f"{len(alone)} lanes train at {alone_s / lane_s:.1f} times the speed of one model{why}"
    return Speed(alone_s, lane_s, refusal)


def _alone(recipe: Recipe, part: TrialData, config: Mapping[str, Any], device: str) -> tuple[float, float]:
    """Seconds of (an epoch, the writing of its checkpoint: lanes do that while they train on)."""
    trainer = recipe.trainer(part, device)
    trainer.setup(config, 0)
    epoch_s = _seconds(trainer.train_epoch, device, elsewhere=not isinstance(part.train, ArraySplit))
    trainer.close()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        save_state(trainer.state_dict(), Path(folder) / STATE_FILE)
        return epoch_s, time.perf_counter() - began


def _as_lanes(
    recipe: Recipe, part: TrialData, configs: Sequence[Mapping[str, Any]], alone: Sequence[float], device: str
) -> tuple[float, list[str]]:
    """(how many times as fast lanes are: what they have trained, by the seconds that an epoch of each takes alone, over
    theirs; why lanes of like structure do not share a stack). Raises TrialError where the task cannot be trained so."""
    from raytune_hpo.training.lanes.fused_trainer import FusedTrainer

    fused = FusedTrainer(recipe.task, part, max_epochs=recipe.max_epochs, device=device, chunk=len(configs))
    names = [str(lane) for lane in range(len(configs))]
    for lane, config in enumerate(configs):
        fused.enter(names[lane], config, lane)

    def advance() -> None:
        groups: dict[Any, list[str]] = {}
        for name in names:
            groups.setdefault(fused.group(name), []).append(name)
        for members in groups.values():
            fused.advance(members)

    def trained() -> float:
        return sum(fused.progress_of(name) * alone_s for name, alone_s in zip(names, alone, strict=True))

    clock = time.perf_counter if device == "cuda" else time.process_time
    found: list[tuple[float, float]] = []
    while len(found) < 3 and sum(seconds for seconds, _ in found) < MOST_S:
        before, began = trained(), clock()
        advance()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append((max(clock() - began, 1e-6), trained() - before))
    if fused.unfusable is not None:
        raise TrialError(fused.unfusable)
    warm = found[1:] or found
    return max(times / seconds for seconds, times in warm), fused.apart


def _part(data: TrialData, samples: int) -> TrialData:
    """Enough samples for a few steps, and as large a share of the validation split."""
    train = data.train.first(STEPS if isinstance(data.train, Stream) else samples)
    share = min(1.0, len(train) / len(data.train))
    whole = data.validation.steps if isinstance(data.validation, Stream) else len(data.validation)
    return replace(data, train=train, validation=data.validation.first(max(1, round(share * whole))))


def _seconds(epoch: Callable[[], object], device: str, *, elsewhere: bool = False) -> float:
    """Of an epoch once it is warm: the quicker of two. On a CPU its own time, whatever else runs there.

    elsewhere: other processes do a part of it."""
    clock = time.perf_counter if device == "cuda" or elsewhere else time.process_time
    found = []
    for _ in range(3):
        before = clock()
        epoch()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(clock() - before)
        if sum(found) > MOST_S:
            break
    return max(min(found[1:] or found), 1e-6)
