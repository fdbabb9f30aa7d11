"""Results: the tables and the winner that a journal says."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from run_by_hand import RunByHand, config, experiment
from written_run import append_raw, result, suggest

from raytune_hpo import ExperimentError, load_results
from raytune_hpo.journal.events import Closed, Ended, Perturbed, Reported, Retried, Started, Suggested
from raytune_hpo.objective import Objective
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.sealed_test import openings
from raytune_hpo.results.winner import read_test, record_test
from raytune_hpo.states import Outcome, RunStatus


@pytest.fixture
def run(tmp_path):
    """t0 completed, t1 the best but failed, t2 better still but diverged, t3 stopped and the winner, t4 nothing yet."""
    made = RunByHand(tmp_path / "run", experiment())
    for number in range(5):
        made.add(Suggested(trial=f"t0000{number}", config=config(number + 1)))
    for number in range(4):
        made.add(Started(trial=f"t0000{number}", epoch=0))
    made.checkpoint("t00000", 1)
    made.result("t00000", 1, 0.5)
    made.result("t00001", 1, 0.9)
    made.add(Retried(trial="t00001", epoch=1, error="ValueError: a", file="errors/t00001.txt", lost_worker=False))
    made.add(Retried(trial="t00001", epoch=1, error="the worker died", file=None, lost_worker=True))
    made.end("t00001", "failed", reason="error", error="ValueError: b")
    made.result("t00002", 1, 0.95)
    made.result("t00002", 2, math.nan, decision="diverged")
    made.end("t00002", "diverged", reason="a loss or the metric is not finite")
    made.checkpoint("t00003", 1)
    made.result("t00003", 1, 0.8)
    made.checkpoint("t00003", 2)
    made.result("t00003", 2, 0.6, decision="stop")
    made.end("t00003", "stopped", reason="asha")
    made.result("t00000", 2, 0.7, decision="complete")
    made.end("t00000", "completed")
    return made


def test_the_trials_table(run):
    table = run.load().trials.set_index("trial_id")
    assert list(table.status) == ["completed", "failed", "diverged", "stopped", "pending"]
    assert list(table.epochs) == [2, 1, 2, 2, 0]
    assert list(table.best[:4]) == [0.7, 0.9, 0.95, 0.8]
    assert list(table.best_epoch[:4]) == [2, 1, 1, 1]
    assert pd.isna(table.best["t00004"])
    assert list(table["config.model.units"]) == [1, 2, 3, 4, 5]
    assert table.failures["t00001"] == 1
    assert table.error["t00001"] == "ValueError: b"
    assert table.seconds["t00000"] == 0.5


def test_the_curves_table(run):
    curves = run.load().curves
    assert list(curves.columns) == ["trial_id", "generation", "epoch", "seconds", "decision", "value", "loss"]
    assert len(curves) == 7
    assert not curves.duplicated(["trial_id", "generation", "epoch"]).any()
    assert list(curves[curves.trial_id == "t00003"].value) == [0.8, 0.6]


def test_rows_are_strict_json(run):
    results = run.load()
    for document in (results.rows(), results.to_json()):
        assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert [row["last"] for row in results.rows()] == [0.7, 0.9, None, 0.6, None]


def test_failed_and_diverged_trials_do_not_win(run):
    results = run.load()
    best = results.best
    assert best is not None
    assert (best.trial_id, best.metric, best.epoch, best.config) == ("t00003", 0.8, 1, config(4))
    assert best.validation == {"value": 0.8, "loss": -0.8}
    assert best.checkpoint == run.path / "checkpoints/t00003/00-00001.1"
    assert best.checkpoint_epoch == 1
    assert [t.id for t in results.top(9)] == ["t00003", "t00000"]
    assert results.ledger.best_trial is results.ledger.winner()


def test_of_min_the_lowest_wins(tmp_path):
    run = RunByHand(tmp_path / "run", experiment("min"))
    for number, value in enumerate((0.5, 0.2, math.nan, math.inf, -math.inf)):
        run.add(Suggested(trial=f"t{number}", config=config(1)))
        run.result(f"t{number}", 1, value)
        run.end(f"t{number}", "completed")
    assert run.load().best.trial_id == "t1"
    assert [t.id for t in run.load().top(9)] == ["t1", "t0"]


def test_counts_status_and_seconds(run):
    results = run.load()
    assert results.status == "running"
    expected = {"completed": 1, "failed": 1, "diverged": 1, "stopped": 1, "pending": 1, "running": 0, "paused": 0}
    assert results.counts == expected
    assert results.seconds == run.t
    run.add(Closed(RunStatus.INTERRUPTED))
    assert run.load().status == "interrupted"


def test_a_killed_run_is_readable(run):
    with (run.path / "journal.jsonl").open("a") as file:
        file.write('{"t": 99, "events": [{"event": "end", "tri')
    assert len(run.load().trials) == 5


def test_a_run_without_a_journal_and_without_a_report(tmp_path):
    run = RunByHand(tmp_path / "run", experiment())
    for _ in range(2):
        results = run.load()
        assert results.best is None
        assert results.trials.empty
        assert results.curves.empty
        assert results.to_json()["best"] is None
        (run.path / "journal.jsonl").unlink(missing_ok=True)
    with pytest.raises(ExperimentError, match="holds no run"):
        load_results(tmp_path)


def test_a_deleted_checkpoint_is_not_named(run):
    run.store.delete(run.load().ledger.trials["t00003"].checkpoints[0])
    best = run.load().best
    assert best.trial_id == "t00003"
    assert best.checkpoint_epoch == 2


def test_an_event_that_does_not_follow_is_one_error(run):
    run.add(Started("t9", epoch=0))
    with pytest.raises(ExperimentError, match=r"journal.jsonl:\d+.*'t9': is no trial that was suggested before"):
        run.load()


@pytest.mark.parametrize("event", [{"event": "wish"}, {"event": "suggest"}, {"event": "start", "trial": 3}])
def test_events_that_do_not_fit_are_one_error(run, event):
    append_raw(run.journal, event)
    with pytest.raises(ExperimentError, match=r"journal.*is damaged: events\[0\]"):
        run.load()


def test_perturbations_change_config_and_generation(tmp_path):
    run = RunByHand(tmp_path / "run", experiment())
    for number in range(2):
        run.add(Suggested(trial=f"t{number}", config=config(number + 1)))
        run.add(Started(trial=f"t{number}", epoch=0))
    donor = run.checkpoint("t1", 2)
    for epoch in (1, 2):
        run.result("t1", epoch, 0.7)
    run.result("t0", 1, 0.4)
    run.result("t0", 2, 0.3, decision="exploited")
    copy = run.store.adopt(donor, "t0", 1)
    fields = {"epoch": 2, "donor": "t1", "donor_epoch": 2, "generation": 1}
    configs = {"old_config": config(1), "new_config": config(7)}
    run.add(Perturbed(trial="t0", donor_generation=0, checkpoint=copy, **fields, **configs))
    results = run.load()
    assert results.perturbations == [{"trial": "t0", **fields, **configs}]
    trial = results.ledger.trials["t0"]
    assert (trial.status, trial.config, trial.best_config, trial.best) == ("paused", config(7), config(1), 0.4)
    assert trial.resume_from == copy
    run.result("t0", 3, 0.9, generation=1)
    trial = run.load().ledger.trials["t0"]
    assert (trial.best, trial.best_epoch, trial.best_config) == (0.9, 3, config(7))
    assert run.load().best.config == config(7)


def test_better():
    low, high = Objective("value", "min"), Objective("value", "max")
    assert low.better(1.0, None)
    assert low.better(1.0, math.nan)
    assert low.better(1.0, 2.0)
    assert not low.better(1.0, 1.0)
    assert high.better(2.0, 1.0)
    for value in (math.nan, math.inf, -math.inf):
        assert not high.better(value, None)


def test_the_ledger_counts_trials_that_end_without_a_new_best():
    ledger = Ledger(Objective("value", "max"))
    for number, value in enumerate((0.5, 0.4, 0.4, 0.6, 0.1)):
        trial = str(number)
        ledger.apply(Suggested(trial, config={}))
        ledger.apply(Reported(trial, 0, 1, {"value": value}, 0.0))
        ledger.apply(Ended(trial, Outcome.COMPLETED, "max_epochs"))
    assert ledger.ended_since_best == 1  # the one after the best
    assert ledger.best_trial.id == "3"
    assert ledger.live == {}


def test_a_trial_has_lost_its_parts_of_workers_since_its_last_new_report():
    ledger = Ledger(Objective("validation_accuracy", "max"))
    ledger.apply(suggest("t00000"))
    for lost in ({"lost_worker": True}, {"lost_worker": True, "blame": 0.25}, {"lost_worker": False}):
        ledger.apply(Retried("t00000", epoch=0, error="the worker died", **lost))
    assert (ledger.trials["t00000"].losses, ledger.trials["t00000"].failures) == (1.25, 1)
    for event in result("t00000", 1, 0.5):
        ledger.apply(event)
    assert (ledger.trials["t00000"].losses, ledger.trials["t00000"].failures) == (0, 1)


def test_the_test_split_is_opened_once_and_for_a_sound_checkpoint(run, tmp_path):
    """record_test, with an evaluation that counts its calls. (It wants state.pt: the files here are called weights.)"""
    winner = run.load().ledger.winner()
    calls = []

    def call(function, *arguments):
        calls.append(arguments)
        return {"test_accuracy": 0.5}

    from raytune_hpo.storage.run_directory import RunDirectory

    directory = RunDirectory.open(run.path)
    for record in winner.checkpoints:
        (run.path / record.path / "weights").rename(run.path / record.path / "state.pt")
    record_test(directory, experiment().resolved, winner, call)  # both are damaged now
    assert calls == []
    best = winner.checkpoints[0]
    (run.path / best.path / "state.pt").rename(run.path / best.path / "weights")
    (run.path / best.path / "state.pt").write_text("x")
    import dataclasses

    from raytune_hpo.storage.checkpoints import fingerprint, unpack

    size, crc = fingerprint(run.path / best.path)
    winner.checkpoints[0] = dataclasses.replace(best, bytes=size, crc32=crc)
    for _ in range(2):
        record_test(directory, experiment().resolved, winner, call)
    assert len(calls) == 1
    assert calls[0][2] == config(4)
    unpack(calls[0][3], tmp_path)
    assert (tmp_path / "state.pt").read_text() == "x"
    sealed = {"trial": "t00003", "checkpoint": best.path, "epoch": 1}
    assert read_test(run.path) == {**sealed, "metrics": {"test_accuracy": 0.5}}
    assert [(o.purpose, o.subject, o.again) for o in openings(run.path)] == [("winner", sealed, False)]
    assert run.load().best.test == {"test_accuracy": 0.5}
