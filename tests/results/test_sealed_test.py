"""The seal on the test split: one look a purpose, written down before it is taken."""

from __future__ import annotations

import json

import pytest
from run_by_hand import RunByHand, config, experiment

from raytune_hpo import ExperimentError
from raytune_hpo.journal.events import Suggested
from raytune_hpo.results.sealed_test import TEST_FILE, open_test, openings, recorded
from raytune_hpo.results.winner import read_test, record_test
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.storage.run_directory import RunDirectory

A, B = {"trial": "t00000", "members": (1, 2)}, {"trial": "t00001", "members": (1, 2)}


class Crash(BaseException):
    """Ends a process where it is raised."""


@pytest.fixture
def directory(tmp_path):
    return RunDirectory.open(RunByHand(tmp_path / "run", experiment()).path)


def look(value=0.5):
    return lambda: {"test_accuracy": value}


def never():
    raise AssertionError("the test split was read")


def crash():
    raise Crash


def test_each_purpose_may_look_once(directory):
    assert openings(directory.path) == []
    first = open_test(directory, "winner", A, look(0.5))
    second = open_test(directory, "ensemble", A, look(0.6))
    assert openings(directory.path) == [first, second]
    assert (first.purpose, first.subject, first.again) == ("winner", {"trial": "t00000", "members": [1, 2]}, False)
    assert first.metrics == {"test_accuracy": 0.5}
    assert second.begun <= second.ended
    for purpose in ("winner", "ensemble"):
        for subject in (A, B):
            with pytest.raises(ExperimentError, match=f"test split = '{purpose}'.* --again"):
                open_test(directory, purpose, subject, never)
    assert openings(directory.path) == [first, second]


def test_again_looks_again_and_says_so_for_good(directory):
    first = open_test(directory, "confirm", A, look(0.5), again=True)
    assert not first.again  # the first look is one, whatever the flag
    second = open_test(directory, "confirm", B, look(0.6), again=True)
    third = open_test(directory, "confirm", A, look(0.7), again=True)
    assert (second.again, third.again) == (True, True)
    assert openings(directory.path) == [first, second, third]
    assert recorded(directory.path, "confirm") == third
    assert recorded(directory.path, "confirm", B) == second
    assert recorded(directory.path, "confirm", {"trial": "t00002"}) is None
    assert recorded(directory.path, "winner") is None


def test_a_look_is_written_down_before_it_is_taken_and_finished_for_the_same_subject_only(directory):
    with pytest.raises(Crash):
        open_test(directory, "winner", A, crash)
    (begun,) = openings(directory.path)
    assert (begun.purpose, begun.ended, begun.metrics) == ("winner", None, None)
    assert recorded(directory.path, "winner") is None
    with pytest.raises(ExperimentError, match=r"begun to be opened for another subject.* --again"):
        open_test(directory, "winner", B, never)
    done = open_test(directory, "winner", A, look())
    assert openings(directory.path) == [done]
    assert (done.begun, done.again, done.metrics) == (begun.begun, False, {"test_accuracy": 0.5})
    with pytest.raises(ExperimentError, match="was opened on"):
        open_test(directory, "winner", A, never)


def test_what_was_begun_stays_on_record_when_another_subject_is_tested(directory):
    with pytest.raises(Crash):
        open_test(directory, "ensemble", A, crash)
    open_test(directory, "ensemble", B, look(), again=True)
    assert [(o.subject["trial"], o.again, o.metrics is None) for o in openings(directory.path)] == [
        ("t00000", False, True),
        ("t00001", True, False),
    ]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"openings": [{"purpose": "winner"}]}', '{"openings": 3}', "null"])
def test_a_damaged_record_is_one_error_and_no_look(directory, text):
    (directory.path / TEST_FILE).write_text(text)
    with pytest.raises(ExperimentError, match=r"test\.json.*is damaged"):
        open_test(directory, "winner", A, never, again=True)
    assert (directory.path / TEST_FILE).read_text() == text


def test_a_run_resumed_after_a_crash_in_its_look_ends(tmp_path):
    """record_test finishes the look of the same checkpoint, and takes none at another."""
    run = RunByHand(tmp_path / "run", experiment())
    run.add(Suggested(trial="t00000", config=config(1)))
    for epoch in (1, 2):
        scratch = run.store.scratch("t00000")
        (scratch / STATE_FILE).write_text(f"epoch {epoch}")
        run.saved(run.store.commit(scratch, "t00000", 0, epoch))
        run.result("t00000", epoch, epoch / 10)
    run.end("t00000", "completed")
    directory, winner = RunDirectory.open(run.path), run.load().ledger.winner()

    def crashes(function, *arguments):
        raise Crash

    with pytest.raises(Crash):
        record_test(directory, experiment().resolved, winner, crashes)
    best = run.path / winner.checkpoints[1].path / STATE_FILE
    whole = best.read_bytes()
    best.write_text("damaged")
    record_test(directory, experiment().resolved, winner, lambda *_: never())
    assert read_test(run.path) is None
    best.write_bytes(whole)
    record_test(directory, experiment().resolved, winner, lambda function, *arguments: {"test_loss": len(arguments)})
    assert read_test(run.path)["metrics"] == {"test_loss": 4}
    assert run.load().best.test == {"test_loss": 4}
    assert len(json.loads((run.path / TEST_FILE).read_text())["openings"]) == 1
