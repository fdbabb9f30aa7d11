"""The events of a run, and the step that holds them. Times end in _s (seconds of running, all sessions together) or
are wall-clock times (`at`, `began`, `ended`: seconds since 1970).

`KINDS` maps the text in a line's "event" to the record. Reading and writing follow from the fields (`codec`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from raytune_hpo.journal import names
from raytune_hpo.journal.codec import Curve, Metrics, Shape, several, text, whole
from raytune_hpo.journal.inputs import Recorded
from raytune_hpo.space.configs import Config
from raytune_hpo.states import Decision, Outcome, RunStatus

#: How the reason begins of a run that was stopped since its time was used.
OF_TIME = "time budget of "
BY_HAND = "by hand"  # the reason of an end that a person has decided on
_OF_WORK = ("num_samples", "max_epochs", "time_budget_s", "stop", "space", "searcher", "scheduler", "replicate")

# What a value may be, whoever wrote the journal.
TrialId = Annotated[str, text(names.TRIAL.fullmatch, "a trial's name, as t00007")]
Epoch = Annotated[int, whole(0, 10**9 - 1)]
Count = Annotated[int, whole(0, 2**63 - 1)]
CheckpointPath = Annotated[str, text(names.is_checkpoint_path, "the path of a checkpoint within the run directory")]
RunFile = Annotated[str, text(names.is_inside, "a path within the run directory")]
Tags = Annotated[tuple[str, ...], several(names.TAG.fullmatch, "tags")]
TrialIds = Annotated[tuple[str, ...], several(names.TRIAL.fullmatch, "trials' names")]
StatisticsFile = Annotated[str, text(names.STATISTICS.fullmatch, "the name of a file of statistics")]


class Executor(StrEnum):
    """Where trials run."""

    PROCESSES = "processes"  # one trial a process
    LANES = "lanes"  # many trials of a process, as one stacked model
    INLINE = "inline"  # in the driver's process, one after the other
    INLINE_LANES = "inline lanes"  # in the driver's process, as one stacked model
    ASKED = "asked"  # in other people's processes, which ask for them

    @property
    def of_lanes(self) -> bool:
        return self in (Executor.LANES, Executor.INLINE_LANES)

    @property
    def is_inline(self) -> bool:
        return self in (Executor.INLINE, Executor.INLINE_LANES)


class Origin(StrEnum):
    """Who asked for a trial. A search counts the trials of its own suggestion only."""

    SEARCH = "search"
    ENQUEUED = "enqueued"  # a person's config
    CLONED = "cloned"  # of another trial
    ASKED = "asked"  # by a program that trains it itself
    REPLICATE = "replicate"  # the run itself: one of the best again, from another seed


class By(StrEnum):
    """Who changed a trial."""

    SCHEDULER = "scheduler"
    HAND = "hand"


@dataclass(frozen=True)
class CheckpointRecord:
    """Where a checkpoint is, what it is of, and how to tell that it is whole.

    path: within the run directory, a folder or FILE#LANE. bytes, crc32: of its content, see `storage.checkpoints`.
    """

    trial: TrialId
    generation: Epoch
    epoch: Epoch
    path: CheckpointPath
    bytes: Count
    crc32: Annotated[int, whole(0, 2**32 - 1)]


@dataclass(frozen=True)
class Event:
    """Base of the events."""

    KIND: ClassVar[str]


# Of the run ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SessionOpened(Event):
    """A process has taken the run on. number: from 1. started: local time with offset, ISO 8601. room: whether all
    trials can run at the same time. code: the version of the code that trains, None where it is not known. reason: why
    trials run where they do, where the experiment left it open."""

    KIND: ClassVar[str] = "session"
    number: Annotated[int, whole(1, 10**9 - 1)]
    pid: Count = 0
    host: str = ""
    started: str = ""
    executor: Executor = Executor.PROCESSES
    room: bool = False
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class ExecutorChanged(Event):
    """From here on trials begin elsewhere. room: as of `SessionOpened`."""

    KIND: ClassVar[str] = "executor"
    executor: Executor
    reason: str
    room: bool = False


@dataclass(frozen=True)
class Closed(Event):
    """The session's last event. reason: why it ended before the run did, where nobody asked for that."""

    KIND: ClassVar[str] = "close"
    status: RunStatus
    reason: str | None = None


@dataclass(frozen=True)
class Phased(Event):
    """A phase of the session is over: "process", "imports", "workers", "data", "first step", "test", ...
    worker: where, None for the driver."""

    KIND: ClassVar[str] = "phase"
    name: str
    began: float
    ended: float
    worker: str | None = None


@dataclass(frozen=True)
class DataLoaded(Event):
    """The task's data. shape: of one sample, of its first array; dtype: torch's name for its type. inputs: all that a
    batch holds, before `Task.preprocess`; None where that is not known without reading samples. statistics: the file
    of what `preprocess` is given, within the run directory; None where it is given nothing."""

    KIND: ClassVar[str] = "data"
    shape: Shape
    dtype: str
    train: Count
    validation: Count
    inputs: Recorded | None = None
    statistics: StatisticsFile | None = None


@dataclass(frozen=True)
class Exhausted(Event):
    """No trial will be added: the search, or num_samples, is used up."""

    KIND: ClassVar[str] = "exhausted"


@dataclass(frozen=True)
class RunStopped(Event):
    """The run accepts no more work: target reached, budget used, ..."""

    KIND: ClassVar[str] = "stop"
    reason: str


@dataclass(frozen=True)
class Noticed(Event):
    """Something that people should know, in words."""

    KIND: ClassVar[str] = "notice"
    text: str


@dataclass(frozen=True)
class EvidenceGiven(Event):
    """What is known from elsewhere, for the searcher to learn from. curve: epoch -> the objective's value."""

    KIND: ClassVar[str] = "evidence"
    source: str
    config: Config
    curve: Curve = field(default_factory=dict)


@dataclass(frozen=True)
class Amended(Event):
    """The experiment is another one from here on. asked: in words, as it was asked for. changes, before: field -> its
    value now, and until now, as `Experiment.to_json` has it. defaults: path -> what the trials of before have of a
    parameter that is new. grown: nobody asked: the space is of what trials have asked for (`Discovered`)."""

    KIND: ClassVar[str] = "amend"
    asked: str
    changes: dict[str, Any]
    before: dict[str, Any]
    defaults: dict[str, Any] = field(default_factory=dict)
    grown: bool = False

    def lifts(self, stop_reason: str) -> bool:
        """Whether a run that was stopped for this reason goes on by it."""
        field_of = "time_budget_s" if stop_reason.startswith(OF_TIME) else "stop"
        return field_of in self.changes

    @property
    def makes_work(self) -> bool:
        """Whether there may be more to do by it."""
        return not self.changes.keys().isdisjoint(_OF_WORK)


@dataclass(frozen=True)
class Settled(Event):
    """The amendments of before are in force: a session goes on with them. extended: the trials that had ended, and
    train on under them; waiting: those of them that the scheduler holds paused."""

    KIND: ClassVar[str] = "settle"
    extended: TrialIds = ()
    waiting: TrialIds = ()


@dataclass(frozen=True)
class Commanded(Event):
    """A person's command was taken. trial: which it is about, None for the run. outcome: what came of it, in words."""

    KIND: ClassVar[str] = "command"
    trial: TrialId | None
    id: str
    command: str
    applied: bool
    outcome: str


# Of a trial ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrialEvent(Event):
    """Base of the events of one trial."""

    trial: TrialId


@dataclass(frozen=True)
class Suggested(TrialEvent):
    """A new trial.

    limit: its last epoch, None for max_epochs. parent, checkpoint: what it goes on from. repeat, note: as in
    `search.algorithm.Plan`. suggested: the search's own config, where the trial has another one. replicate_of: the
    trial whose config is trained again, of another seed.
    """

    KIND: ClassVar[str] = "suggest"
    config: Config
    limit: Annotated[int, whole(1, 10**9 - 1)] | None = None
    parent: TrialId | None = None
    checkpoint: CheckpointRecord | None = None
    repeat: Count | None = None
    note: dict[str, Any] | None = None
    suggested: Config | None = None
    origin: Origin = Origin.SEARCH
    replicate_of: TrialId | None = None


@dataclass(frozen=True)
class Discovered(TrialEvent):
    """What the trial's code has asked for, whose parameters are known by that alone. values: name -> what it got, of
    all so far; parameters: name -> the parameter, as `Parameter.to_json` has it, in the order of asking."""

    KIND: ClassVar[str] = "discover"
    values: Config
    parameters: dict[str, Any]


@dataclass(frozen=True)
class RangeTested(TrialEvent):
    """A learning-rate range test, done with the trial's config, has answered for its structure."""

    KIND: ClassVar[str] = "lr_range"
    structure: str
    low: float
    high: float


@dataclass(frozen=True)
class Narrowed(TrialEvent):
    """The trial's learning rate is moved into its structure's range."""

    KIND: ClassVar[str] = "narrow"
    config: Config


@dataclass(frozen=True)
class Started(TrialEvent):
    """A worker has the trial. epoch: where it goes on, 0 from scratch. worker, pid: which, on `host`. log: the file of
    what the trial prints, within the run directory."""

    KIND: ClassVar[str] = "start"
    epoch: Epoch
    host: str = ""
    worker: str | None = None
    pid: Count | None = None
    log: RunFile | None = None


@dataclass(frozen=True)
class Reported(TrialEvent):
    """A report. epoch: which report unit of its trainer, from 1. seconds: from the report before it, waiting left
    out."""

    KIND: ClassVar[str] = "report"
    generation: Epoch
    epoch: Epoch
    metrics: Metrics
    seconds: float


@dataclass(frozen=True)
class Decided(TrialEvent):
    """What was decided about the trial's newest report. note: what the scheduler has to say of it."""

    KIND: ClassVar[str] = "decide"
    epoch: Epoch
    decision: Decision
    note: str | None = None


@dataclass(frozen=True)
class CheckpointSaved(TrialEvent):
    """A checkpoint is safely on disk."""

    KIND: ClassVar[str] = "checkpoint"
    checkpoint: CheckpointRecord


@dataclass(frozen=True)
class CheckpointLost(TrialEvent):
    """A checkpoint is damaged or gone, and not to be used again."""

    KIND: ClassVar[str] = "lost_checkpoint"
    path: CheckpointPath


@dataclass(frozen=True)
class Perturbed(TrialEvent):
    """The trial goes on from `checkpoint`, its own copy of the donor's, with another config.

    donor: with PBT another trial, with a panda the trial itself. epoch: where the trial was. generation: its new one.
    """

    KIND: ClassVar[str] = "perturb"
    donor: TrialId
    donor_epoch: Epoch
    donor_generation: Epoch
    epoch: Epoch
    generation: Epoch
    old_config: Config
    new_config: Config
    checkpoint: CheckpointRecord
    reason: str = "exploit"
    by: By = By.SCHEDULER


@dataclass(frozen=True)
class Held(TrialEvent):
    """A person has paused the trial: it gets no worker until it is `Released`."""

    KIND: ClassVar[str] = "hold"


@dataclass(frozen=True)
class Released(TrialEvent):
    """A person lets the trial go on."""

    KIND: ClassVar[str] = "release"


@dataclass(frozen=True)
class Promoted(TrialEvent):
    """A person lets a trial that has ended, or would be stopped, train on to the epoch `limit`: no scheduler decides
    about it from here on."""

    KIND: ClassVar[str] = "promote"
    limit: Annotated[int, whole(1, 10**9 - 1)]


@dataclass(frozen=True)
class Marked(TrialEvent):
    """What a person has written on a trial. tags: all that it has now, None if they are as they were; note: the same
    of it."""

    KIND: ClassVar[str] = "mark"
    tags: Tags | None = None
    note: str | None = None


@dataclass(frozen=True)
class Retried(TrialEvent):
    """The trial failed and will go on from its checkpoint. file: of the traceback, within the run directory.
    lost_worker: its worker died; blame: its part in that, from 0 to 1."""

    KIND: ClassVar[str] = "retry"
    epoch: Epoch
    error: str
    file: RunFile | None = None
    lost_worker: bool = False
    blame: float = 1.0


@dataclass(frozen=True)
class Warned(TrialEvent):
    """The trial's code warned. where: file and line. count: how often since it was last told of."""

    KIND: ClassVar[str] = "warn"
    category: str
    text: str
    where: str
    count: Count


@dataclass(frozen=True)
class Deferred(TrialEvent):
    """The trial was not begun, as its worker's last trial has not ended: it waits for another place."""

    KIND: ClassVar[str] = "defer"


@dataclass(frozen=True)
class Ended(TrialEvent):
    """The trial is over. reason: "max_epochs", "budget", "done", "returned", "plateau", the scheduler's name, "error",
    or why the run was stopped."""

    KIND: ClassVar[str] = "end"
    outcome: Outcome
    reason: str
    error: str | None = None
    file: RunFile | None = None


@dataclass(frozen=True)
class Reopened(TrialEvent):
    """A failed trial is pending again, because a person says that the cause is mended: its failures count from 0."""

    KIND: ClassVar[str] = "reopen"


@dataclass(frozen=True)
class Step:
    """One line: its number, from 1; seconds of running; wall-clock time; its events, in order. first: how many events
    of the run came before them (not written, but counted)."""

    number: int
    t: float
    at: float
    events: tuple[Event, ...]
    first: int = 0


def _kinds(base: type[Event]) -> dict[str, type[Event]]:
    found = {}
    for cls in base.__subclasses__():
        if "KIND" in cls.__dict__:
            found[cls.KIND] = cls
        found.update(_kinds(cls))
    return found


KINDS: dict[str, type[Event]] = _kinds(Event)
