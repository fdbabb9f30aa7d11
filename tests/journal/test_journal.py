"""The journal: whole steps or none, in a chain in which nothing is lost, doubled, swapped or changed in silence."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written_run import RUN_ID, append_raw, checkpoint, end, finished_run, result, suggest, written_run

from raytune_hpo import Experiment, ExperimentError, Float, load_results
from raytune_hpo.engine.reopening import open_journal
from raytune_hpo.journal import chain, events
from raytune_hpo.journal.chain import Link
from raytune_hpo.journal.codec import MalformedError, decoded, encoded
from raytune_hpo.journal.events import KINDS, CheckpointRecord, Event, Step
from raytune_hpo.journal.file import Cursor, Journal, Reading, read
from raytune_hpo.journal.inputs import Inputs, Leaf, named
from raytune_hpo.states import Decision, Outcome, RunStatus
from raytune_hpo.storage.checkpoints import CheckpointStore, exists
from raytune_hpo.storage.run_directory import RunDirectory

CONFIG = {"lr": 0.1, "kind": "ä", "model": {"units": 8, "names": ['a "quoted"\nline', None, True]}}
RECORD = CheckpointRecord("t2", 1, 4, "checkpoints/t2/01-00004.2", 1234, 987654321)
FIRST = dataclasses.replace(RECORD, generation=0, path="checkpoints/t2/00-00004.2")
INPUTS = Inputs(
    "batch", {"ids": Leaf((12, None), "int64"), 7: [named({"a": Leaf((), "bool")}), (None,)]}, ("ids", "7.0.a")
)

#: What comes before them.
PRELUDE: list[Event] = [events.SessionOpened(1), suggest("t0"), suggest("t1"), end("t0", "stopped", "why")]
#: One of each kind, no field at its default, in an order in which they may come.
EVERY: list[Event] = [
    events.SessionOpened(2, 41, "host", "2026-01-02T03:04:05+0100", events.Executor.LANES, True, "abc", "why"),
    events.Phased("imports", 1.5, 2.25, "w1"),
    events.DataLoaded((1, 28, 28), "float32", 100, 20, INPUTS, f"statistics-{'0a' * 16}.safetensors"),
    events.Suggested("t2", CONFIG, 9, "t1", FIRST, 3, {"round": 1, "box": {"lr": [0.1, 0.2]}}, {"lr": 0.2},
                     events.Origin.ENQUEUED, "t0"),
    events.RangeTested("t2", "mlp 8 sgd", 1e-4, 0.5),
    events.Narrowed("t2", {"lr": 0.3}),
    events.Discovered("t2", {"lr": 0.3}, {"lr": {"kind": "float", "low": 0.1, "high": 1.0}}),
    events.Started("t2", 4, "host", "w1", 77, "logs/t0.txt"),
    events.Reported("t2", 0, 5, {"loss": math.nan, "up": math.inf, "down": -math.inf, "n": 3, "name": "x", "no": None,
                                 "yes": True, "metric": 0.1}, 0.25),
    events.Decided("t2", 5, Decision.EXPLOITED, "because"),
    events.CheckpointSaved("t2", FIRST),
    events.CheckpointLost("t2", "checkpoints/t2/00-00004.2"),
    events.Deferred("t2"),
    events.Warned("t2", "UserWarning", "look out", "train.py:7", 3),
    events.Perturbed("t2", "t1", 4, 0, 5, 1, CONFIG, {"lr": 0.4}, RECORD, "care", events.By.HAND),
    events.Commanded("t2", "1-2", "nudge", True, "done"),
    events.Held("t2"),
    events.Released("t2"),
    events.Retried("t2", 5, "ValueError: x", "errors/1.txt", True, 0.25),
    events.Ended("t2", Outcome.FAILED, "error", "ValueError: x", "errors/1.txt"),
    events.Noticed("a notice"),
    events.EvidenceGiven("another run", CONFIG, {1: 0.5, 10: 0.25, 11: math.nan, 12: -math.inf}),
    events.Amended("time_budget_s=60", {"time_budget_s": 60}, {"time_budget_s": None}, {"momentum": 0.9}, True),
    events.Settled(("t0",), ("t0",)),
    events.ExecutorChanged(events.Executor.INLINE, "why", True),
    events.Exhausted(),
    events.RunStopped("target reached"),
    events.Reopened("t2"),
    events.Promoted("t2", 81),
    events.Marked("t2", ("good", "of-June"), "looks well"),
    events.Closed(RunStatus.INTERRUPTED, "3 trials in a row failed with ValueError: x"),
]  # fmt: skip
STEPS: list[list[Event]] = [
    [events.SessionOpened(1)],
    [suggest("t0", x=0.1, kind="ä"), events.Started("t0", 0)],
    [events.Reported("t0", 0, 1, {"loss": math.nan, "best": math.inf}, 0.5)],
    [end("t0", "failed", "error", 'a "quoted"\nline')],
]


def write(
    path: Path,
    steps: list[list[Event]] = STEPS,
    reading: Reading | None = None,
    run_id: str = RUN_ID,
) -> None:
    journal = Journal(path, run_id) if reading is None else Journal(path, run_id, reading.link, reading.end)
    for t, step in enumerate(steps):
        journal.append(t + 0.123456, step)
    journal.close()


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def found(path: Path) -> list[list[Event]]:
    return [list(step.events) for step in read(path, RUN_ID).steps]


def same(left: Any, right: Any) -> bool:
    """Equal with NaN equal to itself."""
    return repr(left) == repr(right)


# Records ----------------------------------------------------------------------------------------------


def test_there_is_one_event_of_each_kind_here_and_no_field_at_its_default() -> None:
    assert {type(event) for event in EVERY} == set(KINDS.values())
    for event in EVERY:
        for field in dataclasses.fields(event):
            if field.default is not dataclasses.MISSING:
                assert getattr(event, field.name) != field.default, (event, field.name)


@pytest.mark.parametrize("event", EVERY, ids=lambda event: event.KIND)
def test_every_event_comes_back_as_it_was(event: Event, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, [[before] for before in [*PRELUDE, *EVERY[: EVERY.index(event)]]] + [[event]])
    step = read(path, RUN_ID).steps[-1]
    assert same(step.events, (event,))
    again = step.events[0]
    for field in dataclasses.fields(event):
        assert type(getattr(again, field.name)) is type(getattr(event, field.name)), field.name


def test_fields_at_their_defaults_are_not_written(tmp_path: Path) -> None:
    write(tmp_path / "journal", [[events.SessionOpened(1), suggest("t0"), events.Started("t0", 0)]])
    (line,) = lines_of(tmp_path / "journal")
    assert json.loads(line)["events"] == [
        {"event": "session", "number": 1},
        {"event": "suggest", "trial": "t0", "config": {"lr": 0.01}},
        {"event": "start", "trial": "t0", "epoch": 0},
    ]
    assert found(tmp_path / "journal") == [[events.SessionOpened(1), suggest("t0"), events.Started("t0", 0)]]


def test_each_step_is_one_line_of_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, [[event] for event in [*PRELUDE, *EVERY]])

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    for number, line in enumerate(lines_of(path), start=1):
        data = json.loads(line, parse_constant=refuse)
        assert list(data) == ["n", "t", "at", "events", "sum"]
        assert data["n"] == number
    metrics = json.loads(lines_of(path)[len(PRELUDE) + 8])["events"][0]["metrics"]
    assert (metrics["loss"], metrics["up"], metrics["down"]) == ({"float": "nan"}, {"float": "inf"}, {"float": "-inf"})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_written_in_metrics_alone(value: float, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", RUN_ID)
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.append(1.0, [suggest("t0", lr=value)])
    journal.append(1.0, [suggest("t0")])
    journal.close()
    assert found(tmp_path / "journal") == [[suggest("t0")]]


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"event": "levitate"}, "'levitate': is no event that this version knows; a newer one wrote it"),
    ({"trial": "t0"}, "must be an object with the name of an event"),
    ({"event": "suggest", "trial": "t0"}, "config = None: is missing"),
    ({"event": "start", "trial": 3, "epoch": 0}, "trial = 3: must be a trial's name"),
    ({"event": "start", "trial": "t0", "epoch": 1.5}, "epoch = 1.5: must be an integer"),
    ({"event": "start", "trial": "t0", "epoch": True}, "epoch = True: must be an integer"),
    ({"event": "start", "trial": "t0", "epoch": 0, "place": 1}, "place = 1: is no field that this version knows"),
    ({"event": "decide", "trial": "t0", "epoch": 1, "decision": "dance"}, "decision = 'dance': must be one of"),
    ({"event": "end", "trial": "t0", "outcome": "pending", "reason": ""}, "outcome = 'pending': must be one of"),
    ({"event": "lost_checkpoint", "trial": "t0", "path": None}, "path = None: must be the path of a checkpoint"),
    ({"event": "evidence", "source": "s", "config": {}, "curve": {"one": 1}}, "curve = "),
    ({"event": "report", "trial": "t0", "generation": 0, "epoch": 1, "seconds": 0, "metrics": {"x": {"float": "no"}}},
     "metrics.x = "),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), MALFORMED, ids=[str(m)[:40] for _, m in MALFORMED])
def test_an_event_that_no_record_can_hold_is_one_error(data: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, RUN_ID)
    journal.append(1.0, [events.SessionOpened(1)])
    append_raw(journal, data)
    journal.append(3.0, [events.Exhausted()])
    journal.close()
    with pytest.raises(ExperimentError) as caught:
        read(path, RUN_ID)
    assert "journal:2'" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoints_record_is_told_where_it_does_not_fit() -> None:
    data = encoded(RECORD)
    assert decoded(CheckpointRecord, data, "record") == RECORD
    with pytest.raises(MalformedError, match=r"record\.bytes = '1': must be an integer"):
        decoded(CheckpointRecord, {**data, "bytes": "1"}, "record")


# What is appended -------------------------------------------------------------------------------------


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path)
    reading = read(path, RUN_ID)
    assert same([list(s.events) for s in reading.steps], STEPS)
    assert [s.t for s in reading.steps] == [0.1235, 1.1235, 2.1235, 3.1235]
    assert [s.number for s in reading.steps] == [1, 2, 3, 4]
    assert [s.first for s in reading.steps] == [0, 1, 3, 4]
    assert reading.end == path.stat().st_size
    assert (reading.link.number, reading.link.events) == (4, 5)
    assert (reading.damage, reading.aside, reading.format) == (None, b"", 2)
    assert path.read_bytes().count(b"\n") == len(STEPS)


def test_an_empty_journal_and_none_have_no_steps(tmp_path: Path) -> None:
    assert read(tmp_path / "journal", RUN_ID) == Reading()
    (tmp_path / "journal").touch()
    assert read(tmp_path / "journal", RUN_ID).steps == []


def test_opening_a_journal_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, STEPS[:2])
    write(path, STEPS[2:], read(path, RUN_ID))
    assert same(found(path), STEPS)
    Journal(path, RUN_ID).close()
    assert same(found(path), STEPS)


def test_a_cursor_gives_every_step_once_as_soon_as_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, RUN_ID)
    journal.append(0.0, STEPS[0])
    cursors = [Cursor(path, RUN_ID), Cursor(path, RUN_ID, journal)]
    for cursor in cursors:
        assert [list(step.events) for step in cursor.steps()] == [STEPS[0]]
        assert cursor.steps() == []
    for step in STEPS[1:]:
        journal.append(1.0, step)
        for cursor in cursors:
            assert same([list(s.events) for s in cursor.steps()], [step])
    assert [cursor.events for cursor in cursors] == [5, 5]
    with path.open("ab") as file:
        file.write(b'{"n":5,')
    assert cursors[0].steps() == []  # torn, or half written: the rest may come
    with path.open("ab") as file:
        file.write(b"}\n")
    with pytest.raises(ExperimentError, match="journal:5"):
        cursors[0].steps()
    journal.close()


# The end of a journal ---------------------------------------------------------------------------------


def test_a_torn_last_line_is_dropped_wherever_it_is_torn_and_writing_goes_on_behind_the_sound_part(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal"
    write(path)
    whole = path.read_bytes()
    sound = b"".join(lines_of(path)[:-1])
    for cut in range(len(sound), len(whole)):
        path.write_bytes(whole[:cut])
        reading = read(path, RUN_ID)
        assert same([list(s.events) for s in reading.steps], STEPS[:-1])
        assert (reading.end, reading.damage) == (len(sound), None)
        write(path, [[events.Closed(RunStatus.FINISHED)]], reading)
        assert same(found(path), [*STEPS[:-1], [events.Closed(RunStatus.FINISHED)]])


TAILS = (b"\0" * 20 + b"\n", b'{"t": 1, "ev\0\0\0\n', b"[1, 2]\n", b'{"t": 1}\n', b"\xff\xfe\n", b"\n", b"{}\n")


@pytest.mark.parametrize("tail", TAILS)
def test_a_whole_last_line_of_noughts_or_noise_is_damage_and_named(tail: bytes, tmp_path: Path) -> None:
    """A power cut may leave blocks of noughts, or a line that ends but was not written in its middle."""
    path = tmp_path / "journal"
    write(path)
    sound = b"".join(lines_of(path)[:-1])
    path.write_bytes(sound + b"\0" * 300)
    assert read(path, RUN_ID).damage is None  # no newline: torn
    path.write_bytes(sound + tail)
    reading = read(path, RUN_ID)
    assert same([list(s.events) for s in reading.steps], STEPS[:-1])
    assert (reading.end, reading.aside) == (len(sound), tail)
    assert (reading.damage or "").startswith("line 4 of journal was changed")


def test_an_event_of_a_newer_version_at_the_end_is_an_error_and_is_not_set_aside(tmp_path: Path) -> None:
    """Its checksum fits: no accident. To go on without it would be to lose what the newer version did."""
    run = written_run(tmp_path / "run", suggest("t00000"), result("t00000", 1, 0.5), {"event": "levitate"})
    before = (run / "journal.jsonl").read_bytes()
    for opened in (lambda: load_results(run), lambda: open_journal(RunDirectory.open(run))):
        with pytest.raises(ExperimentError) as caught:
            opened()
        assert "journal.jsonl:3'" in str(caught.value)
        assert str(caught.value).endswith("'levitate': is no event that this version knows; a newer one wrote it")
    assert (run / "journal.jsonl").read_bytes() == before
    assert not list(run.glob("journal-damaged-*"))


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A run of two trials with checkpoints on disk, whose whole last line does not fit."""
    made = Experiment(name="hand", task="digits", space={"lr": Float(1e-4, 1e-1, "log")}, num_samples=4)
    directory = RunDirectory.create(tmp_path / "run", made.to_json(), None)
    store, journal = CheckpointStore(directory.path, 1), Journal(directory.journal_path, run_id_of(directory))
    journal.append(0.0, [events.SessionOpened(1)])
    for trial in ("t00000", "t00001"):
        journal.append(1.0, [suggest(trial)])
        for epoch in (1, 2):
            scratch = store.scratch(trial)
            (scratch / "weights").write_text(f"{trial} {epoch}")
            journal.append(2.0, [events.CheckpointSaved(trial, store.commit(scratch, trial, 0, epoch))])
    journal.append(3.0, [end("t00001", "completed", "max_epochs")])
    journal.close()
    directory.unlock()
    lines = lines_of(directory.journal_path)
    directory.journal_path.write_bytes(b"".join(lines[:-2]) + lines[-2].replace(b"t00001", b"t00000") + b"")
    return directory.path


def run_id_of(directory: RunDirectory) -> str:
    run_id: str = directory.description()["run_id"]
    return run_id


def test_the_next_session_sets_a_damaged_line_aside_and_deletes_no_checkpoint(damaged: Path) -> None:
    directory = RunDirectory.open(damaged)
    line = lines_of(directory.journal_path)[-1]
    saved = sorted(p for p in damaged.rglob("weights"))
    assert len(saved) == 4
    reading, journal = open_journal(directory)
    assert reading.damage is not None
    assert reading.damage.startswith("line 7 of journal.jsonl was changed")
    (aside,) = damaged.glob("journal-damaged-*.jsonl")
    assert aside.read_bytes() == line
    # As `run` has it of a session that follows damage: the second checkpoint of t00001 is not in the journal any more.
    assert reading.doubted
    store = CheckpointStore(damaged, 2, doubted=True)
    records = [e.checkpoint for step in reading.steps for e in step.events if isinstance(e, events.CheckpointSaved)]
    assert len(records) == 3
    paths = {record.path for record in records}
    store.clean(records, ["t00000", "t00001"], paths)
    store.delete(*records)
    assert sorted(p for p in damaged.rglob("weights")) == saved
    assert all(exists(damaged, record) for record in records)
    step = journal.append(9.0, [events.SessionOpened(2)])
    journal.close()
    assert step.number == 7
    again = read(directory.journal_path, run_id_of(directory))
    assert (again.damage, again.steps[-1].events) == (None, (events.SessionOpened(2),))
    assert load_results(damaged).damage is None
    # What the line named is still there in all sessions after; what they write themselves they delete.
    reading, journal = open_journal(directory)
    journal.close()
    assert reading.doubted
    later = CheckpointStore(damaged, 3, doubted=True)
    record = later.commit(later.scratch("t00001"), "t00001", 0, 3)
    later.clean(records, ["t00000", "t00001"], paths)
    later.delete(*records, record)
    assert not exists(damaged, record)
    assert sorted(p for p in damaged.rglob("weights")) == saved


def test_results_name_the_damage_and_the_journal_stays_as_it_is(damaged: Path) -> None:
    before = (damaged / "journal.jsonl").read_bytes()
    damage = load_results(damaged).damage
    assert damage is not None
    assert "line 7 of journal.jsonl" in damage
    assert (damaged / "journal.jsonl").read_bytes() == before
    assert not list(damaged.glob("journal-damaged-*"))


# The chain --------------------------------------------------------------------------------------------


def of_a_search(path: Path) -> None:
    run = finished_run(path.with_name("search"))
    path.write_bytes((run / "journal.jsonl").read_bytes())


def of_a_population(path: Path) -> None:
    """As PBT writes: reports, checkpoints, exploitation, a lost worker, two sessions."""
    steps: list[list[Event]] = [[events.SessionOpened(1, room=True)], [suggest("t0", x=0.1), suggest("t1", x=0.9)]]
    path_of_copy = "checkpoints/t0/01-00002.1"
    copy = dataclasses.replace(checkpoint("t1", 2).checkpoint, trial="t0", generation=1, path=path_of_copy)
    for epoch in (1, 2):
        for trial, value in (("t0", 0.3), ("t1", 0.6)):
            steps.append([checkpoint(trial, epoch), *result(trial, epoch, value + epoch / 10)])
    steps[-1] += [
        events.Perturbed("t0", "t1", 2, 0, 2, 1, {"x": 0.1}, {"x": 0.8}, copy),
        events.Retried("t1", 2, "the worker died", None, True),
    ]
    steps += [[events.SessionOpened(2)], [events.Started("t0", 2), events.Started("t1", 2)]]
    steps += [[*result(t, 3, 0.9, generation=g), end(t, "completed", "max_epochs")] for t, g in (("t0", 1), ("t1", 0))]
    steps += [[events.Exhausted()], [events.Closed(RunStatus.FINISHED)]]
    write(path, steps)


def of_every_kind(path: Path) -> None:
    write(path, [[event] for event in [*PRELUDE, *EVERY]])


JOURNALS: list[Callable[[Path], None]] = [of_a_search, of_a_population, of_every_kind]


@pytest.fixture(params=JOURNALS, ids=lambda make: make.__name__)
def sound(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    request.param(tmp_path / "journal")
    assert read(tmp_path / "journal", RUN_ID).damage is None
    return tmp_path / "journal"


def named(path: Path, lines: list[bytes]) -> tuple[int, str]:
    """(the number of the line that is named, what is said of it); an error, or damage where it is the last."""
    path.write_bytes(b"".join(lines))
    try:
        reading = read(path, RUN_ID)
    except ExperimentError as error:
        text = str(error)
        assert "\n" not in text
        return int(text.split("journal:")[1].split("'", maxsplit=1)[0]), text
    assert reading.damage is not None, "another table in silence"
    assert len(reading.steps) == len(lines) - 1
    return int(reading.damage.split()[1]), reading.damage


def test_a_line_that_is_missing_is_named(sound: Path) -> None:
    lines = lines_of(sound)
    for i in range(len(lines) - 1):
        number, text = named(sound, lines[:i] + lines[i + 1 :])
        assert number == i + 1
        assert f"line {i + 1} is missing before it" in text
    number, text = named(sound, lines[:1] + lines[4:])
    assert (number, "lines 2 to 4 are missing before it" in text) == (2, True)


def test_a_line_that_comes_twice_is_named(sound: Path) -> None:
    lines = lines_of(sound)
    for i in range(len(lines)):
        number, text = named(sound, [*lines[: i + 1], *lines[i:]])
        assert number == i + 2
        assert f"has number {i + 1}: it comes twice" in text


def test_lines_that_are_swapped_are_named(sound: Path) -> None:
    lines = lines_of(sound)
    for i in range(len(lines) - 1):
        number, text = named(sound, [*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]])
        assert number == i + 1
        assert f"has number {i + 2}" in text


def test_a_changed_byte_is_named(sound: Path) -> None:
    """Of every line, and of every byte but the newline, without which it would be one line with the next."""
    lines = lines_of(sound)
    for i, line in enumerate(lines):
        for place in range(0, len(line) - 1, 1 if len(line) < 200 else 7):
            changed = bytearray(line)
            changed[place] ^= 1
            if changed[place] == ord("\n"):
                continue
            number, _ = named(sound, [*lines[:i], bytes(changed), *lines[i + 1 :]])
            assert number == i + 1


def test_a_lost_newline_is_named(sound: Path) -> None:
    lines = lines_of(sound)
    for i in range(len(lines) - 1):
        number, _ = named(sound, [*lines[:i], lines[i][:-1] + lines[i + 1], *lines[i + 2 :]])
        assert number == i + 1


def test_a_line_of_another_run_is_named(sound: Path, tmp_path: Path) -> None:
    """With the same events and the same number, at the same place."""
    lines = lines_of(sound)
    other = tmp_path / "other"
    write(other, [list(step.events) for step in read(sound, RUN_ID).steps], run_id="fedcba9876543210")
    theirs = lines_of(other)
    for i in range(len(lines)):
        number, text = named(sound, [*lines[:i], theirs[i], *lines[i + 1 :]])
        assert number == i + 1
        assert "was changed, or is of another run" in text
    assert named(sound, theirs)[0] == 1


def test_a_tail_of_another_run_is_named(sound: Path, tmp_path: Path) -> None:
    lines = lines_of(sound)
    other = tmp_path / "other"
    write(other, [list(step.events) for step in read(sound, RUN_ID).steps], run_id="fedcba9876543210")
    for i in range(1, len(lines)):
        assert named(sound, lines[:i] + lines_of(other)[i:])[0] == i + 1


def test_a_first_line_of_format_1_does_not_switch_the_chain_off(sound: Path) -> None:
    """Format 1 has none, and the first line tells the format."""
    old = b'{"t": 1, "events": [{"event": "session", "number": 1}]}\n'
    number, text = named(sound, [old, *lines_of(sound)[1:]])
    assert (number, "is of another format than the first" in text) == (2, True)


def test_a_line_is_chained_to_its_number_and_the_one_before_it() -> None:
    step = Step(1, 0.5, 10.0, (events.Exhausted(),))
    line, link = chain.written(step, Link(), RUN_ID)
    assert chain.read(line, Link(), RUN_ID) == (step, link)
    assert (link.number, link.events) == (1, 1)
    for wrong in (Link(0, "0" * 16), Link(1, link.sum, 1)):
        with pytest.raises(chain.BrokenError):
            chain.read(line, wrong, RUN_ID)
