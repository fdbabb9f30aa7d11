"""What a person sees while a run goes on: a header, one bar (or a line now and then), distinct failures.

Everything goes to one console: stdout for people, stderr when stdout carries JSON.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raytune_hpo.execution.run import Silent
from raytune_hpo.experiment import Experiment
from raytune_hpo.report.summary import duration, header
from raytune_hpo.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from raytune_hpo.execution.population import Population

LINE_EVERY_S = 5.0


class Progress(Silent):
    """The listener of the command line."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self.console = console
        self.quiet = quiet
        self._live: Live | None = None
        self._last_line = 0.0
        self._shown = ""
        self._failures: dict[str, tuple[str, list[str]]] = {}  # by place: its first line, its trials
        self._samples = 0
        self._began = time.monotonic()
        self._done_before: int | None = None

    def opened(self, run: RunDirectory, experiment: Experiment, resumed: bool) -> None:
        self._samples = experiment.samples
        if self.quiet:
            return
        self.console.print(header(run, experiment, resumed), soft_wrap=True, highlight=False, markup=False)
        if self.console.is_terminal:
            self._live = Live(Text("starting workers"), console=self.console, refresh_per_second=4, transient=True)
            self._live.start()

    def started(self, executor: str) -> None:
        if executor == "lanes" and not self.quiet:
            self.console.print(
                "trials train side by side, as lanes of shared processes", soft_wrap=True, highlight=False, markup=False
            )

    def closed(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if not self.quiet:
            for first, trials in self._failures.values():
                if len(trials) > 1:
                    self.console.print(
                        f"{len(trials)} times: {first}", style="red", soft_wrap=True, highlight=False, markup=False
                    )

    def failure(self, trial_id: str, error: str, file: str | None) -> None:
        """One line per distinct failure, when it is first seen; the counts come at the end."""
        where = f" (traceback: {file})" if file else ""
        _, seen = self._failures.setdefault(file or error, (error + where, []))
        seen.append(trial_id)
        if len(seen) == 1 and not self.quiet:
            self.console.print(
                f"{trial_id}: {error}{where}", style="red", soft_wrap=True, highlight=False, markup=False
            )

    def notice(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text, style="yellow", soft_wrap=True, highlight=False, markup=False)

    def interrupted(self) -> None:
        if not self.quiet:
            self.console.print("stopping: running epochs are ending and are being saved; again to stop at once")

    def update(self, population: Population, workers: int) -> None:
        ledger = population.ledger
        finished = len(ledger.trials) - len(ledger.live)
        if self._done_before is None:
            self._done_before, self._began = finished, time.monotonic()
        now = time.monotonic()
        if self.quiet or (self._live is None and now - self._last_line < LINE_EVERY_S):
            return
        self._last_line = now
        total = len(ledger.trials) if ledger.exhausted else self._samples
        if not ledger.trials:
            parts = ["starting workers"]
        else:
            parts = [f"{finished}/{total} trials", f"{workers} running", f"{ledger.counts['stopped']} stopped early"]
        parts += [
            f"{ledger.counts[status]} {status}" for status in ("paused", "diverged", "failed") if ledger.counts[status]
        ]
        best = ledger.best_trial
        if best is not None and best.best is not None:
            parts.append(f"best {ledger.metric} {best.best:.5g} ({best.id})")
        left = self._time_left(finished, total, now)
        if left is not None:
            parts.append(f"{duration(left)} left")
        text = Text("  ".join(parts))
        if self._live is None:
            if text.plain != self._shown:
                self.console.print(text, soft_wrap=True, highlight=False, markup=False)
                self._shown = text.plain
            return
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(total=max(total, 1), completed=finished, width=24), text)
        self._live.update(row)

    def _time_left(self, finished: int, total: int, now: float) -> float | None:
        done = finished - (self._done_before or 0)
        if done < 2 or finished >= total:
            return None
        return (now - self._began) / done * (total - finished)
