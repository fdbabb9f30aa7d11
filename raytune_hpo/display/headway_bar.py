"""A long verb's headway, as people see it: on a terminal a bar that changes in place, else a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType

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


class HeadwayBar(Headway):
    """A context: within it, what is begun is shown on `console`, and the bar is gone after it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._what = ""
        self._total: float | None = None
        self._done = 0.0
        self._began = 0.0
        self._last_line: float | None = None  # when; at first, when the first part was begun

    def __enter__(self) -> HeadwayBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def begin(self, what: str, total: float | None = None) -> None:
        now = time.monotonic()
        self._what, self._total, self._done, self._began = what, total, 0.0, now
        self._last_line = now if self._last_line is None else self._last_line
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
        self._maybe_line()

    def made(self, amount: float = 1) -> None:
        self._done += amount
        self._maybe_line()

    def line(self) -> str:
        """What is done, how much of it, and how long it takes still: of this part."""
        elapsed = time.monotonic() - self._began
        if self._total is None:
            return printable(f"{self._what}  {duration(elapsed)}")
        parts = [f"{self._what} {self._done:.0f}/{self._total:.0f}"]
        left = time_left(elapsed, self._done, self._total)
        if left is not None:
            parts.append(f"{duration(left)} left")
        return printable("  ".join(parts))

    def _maybe_line(self) -> None:
        now = time.monotonic()
        if self._live is None and self._last_line is not None and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            self._console.print(self.line(), soft_wrap=True, highlight=False, markup=False)

    def _row(self) -> Table:
        row = Table.grid(padding=(0, 1))
        total = None if self._total is None else max(self._total, 1e-9)
        row.add_row(ProgressBar(total=total, completed=self._done, width=WIDTH, pulse=total is None), Text(self.line()))
        return row
