"""Run directories that somebody else has made, damaged, moved or filled: what a session touches, and what it says."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journal_fuzz import without_training
from written_run import checkpoint, end, result, suggest, written_run

from raytune_hpo import Digits, Experiment, ExperimentError, Float, Split, Splits, load_results, report, resume, run
from raytune_hpo.cli.main import main
from raytune_hpo.engine.reopening import open_journal
from raytune_hpo.journal.events import Executor, Exhausted, SessionOpened
from raytune_hpo.journal.file import Journal
from raytune_hpo.storage import commands
from raytune_hpo.storage.run_directory import RunDirectory

DATA = Path(__file__).parents[1] / "data" / "format1"


def ended(path: Path, *more: Any, **experiment: Any) -> Path:
    """A run that has nothing left to do: resume opens it, cleans up and closes it. t00000 has diverged, with a
    checkpoint of its first epoch that the rules of retention give up."""
    return written_run(
        path,
        SessionOpened(1, pid=1, host="h", started="s", executor=Executor.INLINE),
        suggest("t00000", lr=0.01, batch_size=32),
        checkpoint("t00000", 1),
        result("t00000", 1, 0.5),
        *more,
        end("t00000", "diverged", "its loss is nan"),
        Exhausted(),
        executor="inline",
        **experiment,
    )


def saved(path: str, trial: str = "t00000") -> dict[str, Any]:
    """The event of a checkpoint at this path, as JSON."""
    record = {"trial": trial, "generation": 0, "epoch": 1, "path": path, "bytes": 0, "crc32": 0}
    return {"event": "checkpoint", "trial": trial, "checkpoint": record}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    for name in ("victim/a/precious", "victim/precious"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("precious")
    return tmp_path / "victim"


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on stderr with which a verb refuses."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# C1 to C3: outside of the run -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["../../victim", "{victim}", "checkpoints/../../victim", "checkpoints/t00000/../../.."]
)
def test_c1_a_checkpoint_elsewhere_is_refused_and_nothing_is_deleted(
    path: str, tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = ended(tmp_path / "runs", saved(path.format(victim=victim)))
    before = tree(tmp_path)
    assert "journal.jsonl:5" in said(capsys, "resume", run_dir)
    assert tree(tmp_path) == before


def test_c1_a_trial_named_as_a_path_is_refused(
    tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = {"event": "suggest", "trial": "../../../x", "config": {"lr": 0.01}}
    run_dir = written_run(tmp_path / "run", SessionOpened(1), event, executor="inline")
    assert "journal.jsonl:2" in said(capsys, "resume", run_dir)
    assert "must be a trial's name" in said(capsys, "trials", run_dir)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "victim"]


@pytest.mark.parametrize("field", ["file", "log"])
def test_near_c1_files_that_events_name_lie_in_the_run(
    field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = {"event": "start" if field == "log" else "retry", "trial": "t00000", "epoch": 0, field: "../../etc/passwd"}
    run_dir = ended(tmp_path / "run", {**event, **({} if field == "log" else {"error": "x"})})
    assert f"{field} = '../../etc/passwd': must be a path within the run directory" in said(capsys, "trials", run_dir)


def test_near_c1_a_trials_folder_that_is_a_link_is_not_followed(tmp_path: Path, victim: Path) -> None:
    run_dir = ended(tmp_path / "run")
    (victim / "00-00001.1").mkdir()
    (victim / "00-00001.1" / "precious").write_text("precious")
    shutil.rmtree(run_dir / "checkpoints" / "t00000")
    (run_dir / "checkpoints" / "t00000").symlink_to(victim)
    before = tree(victim)
    assert resume(run_dir).status == "finished"
    assert tree(victim) == before


@pytest.mark.parametrize("name", ["errors", "logs", "trials", "commands", "listeners"])
def test_near_c1_a_folder_that_sessions_write_into_is_no_link(
    name: str, tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = ended(tmp_path / "run")
    (run_dir / name).symlink_to(victim)
    before = tree(victim)
    assert f"{name}': is a link" in said(capsys, "resume", run_dir)
    assert tree(victim) == before


@pytest.mark.parametrize("verb", ["resume", "confirm", "ensemble"])
def test_c2_a_lock_that_is_a_link_is_one_line_and_its_target_stays(
    verb: str, tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = ended(tmp_path / "run")
    (run_dir / "lock").unlink()
    (run_dir / "lock").symlink_to(victim / "precious")
    assert "must be a plain file" in said(capsys, verb, run_dir)
    assert (victim / "precious").read_text() == "precious"


@pytest.mark.parametrize("name", ["journal.jsonl", "experiment.json", "test.json"])
def test_near_c2_no_file_of_a_run_is_read_through_a_link(
    name: str, tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = ended(tmp_path / "run", suggest("t00001"), result("t00001", 1, 0.5))
    elsewhere = victim / name
    elsewhere.write_bytes((run_dir / name).read_bytes() if (run_dir / name).exists() else b'{"openings": []}')
    (run_dir / name).unlink(missing_ok=True)
    (run_dir / name).symlink_to(elsewhere)
    before = tree(victim)
    assert "must be a plain file" in said(capsys, "best", run_dir)
    assert tree(victim) == before


@pytest.mark.parametrize("kind", ["folder", "pipe", "hard link"])
def test_near_c2_a_lock_that_is_no_file_of_its_own_is_one_line(
    kind: str, tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = ended(tmp_path / "run")
    lock = run_dir / "lock"
    lock.unlink()
    make: dict[str, Callable[[], None]] = {
        "folder": lock.mkdir,
        "pipe": lambda: os.mkfifo(lock),
        "hard link": lambda: os.link(victim / "precious", lock),
    }
    make[kind]()
    assert "lock" in said(capsys, "resume", run_dir)
    assert (victim / "precious").read_text() == "precious"


def test_near_c2_a_confirmation_that_is_a_link_is_not_gone_into(
    tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = ended(tmp_path / "run", *(e for i in (1, 2) for e in (suggest(f"t0000{i}", lr=i / 99, batch_size=32),
                                                                   result(f"t0000{i}", 1, 0.5))))  # fmt: skip
    (run_dir / "confirm").symlink_to(victim)
    before = tree(victim)
    assert "is a link" in said(capsys, "confirm", run_dir, "-k", 2, "--seeds", 2)
    (run_dir / "confirm").unlink()
    (run_dir / "confirm").mkdir()
    (run_dir / "confirm" / "notes.txt").write_text("mine")
    assert "holds other files" in said(capsys, "confirm", run_dir, "-k", 2, "--seeds", 2)
    assert (run_dir / "confirm" / "notes.txt").read_text() == "mine"
    assert tree(victim) == before


def test_c3_checkpoints_on_another_disk_keep_what_is_not_the_runs_own(tmp_path: Path) -> None:
    run_dir = ended(tmp_path / "run")
    big = tmp_path / "big"
    shutil.move(run_dir / "checkpoints", big)
    (run_dir / "checkpoints").symlink_to(big)
    assert (big / "t00000" / "00-00001.1").is_dir()
    for name in ("photos/a.jpg", "t00000/00-00002.1/weights", "t00000/notes", "t00007/00-00001.1/weights",
                 "lanes/001-000-7-000001.safetensors", "backup/x"):  # fmt: skip
        (big / name).parent.mkdir(parents=True, exist_ok=True)
        (big / name).write_text("not this run's")
    before = tree(big)
    assert resume(run_dir).status == "finished"
    own = {"t00000/00-00001.1"}  # what the journal named, and retention gives up
    assert tree(big) == {name: content for name, content in before.items() if name not in own}


def test_c17_stray_files_stay_and_stop_nothing(tmp_path: Path) -> None:
    run_dir = ended(tmp_path / "run")
    root = run_dir / "checkpoints"
    for name in (".DS_Store", "t00000/.nfs0001", "t00000/Thumbs.db", "t00000/00-00001.1 copy/x", "lanes/.DS_Store",
                 "t00000/00-00003.1/weights", "t00000/.new-77-0123abcd/weights"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    assert resume(run_dir).status == "finished"
    left = {".DS_Store", "t00000/.nfs0001", "t00000/Thumbs.db", "t00000/00-00001.1 copy/x", "lanes/.DS_Store"}
    assert {name for name in tree(root) if (root / name).is_file()} == left


@pytest.mark.parametrize("drop", ["checkpoint", "result"])
def test_near_c3_an_old_journal_that_has_lost_an_event_deletes_no_checkpoint(drop: str, tmp_path: Path) -> None:
    """Format 1 has no chain that would tell."""
    run_dir = shutil.copytree(DATA / "pbt", tmp_path / "run")
    lines = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    last = [line for line in lines if any(e["event"] == drop for e in line["events"])][-1]
    last["events"] = [e for e in last["events"] if e["event"] != drop]
    (run_dir / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = tree(run_dir / "checkpoints")
    for _ in range(2):  # the second time the journal is of format 2, and still does not know
        with without_training([]):
            resume(run_dir)
        assert tree(run_dir / "checkpoints") == before


def test_near_c3_a_journal_older_than_the_checkpoints_deletes_none_of_a_session_that_it_does_not_know(
    tmp_path: Path,
) -> None:
    run_dir = ended(tmp_path / "run")
    newer = run_dir / "checkpoints" / "t00000" / "00-00009.4"
    newer.mkdir()
    resume(run_dir)
    assert newer.is_dir()


# C15, C16, C23, B18: where a run lies --------------------------------------------------------------------


def takes_away(config: dict[str, Any]) -> None:
    report({"score": 1.0})
    place = Path(config["place"])
    if config["how"] == "deleted":
        shutil.rmtree(place)
    elif place.exists():
        place.rename(place.with_name("moved"))
    report({"score": 2.0})
    report({"score": 3.0})


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_c15_a_run_whose_directory_is_taken_away_stops_with_one_line(how: str, tmp_path: Path) -> None:
    space = {"lr": Float(0.1, 1.0), "place": str(tmp_path / "run"), "how": how}
    experiment = Experiment(name="taken", task=takes_away, space=space, metric="score", mode="max", num_samples=3,
                            max_epochs=3, executor="inline", scheduler="fifo")  # fmt: skip
    with pytest.raises(ExperimentError, match="was moved, deleted or replaced while the run wrote it"):
        run(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    if how == "moved":
        assert load_results(tmp_path / "moved").status == "running"


def test_near_c15_a_journal_that_another_replaced_is_not_written_beside(tmp_path: Path) -> None:
    run_dir = ended(tmp_path / "run")
    reading, journal = open_journal(RunDirectory.open(run_dir))
    assert reading.steps
    other = (run_dir / "journal.jsonl").read_bytes()[:-10]
    (run_dir / "other").write_bytes(other)
    (run_dir / "other").replace(run_dir / "journal.jsonl")
    with pytest.raises(ExperimentError, match="replaced"):
        journal.append(1.0, [SessionOpened(2)])
    journal.close()
    assert (run_dir / "journal.jsonl").read_bytes() == other


def test_c16_a_directory_with_a_number_sign_in_its_path(tmp_path: Path) -> None:
    from raytune_hpo.training.checkpoint import load_state

    space = {"lr": Float(1e-3, 1.0, "log"), "hidden_units": 4, "batch_size": 512}
    experiment = Experiment(name="sign", task="digits", space=space, num_samples=2, max_epochs=1, executor="inline")
    for name in ("a#b", "x.safetensors#t00000-00-00001"):
        (tmp_path / name).mkdir()
        best = run(experiment, tmp_path / name / "run #1").best
        assert best is not None
        assert best.checkpoint is not None
        assert load_state(best.checkpoint)["epoch"] == 1
        assert best.test is not None


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
def test_c23_what_is_read_back_is_its_owners_alone_whatever_the_mask(mask: int, tmp_path: Path) -> None:
    file = tmp_path / "exp.py"
    file.write_text("x = 1\n")
    (tmp_path / "given").mkdir(mode=0o777)
    (tmp_path / "given").chmod(0o777)
    before = os.umask(mask)
    try:
        for path in (tmp_path / "made", tmp_path / "given"):
            made = Experiment(name="mode", task="digits", space={"lr": Float(0.1, 1.0)})
            directory = RunDirectory.create(path, made.to_json(), file)
            Journal(directory.journal_path, directory.description()["run_id"]).close()
            commands.send(path, "pause")
            directory.unlock()
    finally:
        os.umask(before)
    for path in (tmp_path / "made", tmp_path / "given"):
        assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        for inner in path.rglob("*"):
            assert not inner.stat().st_mode & 0o077, (inner, oct(inner.stat().st_mode))


def test_b18_two_runs_of_one_second_have_a_directory_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "twice-20260101-000000"
    monkeypatch.setattr(RunDirectory, "new_path", lambda *_: place)  # both looked before either made it
    barrier, found = threading.Barrier(2), []

    def create() -> None:
        barrier.wait()
        directory = RunDirectory.create(place, {"metric": "loss"}, None, or_beside=True)
        found.append(directory.path.name)
        directory.unlock()

    threads = [threading.Thread(target=create) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [place.name, f"{place.name}-2"]
    experiment = Experiment(name="twice", task=quick, space={"x": Float(0.0, 1.0)}, metric="score", mode="max",
                            num_samples=1, max_epochs=1, executor="inline")  # fmt: skip
    assert run(experiment).run_dir.name == f"{place.name}-3"
    with pytest.raises(ExperimentError, match="exists already; choose another"):  # which somebody did choose
        run(experiment, place)


def quick(config: dict[str, Any]) -> None:
    report({"score": config["x"]})


# C18: contents -------------------------------------------------------------------------------------------

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("verb", ["trials", "best", "resume", "confirm", "export"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"space": {', '"space": null, "was": {'),
        ('"num_samples": 4', f'"num_samples": {DEEP}'),
        ('"seed": 0', f'"seed": {"9" * 400}'),
        ('"seed": 0', f'"seed": {"9" * 5000}'),
        ('"metric": "validation_accuracy"', '"metric": ["x"]'),
        ('"mode": "max"', '"mode": {}'),
        ('"format": 2', '"format": [2]'),
    ],
)
def test_c18_a_description_that_nobody_could_have_written_is_one_line(
    verb: str, old: str, new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = ended(tmp_path / "run")
    text = (run_dir / "experiment.json").read_text()
    assert text.count(old) == 1
    (run_dir / "experiment.json").write_text(text.replace(old, new))
    more = ("-o", tmp_path / "out") if verb == "export" else ()
    assert len(said(capsys, verb, run_dir, *more)) < 1000


@pytest.mark.parametrize("value", [DEEP, "9" * 400, "9" * 5000, "1e999", '{"float": "nan"}'])
def test_c18_numbers_and_nesting_beyond_reason_in_a_journal_are_one_line(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = ended(tmp_path / "run")
    text = '{"event":"suggest","trial":"t00001","config":{"lr":"@"},"limit":7}'
    for at in ('"@"', "7"):
        path = tmp_path / f"of{at[0]}"
        shutil.copytree(run_dir, path)
        add_line(path, text.replace(at, value) if at == "7" or value != '{"float": "nan"}' else text.replace("7", "[]"))
        assert "journal.jsonl:7" in said(capsys, "trials", path)


def add_line(run_dir: Path, event: str) -> None:
    """A line whose checksum fits, of text that no record of ours could hold."""
    run_id = json.loads((run_dir / "experiment.json").read_text())["run_id"]
    reading, _ = open_journal(RunDirectory.open(run_dir))
    journal = Journal(run_dir / "journal.jsonl", run_id, reading.link, reading.end)
    body = f'{{"n":{reading.link.number + 1},"t":1.0,"at":1.0,"events":[{event}]'.encode()
    from raytune_hpo.journal import chain

    os.write(journal._file, body + b',"sum":"' + chain._sum(body, reading.link.sum, run_id).encode() + b'"}\n')
    journal.close()


def perturbed(donor_generation: int) -> dict[str, Any]:
    """A panda's step, as JSON."""
    record = {"trial": "t00000", "generation": 1, "epoch": 1, "path": "checkpoints/t00000/01-00001.1"}
    donor = {"donor": "t00000", "donor_epoch": 1, "donor_generation": donor_generation}
    return {"event": "perturb", "trial": "t00000", "epoch": 1, "generation": 1, "old_config": {}, "new_config": {},
            **donor, "checkpoint": {**record, "bytes": 0, "crc32": 0}}  # fmt: skip


ILLEGAL: list[tuple[dict[str, Any], str]] = [
    ({"event": "suggest", "trial": "t00000", "config": {}}, "was suggested before"),
    ({"event": "suggest", "trial": "t00007", "config": {}}, "must be trial number 1"),
    ({"event": "suggest", "trial": "t00001", "config": {}, "parent": "t00005"}, "is no trial that was suggested"),
    ({"event": "report", "trial": "t00000", "generation": 0, "epoch": 1, "metrics": {}, "seconds": 1}, "above 1"),
    ({"event": "report", "trial": "t00000", "generation": 3, "epoch": 2, "metrics": {}, "seconds": 1}, "must be 0"),
    ({"event": "report", "trial": "t00009", "generation": 0, "epoch": 2, "metrics": {}, "seconds": 1}, "'t00009'"),
    ({"event": "start", "trial": "t00000", "epoch": -2}, "must be an integer from 0"),
    ({"event": "decide", "trial": "t00000", "epoch": 2, "decision": "stop"}, "must be of the trial's newest report"),
    (saved("checkpoints/t00001/00-00001.1"), "is no place of such a checkpoint"),
    (saved("checkpoints/t00000/00-00002.1"), "is no place of such a checkpoint"),
    (saved("checkpoints/t00001/00-00001.1", trial="t00001"), "is no trial that was suggested before"),
    ({"event": "session", "number": 7}, "must be 2, one after the last session's"),
    ({"event": "close", "status": "finished"}, "must be session: the one before is closed"),
    ({"event": "reopen", "trial": "t00000"}, "has not failed before"),
    (perturbed(donor_generation=1), "must be at most 0, the donor's"),  # its own: a line without a beginning
]  # fmt: skip


@pytest.mark.parametrize(("event", "message"), ILLEGAL, ids=[message for _, message in ILLEGAL])
def test_near_c18_events_in_an_order_in_which_no_run_has_them_are_one_line(
    event: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = ended(tmp_path / "run", event)
    for verb in ("trials", "resume"):
        line = said(capsys, verb, run_dir)
        assert message in line
        assert "journal.jsonl:" in line
    assert (run_dir / "checkpoints" / "t00000").is_dir()


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"openings": 3}',
        '{"openings": [{}]}',
        '{"openings": [{"purpose": "winner", "subject": {}, "again": false, "begun": "b", "metrics": {"x": 1}}]}',
        '{"openings": [{"purpose": "winner", "subject": [], "again": false, "begun": "b"}]}',
        f'{{"openings": {DEEP}}}',
    ],
)
def test_near_c18_a_damaged_record_of_the_test_split_is_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = ended(tmp_path / "run", suggest("t00001"), result("t00001", 1, 0.5))
    (run_dir / "test.json").write_text(content)
    assert "is damaged" in said(capsys, "best", run_dir)


def test_near_c18_what_is_no_command_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "commands"
    folder.mkdir()
    wrong: list[Any] = [[], {"id": "1-1"}, {"id": "1-1", "command": 3}, {"id": "../x", "command": "pause"}]
    for document in wrong:
        (folder / "1-1.json").write_text(json.dumps(document))
        assert commands.pending(tmp_path) == []
    (folder / "1-1.json").write_text(f'{{"id": "1-1", "command": "nudge", "changes": {DEEP}}}')
    assert commands.pending(tmp_path) == []
    (folder / "1-1.json").write_text(json.dumps({"id": "1-1", "command": "pause"}))
    assert [c["command"] for c in commands.pending(tmp_path)] == ["pause"]


def test_near_c18_lane_files_with_wrong_metadata_are_damaged_checkpoints(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from raytune_hpo.errors import TrialError
    from raytune_hpo.storage.lane_files import LaneFile
    from raytune_hpo.training.lanes.lane_state import read_state

    sound = {"members": '["a", "b"]', "facts": '["{}", "{}"]', "shared": "{}"}
    changes = [{"members": "3"}, {"members": '["a", "a"]'}, {"members": '["a"]'}, {"facts": '["{}"]'}]
    changes += [{"facts": "[1, 2]"}, {"shared": DEEP}, {"members": DEEP}]
    for change in changes:
        save_file({"w": np.zeros((2, 3))}, tmp_path / "x.safetensors", metadata={**sound, **change})
        with pytest.raises(TrialError, match="cannot be read"):
            LaneFile(tmp_path / "x.safetensors")
    save_file({"w": np.zeros((2, 3))}, tmp_path / "x.safetensors", metadata=sound)
    with pytest.raises(TrialError, match="cannot be read"):
        read_state(tmp_path / "x.safetensors", "a")


# C5, B14: what is shown -----------------------------------------------------------------------------------

EVIL = "\x1b]0;owned\x07\x1b[2Jred\x9b31m\r\u202e\ud800"


def test_c5_no_terminal_obeys_the_text_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = tmp_path / "runs"
    storage.mkdir()
    run_dir = ended(
        storage / "run",
        suggest("t00001", lr=0.02, kind=EVIL, batch_size=32),
        {"event": "report", "trial": "t00001", "generation": 0, "epoch": 1, "seconds": 1.0,
         "metrics": {"validation_accuracy": 0.5, EVIL: 1.0, "text": EVIL}},
        {"event": "end", "trial": "t00001", "outcome": "stopped", "reason": EVIL},
        suggest("t00002", lr=0.03, batch_size=32),
        {"event": "end", "trial": "t00002", "outcome": "failed", "reason": "error", "error": EVIL},
        {"event": "notice", "text": EVIL},
        {"event": "stop", "reason": EVIL},
        created=EVIL,
    )  # fmt: skip
    broken = ended(storage / "broken")
    (broken / "experiment.json").write_text(json.dumps({"format": EVIL}))
    shown = ""
    for arguments in (
        ["trials", run_dir],
        ["best", run_dir],
        ["list", storage],
        ["trials", broken],
        ["resume", run_dir],
    ):
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", out)
        main([str(a) for a in arguments])
        assert isinstance(out.buffer, io.BytesIO)
        shown += out.buffer.getvalue().decode()
    monkeypatch.undo()
    assert "\\x1b[2Jred" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)
    with contextlib.redirect_stdout(io.StringIO()) as out_json:
        main(["trials", str(run_dir), "--json"])
    rows = {row["trial_id"]: row for row in json.loads(out_json.getvalue())["trials"]}
    assert rows["t00002"]["error"] == EVIL


def test_near_c5_errors_and_the_notebooks_text_are_printable(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        load_results(tmp_path / EVIL.replace("\ud800", ""))
    assert str(caught.value).isprintable()
    run_dir = ended(tmp_path / "run", suggest("t00001", lr=0.02, kind=EVIL), result("t00001", 1, 0.5))
    assert all(line.isprintable() for line in repr(load_results(run_dir)).splitlines())


class NoTest(Digits):
    """Digits with an empty test split."""

    def load(self, seed: int) -> Splits:
        splits = super().load(seed)
        return Splits(splits.train, splits.validation, Split(splits.test.x[:0], splits.test.y[:0]))


def test_b14_an_empty_test_split_is_null_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"lr": Float(1e-3, 1.0, "log"), "hidden_units": 4, "batch_size": 512}
    experiment = Experiment(name="no-test", task=NoTest(), space=space, num_samples=1, max_epochs=1, executor="inline")
    results = run(experiment, tmp_path / "run")
    assert results.status == "finished"
    json.dumps(results.to_json(), allow_nan=False)
    capsys.readouterr()
    assert main(["best", str(tmp_path / "run"), "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert best["test"] is None or set(best["test"].values()) == {None}
    assert main(["best", str(tmp_path / "run")]) == 0
    if (tmp_path / "run" / "test.json").exists():
        json.loads((tmp_path / "run" / "test.json").read_text(), parse_constant=pytest.fail)
