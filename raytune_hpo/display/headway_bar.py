"""A long verb's headway, as people see it: on a terminal a bar that changes in place, else a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raytune_hpo.display.summary import duration
from raytune_hpo.headway import Headway
from raytune_hpo.printable import printable

LINE_EVERY_S = 5.0
WIDTH = 24
#: Below so much of the work, or so many seconds of it, what is left is not told: it would be a guess.
TOLD_FROM, TOLD_AFTER_S = 0.02, 1.0


def time_left(elapsed_s: float, done: float, total: float) -> float | None:
    """Seconds that the rest takes if it goes on as it went; None where that is not known yet, or nothing is left."""
    if done >= total or done < TOLD_FROM * total or elapsed_s < TOLD_AFTER_S or done <= 0:
        return None
    return elapsed_s / done * (total - done)


class PartOfWork:
    """What is done at the moment, how much of it there is, and how long it has taken."""

    def __init__(self, what: str, total: float | None) -> None:
        self.what, self.total, self.done = what, total, 0.0
        self.began = time.monotonic()

    def line(self) -> str:
        """In words: how far it is, and how long the rest of it takes."""
        elapsed = time.monotonic() - self.began
        if self.total is None:
            return printable(f"{self.what}  {duration(elapsed)}")
        left = time_left(elapsed, self.done, self.total)
        parts = [f"{self.what} {self.done:.0f}/{self.total:.0f}", *([] if left is None else [f"{duration(left)} left"])]
        return printable("  ".join(parts))


class ShownHeadway(Headway):
    """Base of what shows headway: a context, within which `show` is asked for what is done every `every_s` seconds."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self.part: PartOfWork | None = None
        self._last = 0.0  # when something was shown; at first, when the first part was begun

    def show(self, part: PartOfWork) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, what: str, total: float | None = None) -> None:
        part = PartOfWork(what, total)
        if self.part is None:
            self._last = part.began
        self.part = part
        self._maybe_show(part)

    def made(self, amount: float = 1) -> None:
        if self.part is not None:
            self.part.done += amount
            self._maybe_show(self.part)

    def _maybe_show(self, part: PartOfWork) -> None:
        now = time.monotonic()
        if now - self._last >= self._every_s:
            self._last = now
            self.show(part)


class HeadwayBar(ShownHeadway):
    """Shows it on `console`: on a terminal a bar that is gone afterwards."""

    def __init__(self, console: Console) -> None:
        super().__init__(LINE_EVERY_S)
        self._console = console
        self._live: Live | None = None

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def begin(self, what: str, total: float | None = None) -> None:
        super().begin(what, total)
        if self._live is None and self._console.is_terminal:
            self._live = Live(
                get_renderable=self._row,
                console=self._console,
                refresh_per_second=4,
                transient=True,
                # What is printed meanwhile goes above the bar; but not what goes to a file.
                redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            )
            self._live.start()

    def show(self, part: PartOfWork) -> None:
        if self._live is None:
            self._console.print(part.line(), soft_wrap=True, highlight=False, markup=False)

    def _row(self) -> Table:
        row, part = Table.grid(padding=(0, 1)), self.part
        if part is not None:
            total = None if part.total is None else max(part.total, 1e-9)
            bar = ProgressBar(total=total, completed=part.done, width=WIDTH, pulse=total is None)
            row.add_row(bar, Text(part.line()))
        return row
