"""What a search algorithm remembers: its suggestions and their fates.

Notations: as in `algorithm`: a value is a loss, to be minimized; NaN is one that was not finite.
    levels  [K] epochs, rising to max_epochs (`fidelity.levels`)
    marks   the best loss of a trial up to each of the levels that it has passed; infinite where none was finite
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

    value           None while pending, NaN if it failed, else the best one
    outcome, epoch  how it ended and after which epoch; None and 0 while pending
    marks           what it has shown at the levels, also while it is pending
    """

    trial_id: str
    config: Config
    unit: Vector = field(repr=False)
    value: float | None = None
    outcome: Outcome | None = None
    epoch: int = 0
    marks: list[float] = field(default_factory=list)
    best: float = math.inf  # so far
    heard: int = 0  # of the marks, those of reports; the others are what its end stands for

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

    def hear(self, epoch: int, loss: float, levels: Sequence[int]) -> None:
        """A report, NaN where it is not finite."""
        self.best = min(self.best, loss)
        self._only_heard()
        self._mark(epoch, self.best, levels)
        self.heard = len(self.marks)

    def end(self, outcome: Outcome, loss: float, epoch: int, levels: Sequence[int], through: int) -> None:
        """How it ended. through: the epoch up to which its value is that of every level that it has not passed."""
        self.value, self.outcome, self.epoch = loss, outcome, epoch
        self._only_heard()
        if not self.failed:
            self._mark(through, loss, levels)

    def _only_heard(self) -> None:
        """Forget what an earlier end stood for."""
        del self.marks[self.heard :]

    def _mark(self, epoch: int, best: float, levels: Sequence[int]) -> None:
        while len(self.marks) < len(levels) and levels[len(self.marks)] <= epoch:
            self.marks.append(best)

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial_id,
            "config": self.config,
            "outcome": None if self.outcome is None else self.outcome.value,
            "value": None if self.failed else self.value,
            "epoch": self.epoch,
            "heard": self.heard,
            "marks": [None if math.isinf(m) else m for m in self.marks],
            "best": None if math.isinf(self.best) else self.best,
        }

    def load_fate(self, data: Mapping[str, Any]) -> None:
        """Take over from `to_json`'s answer what became of it."""
        self.marks = [math.inf if m is None else float(m) for m in data["marks"]]
        self.best = math.inf if data["best"] is None else float(data["best"])
        self.heard = int(data["heard"])
        if data["outcome"] is not None:
            self.value = math.nan if data["value"] is None else float(data["value"])
            self.outcome, self.epoch = Outcome(data["outcome"]), data["epoch"]


class History:
    """The suggestions in order, and what became of them.

    levels  as above
    trials  the suggestions
    ended   positions in `trials`, in the order in which they first ended
    shown   what has been seen, in order: (position, index of the level that it passed, or FAILED)
    """

    FAILED = -1

    def __init__(self, levels: Sequence[int]) -> None:
        self.levels = tuple(levels)
        self.trials: list[Suggestion] = []
        self.ended: list[int] = []
        self.shown: list[tuple[int, int]] = []
        self.position: dict[str, int] = {}

    def __getitem__(self, trial_id: str) -> Suggestion:
        return self.trials[self.position[trial_id]]

    def add(self, trial_id: str, config: Config, unit: Vector) -> None:
        self.position[trial_id] = len(self.trials)
        self.trials.append(Suggestion(trial_id, config, unit))

    def report(self, trial_id: str, epoch: int, loss: float) -> None:
        """loss: NaN where it is not finite."""
        suggestion = self[trial_id]
        before = len(suggestion.marks)
        suggestion.hear(epoch, loss, self.levels)
        self._show(suggestion, before)

    def end(self, trial_id: str, outcome: Outcome, loss: float, epoch: int, through: int | None = None) -> None:
        """How a trial ended. Told again, the later takes the place of the earlier. through: as of `Suggestion.end`,
        unless given the epoch."""
        suggestion, position = self[trial_id], self.position[trial_id]
        before = len(suggestion.marks)
        if suggestion.pending:
            self.ended.append(position)
        elif suggestion.failed:
            self.shown.remove((position, self.FAILED))
        suggestion.end(outcome, loss, epoch, self.levels, epoch if through is None else through)
        self._show(suggestion, before)
        if suggestion.failed:
            self.shown.append((position, self.FAILED))

    def _show(self, suggestion: Suggestion, before: int) -> None:
        position = self.position[suggestion.trial_id]
        self.shown += [(position, level) for level in range(before, len(suggestion.marks))]

    def known(self) -> list[Suggestion]:
        """Those that have ended, or shown something."""
        return [s for s in self.trials if s.marks or not s.pending]

    def as_of(self, count: int) -> list[Suggestion]:
        """The known ones as they were when the first `count` of `shown` had been seen: a function of these alone."""
        levels: dict[int, int] = {}
        failed = set()
        for position, level in self.shown[:count]:
            levels[position] = max(levels.get(position, 0), level + 1)
            if level == self.FAILED:
                failed.add(position)
        found = []
        for position, passed in sorted(levels.items()):
            s = self.trials[position]
            value = math.nan if position in failed else None
            found.append(Suggestion(s.trial_id, s.config, s.unit, value, marks=s.marks[:passed]))
        return found

    def to_json(self) -> dict[str, Any]:
        return {"history": [s.to_json() for s in self.trials], "order": list(self.ended), "shown": list(self.shown)}

    def load(self, data: Mapping[str, Any], units: Sequence[Vector]) -> None:
        """Take over `to_json`'s answer. units: of its configs."""
        self.trials, self.position = [], {}
        for row, unit in zip(data["history"], units, strict=True):
            self.add(row["trial"], row["config"], unit)
            self.trials[-1].load_fate(row)
        self.ended = list(data["order"])
        self.shown = [(int(position), int(level)) for position, level in data["shown"]]
