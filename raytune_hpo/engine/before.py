"""What an amended run was before: how recorded steps are taken by an experiment that they were not recorded under.

The state of an amended run is by definition the one that its experiment, as it is now, makes of the recorded events.
Its searcher and its scheduler are new ones, told of everything again. Three things need care, and are here:

- a suggestion may lie outside of today's space: the search does not hear of that trial;
- a trial that has ended at an earlier last epoch, or with the run, may be to train on: it is left open until the
  amendments are put into force (`events.Settled`), by what the scheduler says to its last report;
- a scheduler that plans ahead begins anew at each amendment (`Scheduler.new_era`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal.events import Amended, Decided, Discovered, Ended, Settled, Step
from raytune_hpo.results.text_table import some
from raytune_hpo.results.trial import TrialState
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.space.configs import Config
from raytune_hpo.states import MAX_EPOCHS, Decision, Outcome

if TYPE_CHECKING:
    from raytune_hpo.engine.judge import Judge


@dataclass(frozen=True)
class Past:
    """until: the last step that was decided as the experiment was before, 0 where there is none: the one before the
    last amendment was put into force. epochs: max_epochs when the run began. defaults: path -> what trials of before
    have of parameters that were added. space_changed: since it began. met: trial -> what its code has asked for."""

    until: float = 0
    epochs: int = 0
    defaults: Mapping[str, Any] = field(default_factory=dict)
    space_changed: bool = False
    met: Mapping[str, Config] = field(default_factory=dict)

    @classmethod
    def of(cls, steps: Sequence[Step], max_epochs: int) -> Past:
        """max_epochs: today's."""
        found = [(step.number, e) for step in steps for e in step.events if isinstance(e, Amended | Settled)]
        amendments = [event for _, event in found if isinstance(event, Amended)]
        if not amendments:
            return UNCHANGED
        number, last = found[-1]
        until = number - 1 if isinstance(last, Settled) else math.inf
        defaults: dict[str, Any] = {}
        for event in amendments:
            defaults |= event.defaults
        epochs = next((e.before[MAX_EPOCHS] for e in amendments if MAX_EPOCHS in e.before), max_epochs)
        old = (step for step in steps if step.number <= until)
        met = {e.trial: e.values for step in old for e in step.events if isinstance(e, Discovered)}
        return cls(until, int(epochs), defaults, any("space" in e.changes for e in amendments), met)


UNCHANGED = Past()


class Before:
    """Follows the recorded steps of one population. is_it: whether the present one is of before the last amendment."""

    def __init__(self, past: Past, experiment: ResolvedExperiment, host: SchedulerHost) -> None:
        self._past, self._experiment, self._host = past, experiment, host
        self.is_it = False
        self._step: Step | None = None
        self._open: dict[str, Decision | None] = {}  # trials whose end is left open: what the scheduler says to each
        self._asked: dict[str, Decision | None] = {}
        self._outside: set[str] = set()
        self._epochs = past.epochs  # the last one, as it was then
        if past.until:
            host.new_era(past.epochs)

    def follow(self, step: Step) -> None:
        self._step, self.is_it = step, step.number <= self._past.until
        ends = frozenset(e.trial for e in step.events if isinstance(e, Ended))
        self._host.recorded_ends = ends if self.is_it else None

    def over(self) -> None:
        """The step."""
        self._step, self.is_it, self._host.recorded_ends = None, False, None

    def amend(self, event: Amended) -> None:
        self._epochs = int(event.changes.get(MAX_EPOCHS, self._epochs))
        if self.is_it:
            self._host.new_era(self._epochs)

    # Suggestions --------------------------------------------------------------------------------

    def in_space(self, trial_id: str, config: Config) -> Config | None:
        """A suggestion as one of today's space; None where it lies outside."""
        if not self.is_it or not self._past.space_changed:
            return config
        found = self._experiment.space.adapted(self._past.met.get(trial_id, config), self._past.defaults)
        if found is None:
            self._outside.add(trial_id)
        return found

    def evidence(self, config: Config) -> Config | None:
        """A config of elsewhere as one of today's space; None where it lies outside."""
        if not self.is_it or not self._past.space_changed:
            return config
        return self._experiment.space.adapted(config, self._past.defaults)

    def leave_out(self, trial_id: str) -> None:
        """The search is not asked for the trial: nothing is known yet that it could suggest."""
        self._outside.add(trial_id)

    def is_outside(self, trial_id: str) -> bool:
        return trial_id in self._outside

    # Ends ---------------------------------------------------------------------------------------

    def undoes(self, trial: TrialState, end: Ended, stop_reason: str | None) -> bool:
        """Whether an amendment that comes after this end may undo it; the trial is then left open."""
        if not self.is_it or trial.replicate_of is not None:
            return False
        reached = end.outcome == Outcome.COMPLETED and end.reason == MAX_EPOCHS
        moved = reached and trial.epoch < self._experiment.max_epochs and self._host.scheduler.promotes
        moved = moved and not trial.promoted
        halted = end.outcome == Outcome.STOPPED and end.reason == stop_reason
        if not moved and not halted:
            return False
        self._open[trial.id] = self._asked.pop(trial.id, None)
        return True

    def judged_again(self, trial: TrialState, decided: Decided, stop_reason: str | None, judge: Judge) -> bool:
        """Whether this decision was about an end that may be undone: the scheduler has said what it thinks of the
        report."""
        assert self._step is not None
        if not self.is_it or decided.decision not in (Decision.COMPLETE, Decision.HALT):
            return False
        end = next((e for e in self._step.events if isinstance(e, Ended) and e.trial == trial.id), None)
        if end is None or not self.undoes(trial, end, stop_reason):
            return False
        del self._open[trial.id]
        self._asked[trial.id] = judge.answer_again(trial)
        return True

    def close(self, trial_id: str) -> None:
        """A person has decided about the trial."""
        self._open.pop(trial_id, None)

    def take_open(self) -> list[str]:
        """The trials that were left open, until now."""
        found, self._open = list(self._open), {}
        return found

    def settled(self, trials: Mapping[str, TrialState], stop_reason: str | None) -> tuple[Settled, list[str]]:
        """Which trials train on by the amendments, and what people should know of it. stop_reason: why the run is
        stopped, if it is."""
        on, waiting, stopped, gone = [], [], [], []
        for trial_id, answer in self._open.items():
            trial = trials[trial_id]
            if stop_reason is not None and trial.reason == stop_reason:
                continue  # the run is still stopped for that
            if answer == Decision.STOP:
                stopped.append(trial_id)
            elif trial.epoch and trial.resume_from is None:
                gone.append(trial_id)
            else:
                on.append(trial_id)
                if answer == Decision.PAUSE or (answer is None and self._host.was_paused(trial_id)):
                    waiting.append(trial_id)
        notices = []
        if on:
            notices.append(f"{some(on)} had ended, and train{'s' * (len(on) == 1)} on")
        if stopped:
            notices.append(f"{some(stopped)} stay{'s' * (len(stopped) == 1)} ended: the scheduler stops them there")
        if gone:
            notices.append(f"{some(gone)} would train on, but have no checkpoint left (checkpoint.keep_trials)")
        return Settled(tuple(on), tuple(waiting)), notices
