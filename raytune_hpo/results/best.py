"""The winner of a run, as it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_hpo.results.trial import finite


@dataclass(frozen=True)
class Best:
    """The winner. metric: the objective at its best epoch; validation: all metrics of that epoch;
    test: the test metrics of its checkpoint, None until the run has finished (or without a test split);
    checkpoint: its best one, None if it saved none: of a task what `raytune_hpo.load_state` reads (a folder, or
    FILE#LANE), of a function the folder that it reported; replicates: `replicates.Contender.summary`, None where it was
    not trained again."""

    trial_id: str
    config: dict[str, Any]
    metric: float
    epoch: int
    validation: dict[str, Any]
    test: dict[str, Any] | None
    checkpoint: Path | None
    checkpoint_epoch: int | None
    replicates: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "trial_id": self.trial_id,
            "config": self.config,
            "metric": self.metric,
            "epoch": self.epoch,
            "validation": finite(self.validation),
            "test": self.test,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "checkpoint_epoch": self.checkpoint_epoch,
            "replicates": self.replicates,
        }
