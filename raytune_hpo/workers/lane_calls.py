"""What a lane pool and a lane array say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raytune_hpo.journal.events import Warned
from raytune_hpo.workers.messages import Assignment, Outcome


@dataclass(frozen=True)
class Order:
    """What the driver wants of a slot: start a trial, let it go on to `until`, or free the slot.

    ticket: of the slot's trial; outcomes carry it back.
    """

    kind: Literal["start", "step", "release"]
    slot: int
    ticket: int
    until: int = 0
    trial: Assignment | None = None


@dataclass(frozen=True)
class Turn:
    """What came of a call: (slot, ticket, outcome) each; busy: lanes may train on without orders; lanes: how many
    fit now; warned: what the trials' code warned of."""

    outcomes: tuple[tuple[int, int, Outcome], ...]
    busy: bool
    lanes: int
    warned: tuple[Warned, ...] = ()
