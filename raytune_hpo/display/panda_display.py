"""What a person sees of a panda: its curve, its learning rate, and every intervention as it happens."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from raytune_hpo.display.headway_bar import LINE_EVERY_S
from raytune_hpo.display.progress import Progress
from raytune_hpo.display.summary import shown_config, shown_value
from raytune_hpo.display.terminal_chart import chart
from raytune_hpo.journal import events
from raytune_hpo.journal.events import Event, Step
from raytune_hpo.listeners.listener import RunView
from raytune_hpo.printable import printable
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space.configs import flatten

WIDTH, HEIGHT, RATE_HEIGHT = 72, 8, 3


class PandaProgress(Progress):
    """The listener of `raytune-hpo panda`, and of `resume` on its runs. start: where the first config comes from."""

    def __init__(self, console: Console, *, quiet: bool, start: str | None = None) -> None:
        super().__init__(console, quiet=quiet)
        self._start = start

    def begin(self, run: RunView) -> None:
        super().begin(run)
        if self._start is not None:
            self.say(f"starts with {self._start}: {shown_config(run.experiment['start_points'][0])}")
        self._parameter = run.experiment["scheduler"]["parameter"]
        self._metric = run.objective.metric
        self._curve: list[float] = []
        self._rates: list[float] = []

    def event(self, number: int, event: Event, step: Step) -> None:
        super().event(number, event, step)
        if isinstance(event, events.Reported):
            self._add(event.metrics)

    def news(self, event: Event) -> None:
        super().news(event)
        line = intervention(event)
        if line is not None:
            self.say(line, style="cyan")

    def idle(self) -> None:
        trial = next(iter(self.ledger.trials.values()), None)
        if self.quiet or trial is None or not self._curve:
            return
        line = self._line(trial)
        if self._live is not None:
            self._draw(self._live, line)
        elif self._fresh and time.monotonic() - self._last_line >= LINE_EVERY_S and line != self._shown:
            self._last_line, self._shown = time.monotonic(), line
            self.say(line)

    def _add(self, metrics: dict[str, Any]) -> None:
        self._curve.append(float(metrics[self._metric]))
        if self._parameter in metrics:
            self._rates.append(float(metrics[self._parameter]))

    def _line(self, trial: TrialState) -> str:
        last = trial.limit or self.run.experiment["max_epochs"]
        parts = [f"epoch {trial.epoch} of {last} ({len(self._curve)} trained)"]
        parts += [f"{k} {shown_value(v)}" for k, v in trial.metrics.items() if isinstance(v, float)]
        if trial.best is not None:
            parts.append(f"best {trial.best:.5g} at epoch {trial.best_epoch}")
        if self.ledger.held:
            parts.append("PAUSED: raytune-hpo resume RUN_DIR")
        else:
            parts += filter(None, [self.left(last - trial.epoch)])
        return "  ".join(parts)

    def _draw(self, live: Live, line: str) -> None:
        drawn = [Text(printable(self._metric)), *map(Text, chart(self._curve, WIDTH, HEIGHT))]
        if self._rates:
            drawn += [Text("learning rate"), *map(Text, chart(self._rates, WIDTH, RATE_HEIGHT))]
        live.update(Group(*drawn, Text(printable(line))))


def intervention(event: Event) -> str | None:
    """A perturb event as one line: when, from where, why, what changed; or what care had to say of a report."""
    if isinstance(event, events.Decided):
        return f"epoch {event.epoch}: {event.note}" if event.note is not None else None
    if not isinstance(event, events.Perturbed):
        return None
    before, after = flatten(event.old_config), flatten(event.new_config)
    where = f"epoch {event.epoch}"
    if event.donor_epoch != event.epoch:
        where += f" -> {event.donor_epoch}"
    changes = [
        f"{k} {shown_value(before.get(k, 'default'))} -> {shown_value(v)}"
        for k, v in after.items()
        if k not in before or before[k] != v
    ]
    changes += [f"{k} {shown_value(v)} -> inactive" for k, v in before.items() if k not in after]
    return f"{where}: {event.reason}" + (f"; {', '.join(changes)}" if changes else "")
