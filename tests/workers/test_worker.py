"""Worker, as a plain object: what a Ray actor would answer, without Ray."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from ray import cloudpickle, tune

from raytune_hpo.storage.checkpoints import CheckpointStore, pack, unpack
from raytune_hpo.workers import deaths, reporting
from raytune_hpo.workers import worker as worker_module
from raytune_hpo.workers.imports import Imports
from raytune_hpo.workers.messages import Assignment, Left, Outcome
from raytune_hpo.workers.posting import Posting
from raytune_hpo.workers.worker import Worker

EVERY = 10**6


def counts(config):
    """Reports 1, 2, 3, ... to config["last"], goes on from a checkpoint, saves every config["every"] reports."""
    start = tune.get_checkpoint()
    number = 0
    if start is not None:
        with start.as_directory() as folder:
            number = int((Path(folder) / "number").read_text())

    def save(folder):
        (folder / "number").write_text(str(number))

    if config.get("offers", True):
        reporting.on_save(save)
    while number < config.get("last", 100):
        number += 1
        if number == config.get("raises"):
            raise ValueError("asked for")
        if number % config.get("every", EVERY) == 0:
            with reporting.checkpoint_folder() as folder:
                save(folder)
                tune.report({"n": number}, checkpoint=tune.Checkpoint.from_directory(str(folder)))
        else:
            tune.report({"n": number})


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "BATCH_S", 60.0)
    monkeypatch.setattr(deaths, "leave_traces", lambda: None)  # of a process of its own
    workers = []
    (tmp_path / "experiment.json").write_text(json.dumps({"run_id": "right"}))

    def build(function=counts, run_id="right", path=tmp_path):
        pickled = cloudpickle.dumps(lambda data: function)
        workers.append(Worker(pickled, lambda: None, Posting(str(path), run_id, 1, 1.0, Imports(), True)))
        return workers[-1]

    yield build
    for made in workers:
        made.release()


def assignment(config=None, *, trial="t1", until=1, checkpoint=None, payload=None, generation=0):
    return Assignment(trial, config or {}, generation, until, checkpoint, payload)


def numbers(outcome):
    return [(r.epoch, r.metrics["n"]) for r in outcome.reports]


def test_info_says_where_it_is_and_whether_it_sees_the_run(make, tmp_path):
    info = make().info()
    assert (info.pid, info.sees_run) == (os.getpid(), True)
    assert not make(run_id="another").info().sees_run
    assert not make(path=tmp_path / "missing").info().sees_run


def test_a_trial_runs_from_step_to_step_and_is_over(make):
    worker = make()
    first = worker.start(assignment({"last": 3}))
    assert (first.kind, numbers(first)) == ("waiting", [(1, 1)])
    assert numbers(worker.step(2)) == [(2, 2)]
    assert numbers(worker.step(3)) == [(3, 3)]
    assert worker.step(4) == Outcome("returned")


def test_reports_come_together_up_to_the_one_that_is_to_be_decided_about(make):
    worker = make()
    assert numbers(worker.start(assignment({"last": 7}, until=3))) == [(1, 1), (2, 2), (3, 3)]
    last = worker.step(100)
    assert last.kind == "returned"
    assert numbers(last) == [(4, 4), (5, 5), (6, 6), (7, 7)]


def test_slow_reports_do_not_wait_for_one_another(make, monkeypatch):
    monkeypatch.setattr(worker_module, "BATCH_S", 0.02)

    def slow(config):
        for number in range(1, 4):
            time.sleep(0.04)
            tune.report({"n": number})

    worker = make(slow)
    outcome = worker.start(assignment(until=100))
    assert numbers(outcome) == [(1, 1)]
    assert outcome.reports[0].seconds >= 0.04


def test_waiting_for_the_driver_is_not_the_trials_time(make):
    worker = make()
    worker.start(assignment())
    time.sleep(0.2)
    assert worker.step(2).reports[0].seconds < 0.15


def test_a_trial_that_raises_tells_what_it_reported_before(make):
    outcome = make().start(assignment({"raises": 3}, until=9))
    assert (outcome.kind, numbers(outcome)) == ("raised", [(1, 1), (2, 2)])
    assert outcome.error.startswith("test_worker.py, line ")
    assert outcome.error.endswith(", in counts: ValueError: asked for")
    assert "in counts" in outcome.traceback
    assert outcome.reusable


def test_a_worker_takes_trial_after_trial(make):
    worker = make()
    worker.start(assignment())
    assert numbers(worker.start(assignment(trial="t2"))) == [(1, 1)]
    assert worker.start(assignment({"raises": 1}, trial="t3")).kind == "raised"
    assert numbers(worker.start(assignment(trial="t4"))) == [(1, 1)]


def test_out_of_memory_asks_for_a_new_process(make):
    def greedy(config):
        raise MemoryError

    assert not make(greedy).start(assignment()).reusable


def test_checkpoints_are_committed_and_gone_on_from(make, tmp_path):
    outcome = make().start(assignment({"every": 2}, until=5))
    assert [r.saved.epoch if r.saved else None for r in outcome.reports] == [None, 2, None, 4, None]
    record = outcome.reports[3].saved.record
    assert (record.trial, record.generation, record.epoch) == ("t1", 0, 4)
    assert CheckpointStore(tmp_path, 1).intact(record)
    other = make()
    assert numbers(other.start(assignment({"every": 2}, until=6, checkpoint=record))) == [(5, 5), (6, 6)]


def test_the_epoch_goes_on_from_an_adopted_checkpoint(make, tmp_path):
    donor = make().start(assignment({"every": 2}, until=2)).reports[1].saved.record
    adopted = CheckpointStore(tmp_path, 1).adopt(donor, "t2", 3)
    outcome = make().start(assignment({"every": 1}, trial="t2", generation=3, checkpoint=adopted, until=3))
    assert numbers(outcome) == [(3, 3)]
    assert outcome.reports[0].saved.record.path == "checkpoints/t2/03-00003.1"


@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_a_damaged_checkpoint_is_unreadable_and_the_worker_is_free(make, tmp_path, damage):
    worker = make()
    record = worker.start(assignment({"every": 1})).reports[0].saved.record
    if damage == "flip":
        (tmp_path / record.path / "number").write_text("7")
    else:
        CheckpointStore(tmp_path, 1).delete(record)
    assert worker.start(assignment(checkpoint=record)) == Outcome("unreadable")
    assert numbers(worker.start(assignment())) == [(1, 1)]


def test_save_saves_the_state_that_waits(make, tmp_path):
    worker = make()
    worker.start(assignment(until=3))
    saved = worker.save()
    assert saved.epoch == saved.record.epoch == 3
    assert (tmp_path / saved.record.path / "number").read_text() == "3"
    assert numbers(worker.step(4)) == [(4, 4)]


def test_save_without_an_offer_or_a_trial_is_none(make):
    worker = make()
    assert worker.save() is None
    worker.start(assignment({"offers": False}))
    assert worker.save() is None


def test_a_worker_that_does_not_see_the_run_sends_its_checkpoints_and_writes_nothing_there(make, tmp_path):
    worker = make(run_id="another machine's")
    outcome = worker.start(assignment({"every": 1}, until=2))
    saved = outcome.reports[1].saved
    assert saved.record is None
    assert not (tmp_path / "checkpoints").exists()
    unpack(saved.payload, tmp_path / "unpacked")
    assert (tmp_path / "unpacked/number").read_text() == "2"
    assert worker.save().payload is not None
    record = CheckpointStore(tmp_path, 1)
    scratch = record.scratch("t1")
    (scratch / "number").write_text("5")
    sent = record.commit(scratch, "t1", 0, 5)
    payload = pack(tmp_path / sent.path)
    assert numbers(worker.start(assignment(until=6, checkpoint=sent, payload=payload))) == [(6, 6)]
    temporary = worker._temporary
    assert temporary.is_dir()
    assert worker.release().ended
    assert not temporary.exists()
    assert worker.start(assignment(checkpoint=sent)) == Outcome("unreadable")


def test_release_ends_the_function(make, tmp_path):
    def function(config):
        try:
            while True:
                tune.report({"n": 1})
        finally:
            (tmp_path / "ended").touch()

    worker = make(function)
    worker.start(assignment())
    assert not (tmp_path / "ended").exists()
    assert worker.release() == Left("t1")
    assert (tmp_path / "ended").exists()
    assert worker.release() is None


def test_a_trial_is_not_begun_while_the_last_one_ends(make, monkeypatch, tmp_path):
    monkeypatch.setattr(worker_module, "PATIENCE_S", 0.01)
    over = tmp_path / "over"

    def slow(config):
        try:
            tune.report({"n": 1})
        finally:
            while config["first"] and not over.exists():
                time.sleep(0.001)

    worker = make(slow)
    worker.start(assignment({"first": True}))
    second = assignment({"first": False}, trial="t2")
    assert worker.start(second) == Outcome("occupied", left=Left("t1", ended=False))
    assert worker.release() == Left("t1", ended=False)
    over.touch()
    while not worker.release().ended:
        pass
    assert numbers(worker.start(second)) == [(1, 1)]


def test_a_completed_trial_does_what_it_does_after_its_last_report(make, tmp_path):
    def function(config):
        tune.report({"n": 1})
        (tmp_path / "after").touch()
        raise ValueError("too late")

    worker = make(function)
    worker.start(assignment())
    left = worker.release(True)
    assert left.error.endswith(", in function: ValueError: too late")
    assert left == Left("t1", error=left.error)
    assert (tmp_path / "after").exists()


class ByName:
    """Pickled as a worker gets it: code that names a module beside the experiment file."""

    def __reduce__(self):
        return eval, ("lambda data: __import__('beside_the_experiment').function",)


def test_import_paths_are_in_place_before_the_trainable_is_unpickled(tmp_path, monkeypatch):
    (tmp_path / "beside_the_experiment.py").write_text("def function(config):\n    return {'n': 5}\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    worker = Worker(
        cloudpickle.dumps(ByName()), lambda: None, Posting(str(tmp_path), "x", 1, 1.0, Imports([str(tmp_path)]), True)
    )
    assert numbers(worker.start(assignment())) == [(1, 5)]
    worker.release()


def test_who_holds_a_gpus_memory_is_named():
    error = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1G is free. "
        "Process 41 has 3.50 GiB memory in use. Process 42 has 10.00 GiB memory in use. Process 43 has ended."
    )
    found = deaths.with_holders(error, {42: "t00007", 43: "t00008"})
    assert "Process 41 has 3.50 GiB" in found
    assert "Process 42 (t00007) has 10.00 GiB" in found
    assert "Process 43 has ended" in found
