"""What a search algorithm remembers: its suggestions and their fates, and what is known from elsewhere.

Notations: as in `algorithm`: a value is a loss, to be minimized; a curve has one for each epoch of which there was a
report, NaN where it was not finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raytune_hpo.space import Vector
from raytune_hpo.space.configs import Config
from raytune_hpo.states import Outcome


@dataclass
class Suggestion:
    """One suggestion and its fate.

    value           None while pending, NaN if it failed, else to be minimized
    outcome, epoch  how it ended and after which epoch; None and 0 while pending
    """

    trial_id: str
    config: Config
    unit: Vector = field(repr=False)
    value: float | None = None
    curve: dict[int, float] = field(default_factory=dict, repr=False)
    outcome: Outcome | None = None
    epoch: int = 0

    @property
    def pending(self) -> bool:
        return self.value is None

    @property
    def failed(self) -> bool:
        return self.value is not None and math.isnan(self.value)

    @property
    def loss(self) -> float:
        """The value, infinite where there is none: while pending, and of a failed trial."""
        return math.inf if self.value is None or math.isnan(self.value) else self.value

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial_id,
            "config": self.config,
            "outcome": None if self.outcome is None else self.outcome.value,
            "value": None if self.failed else self.value,
            "epoch": self.epoch,
            "curve": _curve_to_json(self.curve),
        }

    def load_fate(self, data: Mapping[str, Any]) -> None:
        """Take over from `to_json`'s answer what became of it."""
        self.curve = _curve_from_json(data["curve"])
        if data["outcome"] is not None:
            self.value = math.nan if data["value"] is None else float(data["value"])
            self.outcome, self.epoch = Outcome(data["outcome"]), data["epoch"]


@dataclass(frozen=True)
class Evidence:
    """What is known of a config from elsewhere. curve: as of a suggestion; source: where from, in words."""

    config: Config
    curve: dict[int, float] = field(repr=False)
    source: str

    def to_json(self) -> dict[str, Any]:
        return {"config": self.config, "curve": _curve_to_json(self.curve), "source": self.source}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        return cls(data["config"], _curve_from_json(data["curve"]), data["source"])


def _curve_to_json(curve: Mapping[int, float]) -> list[list[Any]]:
    return [[epoch, None if math.isnan(value) else value] for epoch, value in curve.items()]


def _curve_from_json(rows: Sequence[Sequence[Any]]) -> dict[int, float]:
    return {int(epoch): math.nan if value is None else float(value) for epoch, value in rows}
