"""What is to be shown of a run while it goes on, wherever it is shown: what is news, how far it is, how long is left.

It is a listener: what it shows is what the journal says.
"""

from __future__ import annotations

import os
import time

from raytune_hpo.display.epochs_left import epochs_left
from raytune_hpo.display.headway_bar import time_left
from raytune_hpo.display.summary import duration
from raytune_hpo.journal import events
from raytune_hpo.journal.events import Event, Step
from raytune_hpo.listeners.listener import Listener, RunView
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.states import Outcome, Status

WHERE = {
    events.Executor.PROCESSES: "trials train in processes of their own",
    events.Executor.LANES: "trials train side by side, as lanes of shared processes",
    events.Executor.INLINE: "trials train in this process, one after the other",
    events.Executor.INLINE_LANES: "trials train in this process, side by side as lanes",
    events.Executor.ASKED: "trials train in the processes that ask for them",
}
OTHERS = (Status.PAUSED, Status.DIVERGED, Status.FAILED)


class RunWatch(Listener):
    """Base of what shows a run: `say` is how a line of news is shown."""

    def __init__(self) -> None:
        self._failures: set[str] = set()  # those that were said: their places in the code, or their texts
        self._session = 0  # the newest that was shown: of one process there are several where a run is amended
        self._fresh = False  # whether the events are of this session, and so news
        self._began: float | None = None  # training, in this session
        self._trained = 0  # epochs in it

    def say(self, text: str, style: str | None = None) -> None:
        """Show a line. style: "red" of a failure, "yellow" of what people should know, else None or a colour."""

    def opened(self, where: events.Executor) -> None:
        """This session's trials train, or from now on train, there."""

    def begin(self, run: RunView) -> None:
        self.run, self.ledger, self._fresh = run, Ledger(run.objective), False

    def event(self, number: int, event: Event, step: Step) -> None:
        self.ledger.seconds = step.t
        warnings = len(self.ledger.warnings)
        self.ledger.apply(event)
        if isinstance(event, events.SessionOpened) and event.pid == os.getpid() and event.number > self._session:
            self._fresh, self._session = True, event.number
            self.opened(event.executor)
            self.say(WHERE[event.executor] + (f": {event.reason}" if event.reason else ""))
        elif self._fresh:
            self.news(event)
            if isinstance(event, events.Warned) and len(self.ledger.warnings) > warnings:  # the run's first of its kind
                self.say(f"{event.trial} warned: {list(self.ledger.warnings.values())[-1].line}", style="yellow")

    def news(self, event: Event) -> None:
        """An event of this session."""
        match event:
            case events.Reported():
                self._trained += 1
            case events.Started() if self._began is None:
                self._began = time.monotonic()
            case events.Noticed():
                self.say(event.text, style="yellow")
            case events.ExecutorChanged():
                self.say(f"from here on {WHERE[event.executor]}: {event.reason}")
                self.opened(event.executor)
            case events.Retried():
                self._failure(event.trial, event.error, event.file)
            case events.Ended() if event.outcome == Outcome.FAILED:
                self._failure(event.trial, event.error or event.reason, event.file)

    def _failure(self, trial_id: str, error: str, file: str | None) -> None:
        """One line per distinct failure, when it is first seen; the closing summary counts them."""
        if (file or error) not in self._failures:
            self._failures.add(file or error)
            where = f" (traceback: {file})" if file else ""
            self.say(f"{trial_id}: {error}{where}", style="red")

    # How far it is --------------------------------------------------------------------------------

    def counted(self) -> list[str]:
        """The trials that there are, in words."""
        ledger = self.ledger
        if not ledger.trials:
            return ["starting workers"]
        parts = [f"{self.finished} trials", f"{ledger.counts[Status.RUNNING]} running"]
        parts.append(f"{ledger.counts[Status.STOPPED]} stopped early")
        return parts + [f"{ledger.counts[status]} {status}" for status in OTHERS if ledger.counts[status]]

    @property
    def finished(self) -> str:
        """How many trials have ended, of how many in the end."""
        return f"{len(self.ledger.trials) - len(self.ledger.live)}/{self._total}"

    def best(self) -> str | None:
        """The best so far, in words."""
        trial = self.ledger.best_trial
        if trial is None or trial.best is None:
            return None
        return f"best {self.ledger.objective.metric} {trial.best:.5g} ({trial.id})"

    def epochs(self) -> tuple[int, float]:
        """Trained so far, all sessions together, and still to be trained."""
        trials = list(self.ledger.trials.values())
        left = epochs_left(trials, int(self.run.experiment["max_epochs"]), self._total - len(trials))
        return sum(t.epoch for t in trials), left

    def left(self, epochs: float) -> str | None:
        """How long so many epochs will take, in words; None where that is not known."""
        if self._began is None:
            return None
        seconds = time_left(time.monotonic() - self._began, self._trained, self._trained + epochs)
        if seconds is None:
            return None
        budget: float | None = self.run.experiment.get("time_budget_s")
        if budget is not None:
            seconds = min(seconds, max(0.0, budget - self.ledger.seconds))
        return f"{duration(seconds)} left"

    @property
    def _total(self) -> int:
        """Trials, in the end."""
        return len(self.ledger.trials) if self.ledger.exhausted else int(self.run.experiment["num_samples"])
