"""Listener: follows a run's journal.

    begin(run) -> position() -> seen(number, event, step) ... event(number, event, step) ... idle() ... -> end()

Every event comes once, in order, and only when it is on disk. A listener has a thread of its own, so a slow one stalls
nothing. One that raises is reported once and switched off.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_hpo.journal.events import Event, Step
from raytune_hpo.objective import Objective


@dataclass(frozen=True)
class RunView:
    """The run that is followed. experiment: its description as JSON data (`Experiment.from_json` reads it).

    resumed: whether it had been begun before. live: whether it goes on while it is followed.
    """

    path: Path
    run_id: str
    experiment: dict[str, Any]
    resumed: bool = False
    live: bool = True

    @property
    def objective(self) -> Objective:
        return Objective(self.experiment["metric"], self.experiment["mode"])


class Listener:
    """Base of the listeners; every method may be left as it is."""

    def begin(self, run: RunView) -> None:
        """Before anything else, once a session."""

    def position(self) -> int:
        """How many of the run's events are in the listener's sink already: it is told of those after them.

        0 for one that keeps nothing. A sink that can say what it holds gets each event once, through crashes too.
        """
        return 0

    def seen(self, number: int, event: Event, step: Step) -> None:
        """An event that is in the sink already, for those who need to know what came before."""

    def event(self, number: int, event: Event, step: Step) -> None:
        """An event. number: of the run's events, from 0. step: the line that it stands in, with its times."""

    def idle(self) -> None:
        """All that there is has been told; called now and then, also while nothing happens."""

    def end(self) -> None:
        """The session is over and everything has been told."""
