"""What a person sees while a run goes on: a header, one bar (or a line now and then), distinct failures.

Everything goes to one console: stdout for people, stderr when stdout carries JSON.
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raytune_hpo.display.headway_bar import LINE_EVERY_S, WIDTH
from raytune_hpo.display.run_watch import RunWatch
from raytune_hpo.display.summary import header
from raytune_hpo.journal.events import Executor
from raytune_hpo.listeners.listener import RunView
from raytune_hpo.printable import printable, printable_lines

DRAWN_EVERY_S = 0.5


class Progress(RunWatch):
    """The listener of the command line."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        super().__init__()
        self.console = console
        self.quiet = quiet
        self._live: Live | None = None
        self._last_line = 0.0
        self._shown = ""

    def begin(self, run: RunView) -> None:
        super().begin(run)
        if self.quiet:
            return
        self.say(header(run))
        if run.experiment["executor"] in (Executor.PROCESSES, Executor.LANES):
            self._show_bar()

    def opened(self, where: Executor) -> None:
        if not where.is_inline:
            self._show_bar()

    def _show_bar(self) -> None:
        """Not where trials train in this process: what their code prints, and a debugger, have the terminal then."""
        if self.console.is_terminal and self._live is None and not self.quiet:
            self._live = Live(Text("starting workers"), console=self.console, refresh_per_second=4, transient=True)
            self._live.start()

    def say(self, text: str, style: str | None = None) -> None:
        if not self.quiet:
            self.console.print(printable_lines(text), style=style, soft_wrap=True, highlight=False, markup=False)

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def idle(self) -> None:
        now = time.monotonic()
        every = LINE_EVERY_S if self._live is None else DRAWN_EVERY_S
        if self.quiet or not self._fresh or now - self._last_line < every:
            return
        self._last_line = now
        done, left = self.epochs()
        text = Text(printable("  ".join(filter(None, [*self.counted(), self.best(), self.left(left)]))))
        if self._live is None:
            if text.plain != self._shown:
                self.say(text.plain)
                self._shown = text.plain
            return
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(total=max(done + left, 1), completed=done, width=WIDTH), text)
        self._live.update(row)
