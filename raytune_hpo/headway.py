"""Headway: what a long function says of its way. Who shows that, and whether anybody does, is not its concern.

A function that may take minutes has the argument `headway: Headway = UNSEEN`, names what it does next (`begin`) and
says how much of that is done (`made`).
"""

from __future__ import annotations


class Headway:
    """Told of a long function's way. This one shows nothing; that of `display.headway_bar` is shown."""

    def begin(self, what: str, total: float | None = None) -> None:
        """The next part of the work; the part before is over.

        what: in words, for people. total: how much of it there is, in units that take about as long as each other
        (epochs, samples, checkpoints); None where that is not known.
        """

    def made(self, amount: float = 1) -> None:
        """So many units more of it are done."""


UNSEEN = Headway()
