"""Which event may come next: what a run's own driver can write, and nothing that only its journal's changer could.

A journal may be a stranger's, with every checksum made anew. Whoever replays it (ledger, searcher, scheduler, the disk)
relies on this: trials are known, and live where they must be; reports go forward; a checkpoint is of the trial that it
is said to be of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raytune_hpo.journal import events
from raytune_hpo.journal.codec import MalformedError
from raytune_hpo.journal.events import CheckpointRecord, Event, Step, TrialEvent
from raytune_hpo.journal.names import is_checkpoint, number_of
from raytune_hpo.states import Outcome


class _Known:
    """What decides on a trial's next event. reported: whether `epoch` is of a report since it went on from another."""

    __slots__ = ("ended", "epoch", "failed", "generation", "reported")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.generation = 0
        self.ended = self.failed = self.reported = False


class Order:
    """Follows a run step by step."""

    def __init__(self) -> None:
        self._trials: dict[str, _Known] = {}
        self._sessions = 0
        self._closed = False

    def follow(self, step: Step) -> None:
        """Raises MalformedError for an event that cannot come here."""
        for i, event in enumerate(step.events):
            if self._closed and not isinstance(event, _BETWEEN):
                raise MalformedError(f"events[{i}]", event.KIND, "must be session: the one before is closed")
            check = _CHECKS.get(type(event))
            if isinstance(event, TrialEvent):
                trial = self._trials.get(event.trial)
                if trial is None:
                    if not isinstance(event, events.Suggested):
                        raise _wrong(i, event, "trial", event.trial, "is no trial that was suggested before")
                    self._suggest(i, event)
                elif check is not None:
                    check(self, i, event, trial)
            elif check is not None:
                check(self, i, event)

    # Of the run -----------------------------------------------------------------------------------

    def _session(self, i: int, event: events.SessionOpened) -> None:
        if event.number != self._sessions + 1:
            raise _wrong(
                i, event, "number", event.number, f"must be {self._sessions + 1}, one after the last session's"
            )
        self._sessions += 1
        self._closed = False

    def _close(self, i: int, event: events.Closed) -> None:
        self._closed = True

    def _command(self, i: int, event: events.Commanded) -> None:
        if event.trial is not None and event.trial not in self._trials:
            raise _wrong(i, event, "trial", event.trial, "is no trial that was suggested before")

    def _settle(self, i: int, event: events.Settled) -> None:
        for name in event.extended:
            trial = self._trials.get(name)
            if trial is None or not trial.ended or trial.failed:
                raise _wrong(i, event, "extended", name, "is no trial that has ended and not failed")
            trial.ended = False
        if not set(event.waiting) <= set(event.extended):
            raise _wrong(i, event, "waiting", list(event.waiting), "must be some of extended")

    # Of a trial -----------------------------------------------------------------------------------

    def _suggest(self, i: int, event: events.Suggested) -> None:
        if number_of(event.trial) != len(self._trials):
            expected = f"must be trial number {len(self._trials)}: trials are suggested in order"
            raise _wrong(i, event, "trial", event.trial, expected)
        if event.parent is not None and event.parent not in self._trials:
            raise _wrong(i, event, "parent", event.parent, "is no trial that was suggested before")
        if event.checkpoint is not None:
            _check_record(i, event, event.checkpoint, 0)
        self._trials[event.trial] = _Known(event.checkpoint.epoch if event.checkpoint is not None else 0)

    def _again(self, i: int, event: events.Suggested, trial: _Known) -> None:
        raise _wrong(i, event, "trial", event.trial, "was suggested before")

    def _live(self, i: int, event: TrialEvent, trial: _Known) -> None:
        if trial.ended:
            raise _wrong(i, event, "trial", event.trial, "has ended before")

    def _report(self, i: int, event: events.Reported, trial: _Known) -> None:
        self._live(i, event, trial)
        if event.generation != trial.generation:
            raise _wrong(i, event, "generation", event.generation, f"must be {trial.generation}, the trial's")
        if event.epoch <= trial.epoch:
            raise _wrong(i, event, "epoch", event.epoch, f"must be above {trial.epoch}, the trial's last")
        trial.epoch, trial.reported = event.epoch, True

    def _decide(self, i: int, event: events.Decided, trial: _Known) -> None:
        # (One that the scheduler ended between the report and this is decided on all the same.)
        if not trial.reported or event.epoch != trial.epoch:
            raise _wrong(i, event, "epoch", event.epoch, "must be of the trial's newest report")

    def _checkpoint(self, i: int, event: events.CheckpointSaved, trial: _Known) -> None:
        # (Also of a trial that has ended: its last state is saved after its last report.)
        _check_record(i, event, event.checkpoint, None)
        if event.checkpoint.generation > trial.generation:
            expected = f"must be at most {trial.generation}, the trial's"
            raise _wrong(i, event, "checkpoint.generation", event.checkpoint.generation, expected)

    def _perturb(self, i: int, event: events.Perturbed, trial: _Known) -> None:
        self._live(i, event, trial)
        if event.donor not in self._trials:
            raise _wrong(i, event, "donor", event.donor, "is no trial that was suggested before")
        newest = self._trials[event.donor].generation
        if event.donor_generation > newest:
            expected = f"must be at most {newest}, the donor's"
            raise _wrong(i, event, "donor_generation", event.donor_generation, expected)
        if event.generation != trial.generation + 1:
            expected = f"must be {trial.generation + 1}, one after the trial's"
            raise _wrong(i, event, "generation", event.generation, expected)
        _check_record(i, event, event.checkpoint, event.generation)
        if event.checkpoint.epoch != event.donor_epoch:
            raise _wrong(
                i, event, "checkpoint.epoch", event.checkpoint.epoch, f"must be {event.donor_epoch}, the donor's"
            )
        trial.generation, trial.epoch, trial.reported = event.generation, event.donor_epoch, False

    def _end(self, i: int, event: events.Ended, trial: _Known) -> None:
        self._live(i, event, trial)
        trial.ended, trial.failed = True, event.outcome == Outcome.FAILED

    def _reopen(self, i: int, event: events.Reopened, trial: _Known) -> None:
        if not trial.failed:
            raise _wrong(i, event, "trial", event.trial, "has not failed before")
        trial.ended = trial.failed = False

    def _promote(self, i: int, event: events.Promoted, trial: _Known) -> None:
        if event.limit <= trial.epoch:
            raise _wrong(i, event, "limit", event.limit, f"must be above {trial.epoch}, the trial's epoch")
        trial.ended = trial.failed = False


def _check_record(i: int, event: TrialEvent, record: CheckpointRecord, generation: int | None) -> None:
    """generation: which it must be of; None for any."""
    if record.trial != event.trial:
        raise _wrong(i, event, "checkpoint.trial", record.trial, f"must be {event.trial}, the event's")
    if generation is not None and record.generation != generation:
        raise _wrong(i, event, "checkpoint.generation", record.generation, f"must be {generation}")
    if not is_checkpoint(record.path, record.trial, record.generation, record.epoch):
        raise _wrong(i, event, "checkpoint.path", record.path, "is no place of such a checkpoint")


def _wrong(i: int, event: Event, field: str, value: Any, expected: str) -> MalformedError:
    return MalformedError(f"events[{i}] ({event.KIND}).{field}", value, expected)


_CHECKS: dict[type[Event], Callable[..., None]] = {
    events.SessionOpened: Order._session,
    events.Closed: Order._close,
    events.Suggested: Order._again,
    events.RangeTested: Order._live,
    events.Narrowed: Order._live,
    events.Discovered: Order._live,
    events.Started: Order._live,
    events.Deferred: Order._live,
    events.Reported: Order._report,
    events.Decided: Order._decide,
    events.CheckpointSaved: Order._checkpoint,
    events.Perturbed: Order._perturb,
    events.Retried: Order._live,
    events.Ended: Order._end,
    events.Reopened: Order._reopen,
    events.Commanded: Order._command,
    events.Settled: Order._settle,
    events.Held: Order._live,
    events.Released: Order._live,
    events.Promoted: Order._promote,
}
#: What a person may do while no process has the run.
_BETWEEN = (
    events.SessionOpened,
    events.Amended,
    events.Commanded,
    events.EvidenceGiven,
    events.Suggested,
    events.Ended,
    events.Held,
    events.Released,
    events.Promoted,
    events.Marked,
)
