"""What a person sees while a run goes on: a header, one bar (or a line now and then), distinct failures.

Everything goes to one console: stdout for people, stderr when stdout carries JSON. It is a listener: what it shows is
what the journal says.
"""

from __future__ import annotations

import os
import time

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raytune_hpo.display.summary import duration, header
from raytune_hpo.journal import events
from raytune_hpo.journal.events import Event, Step
from raytune_hpo.listeners.listener import Listener, RunView
from raytune_hpo.printable import printable, printable_lines
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.states import Outcome, Status

LINE_EVERY_S = 5.0
WHERE = {
    events.Executor.PROCESSES: "trials train in processes of their own",
    events.Executor.LANES: "trials train side by side, as lanes of shared processes",
    events.Executor.INLINE: "trials train in this process, one after the other",
    events.Executor.INLINE_LANES: "trials train in this process, side by side as lanes",
}


class Progress(Listener):
    """The listener of the command line."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self.console = console
        self.quiet = quiet
        self._live: Live | None = None
        self._last_line = 0.0
        self._shown = ""
        self._failures: set[str] = set()  # those that were said: their places in the code, or their texts
        self._fresh = False  # whether the events are of this session, and so news
        self._began = time.monotonic()
        self._done_before = 0

    def begin(self, run: RunView) -> None:
        self.run, self.ledger = run, Ledger(run.objective)
        if self.quiet:
            return
        self.say(header(run))
        if run.experiment["executor"] in (events.Executor.PROCESSES, events.Executor.LANES):
            self._show_bar()

    def _show_bar(self) -> None:
        """Not where trials train in this process: what their code prints, and a debugger, have the terminal then."""
        if self.console.is_terminal and self._live is None and not self.quiet:
            self._live = Live(Text("starting workers"), console=self.console, refresh_per_second=4, transient=True)
            self._live.start()

    def event(self, number: int, event: Event, step: Step) -> None:
        self.ledger.seconds = step.t
        warnings = len(self.ledger.warnings)
        self.ledger.apply(event)
        if isinstance(event, events.SessionOpened) and event.pid == os.getpid():
            self._fresh, self._began, self._done_before = True, time.monotonic(), self._finished
            if not event.executor.is_inline:
                self._show_bar()
            self.say(WHERE[event.executor] + (f": {event.reason}" if event.reason else ""))
        elif self._fresh:
            self.news(event)
            if isinstance(event, events.Warned) and len(self.ledger.warnings) > warnings:  # the run's first of its kind
                self.say(f"{event.trial} warned: {list(self.ledger.warnings.values())[-1].line}", style="yellow")

    def news(self, event: Event) -> None:
        """An event of this session."""
        if isinstance(event, events.Noticed):
            self.say(event.text, style="yellow")
        elif isinstance(event, events.ExecutorChanged):
            self.say(f"from here on {WHERE[event.executor]}: {event.reason}")
            self._show_bar()
        elif isinstance(event, events.Retried):
            self._failure(event.trial, event.error, event.file)
        elif isinstance(event, events.Ended) and event.outcome == Outcome.FAILED:
            self._failure(event.trial, event.error or event.reason, event.file)

    def say(self, text: str, style: str | None = None) -> None:
        if not self.quiet:
            self.console.print(printable_lines(text), style=style, soft_wrap=True, highlight=False, markup=False)

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _failure(self, trial_id: str, error: str, file: str | None) -> None:
        """One line per distinct failure, when it is first seen; the closing summary counts them."""
        if (file or error) not in self._failures:
            self._failures.add(file or error)
            where = f" (traceback: {file})" if file else ""
            self.say(f"{trial_id}: {error}{where}", style="red")

    @property
    def _finished(self) -> int:
        return len(self.ledger.trials) - len(self.ledger.live)

    def idle(self) -> None:
        ledger, now = self.ledger, time.monotonic()
        if self.quiet or not self._fresh or (self._live is None and now - self._last_line < LINE_EVERY_S):
            return
        self._last_line = now
        finished = self._finished
        total = len(ledger.trials) if ledger.exhausted else int(self.run.experiment["num_samples"])
        if not ledger.trials:
            parts = ["starting workers"]
        else:
            running, stopped = ledger.counts[Status.RUNNING], ledger.counts[Status.STOPPED]
            parts = [f"{finished}/{total} trials", f"{running} running", f"{stopped} stopped early"]
        others = (Status.PAUSED, Status.DIVERGED, Status.FAILED)
        parts += [f"{ledger.counts[status]} {status}" for status in others if ledger.counts[status]]
        best = ledger.best_trial
        if best is not None and best.best is not None:
            parts.append(f"best {ledger.objective.metric} {best.best:.5g} ({best.id})")
        left = self._time_left(finished, total, now)
        if left is not None:
            parts.append(f"{duration(left)} left")
        text = Text(printable("  ".join(parts)))
        if self._live is None:
            if text.plain != self._shown:
                self.say(text.plain)
                self._shown = text.plain
            return
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(total=max(total, 1), completed=finished, width=24), text)
        self._live.update(row)

    def _time_left(self, finished: int, total: int, now: float) -> float | None:
        done = finished - self._done_before
        if done < 2 or finished >= total:
            return None
        return (now - self._began) / done * (total - finished)
