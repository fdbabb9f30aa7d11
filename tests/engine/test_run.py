"""run() over a real, local Ray with functions of the user's own: failures, limits, resume."""

from __future__ import annotations

import math
import os
import tempfile
import time
from pathlib import Path

import pytest
from ray import tune

from raytune_hpo import Choice, Experiment, ExperimentError, Float, resume, run
from raytune_hpo.engine import population
from raytune_hpo.storage.checkpoints import CheckpointStore

pytestmark = pytest.mark.usefixtures("ray_session")


def trains(config):
    """Reports quality * epoch and saves every report, in a temporary folder of its own, as Ray's examples do.

    config["log"]: a folder to which every start is written. config["how"]: what else befalls it.
    """
    how = config.get("how", "well")
    log = Path(config["log"]) / tune.get_context().get_trial_id()
    epoch = 0
    start = tune.get_checkpoint()
    if start is not None:
        with start.as_directory() as folder:
            epoch = int((Path(folder) / "epoch").read_text())
    with log.open("a") as file:
        file.write(f"{epoch}\n")
    began, starts = epoch, len(log.read_text().split())
    if how == "never works":
        raise RuntimeError("never works")
    if how == "is silent":
        return
    if how == "says another name":
        tune.report({"loss": 1.0})
    while True:
        if how == "raises twice" and epoch - began == 2 and starts <= 2:
            raise ValueError(f"asked for at epoch {epoch}")
        if how == "loses its worker" and epoch == 1:
            os._exit(1)
        epoch += 1
        # A report is only sent with the next one where epochs are short: this one is to be sent.
        time.sleep(0.05 if how == "loses its worker" else config.get("sleep", 0.0))
        value = config["quality"] * min(epoch, 2 if how == "stands still" else 99)
        if how == "diverges" and epoch == 3:
            value = math.nan
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "epoch").write_text(str(epoch))
            tune.report({"value": value}, checkpoint=tune.Checkpoint.from_directory(folder))


@pytest.fixture
def make(tmp_path):
    def build(points=(), space=None, **fields):
        space = {"quality": Float(0.0, 1.0), "log": str(tmp_path), **(space or {})}
        values = {"scheduler": "fifo", "num_samples": len(points) or 3, "max_epochs": 4, "max_concurrent": 1, **fields}
        return Experiment(name="f", task=trains, space=space, metric="value", mode="max", start_points=points, **values)

    return build


def starts(tmp_path, trial):
    return [int(line) for line in (tmp_path / trial).read_text().split()]


def check_curves(results):
    for (trial_id, _), curve in results.curves.groupby(["trial_id", "generation"]):
        assert list(curve.epoch) == list(range(curve.epoch.min(), curve.epoch.max() + 1)), trial_id


def test_a_function_of_the_users_own(make, tmp_path):
    results = run(make(), tmp_path / "run")
    assert results.status == "finished"
    assert results.counts["completed"] == 3
    assert list(results.trials.epochs) == [4, 4, 4]
    assert len(results.curves) == 12
    check_curves(results)
    best = results.best
    assert best.metric == pytest.approx(4 * max(results.trials["config.quality"]))
    assert (best.checkpoint / "epoch").read_text() == "4"
    assert best.test is None
    # No temporary folder is left among the checkpoints, and what is left is whole.
    store = CheckpointStore(results.run_dir, 1)
    kept = [c for t in results.ledger.trials.values() for c in results.kept(t).checkpoints]
    assert kept
    assert all(store.intact(c) for c in kept)
    on_disk = {str(p.relative_to(results.run_dir)) for p in (results.run_dir / "checkpoints").glob("*/*")}
    assert {c.path for c in kept} == on_disk
    again = resume(tmp_path / "run", task=trains)
    assert again.rows() == results.rows()
    with pytest.raises(ExperimentError, match="exists already"):
        run(make(), tmp_path / "run")


HOW = [
    "raises twice",
    "never works",
    "diverges",
    "stands still",
    "is silent",
    "says another name",
    "loses its worker",
    "well",
]


def test_what_befalls_one_trial_ends_that_trial_only(make, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(population, "LOSSES_ALLOWED", 1)
    points = [{"quality": 0.9 - number / 100, "how": how} for number, how in enumerate(HOW)]
    fields = {"max_epochs": 7, "max_failures": 2, "early_stopping": {"patience": 3}}
    results = run(make(points, {"how": Choice(HOW)}, **fields), tmp_path / "run", quiet=True)
    assert results.status == "finished"
    check_curves(results)
    rows = dict(zip(HOW, results.rows(), strict=True))
    ended = {how: (row["status"], row["reason"], row["epochs"], row["failures"]) for how, row in rows.items()}
    assert ended == {
        "raises twice": ("completed", "max_epochs", 7, 2),
        "never works": ("failed", "error", 0, 2),
        "diverges": ("diverged", "value is nan at epoch 3", 3, 0),
        "stands still": ("stopped", "plateau", 5, 0),
        "is silent": ("failed", "error", 0, 0),
        "says another name": ("failed", "error", 0, 0),
        "loses its worker": ("failed", "error", 1, 0),
        "well": ("completed", "max_epochs", 7, 0),
    }
    assert starts(tmp_path, "t00000") == [0, 2, 4]
    assert rows["raises twice"]["error"].endswith(", in trains: ValueError: asked for at epoch 4")
    assert "asked for at epoch 2" in (results.run_dir / rows["raises twice"]["error_file"]).read_text()
    assert len(list((results.run_dir / "errors").iterdir())) == 2
    assert rows["never works"]["error"].endswith(", in trains: RuntimeError: never works")
    text = (results.run_dir / rows["never works"]["error_file"]).read_text()
    assert "in trains" in text
    assert "ray::" not in text
    assert rows["diverges"]["last"] is None
    assert rows["stands still"]["best_epoch"] == 2
    assert "returned without a report" in rows["is silent"]["error"]
    assert "no number named 'value'; it has: loss" in rows["says another name"]["error"]
    assert "worker process called os._exit(1)" in rows["loses its worker"]["error"]
    assert results.best.trial_id == "t00000"
    # Ray prints on standard output that a worker died, whatever log_to_driver says.
    assert capfd.readouterr() == ("", "")
    assert results.counts == {
        **dict.fromkeys(("pending", "running", "paused"), 0),
        **{"completed": 2, "failed": 4, "diverged": 1, "stopped": 1},
    }


def test_the_time_budget_ends_the_run(make, tmp_path):
    # The budget is of running, the workers' start included: enough for that on a busy machine.
    fields = {"num_samples": 50, "max_epochs": 100, "time_budget_s": 6}
    results = run(make(space={"sleep": 0.1}, **fields), tmp_path / "run")
    assert results.status == "finished"
    assert results.stop_reason == "time budget of 6 s used"
    assert {row["reason"] for row in results.rows()} <= {"time budget of 6 s used", "max_epochs"}
    assert len(results.rows()) < 50
    assert 6 <= results.seconds < 15


def test_reaching_the_target_ends_the_run(make, tmp_path):
    points = [{"quality": 0.1}, {"quality": 0.5}, {"quality": 0.9}]
    results = run(make(points, stop={"target": 1.0}), tmp_path / "run")
    assert results.stop_reason == "target 1 reached"
    rows = [(row["status"], row["reason"], row["epochs"]) for row in results.rows()]
    # Who reached it ends with its next report.
    assert rows == [("completed", "max_epochs", 4), ("stopped", "target 1 reached", 3)]


def test_no_improvement_ends_the_run(make, tmp_path):
    points = [{"quality": q} for q in (0.9, 0.1, 0.2, 0.3, 0.4)]
    results = run(make(points, stop={"no_improvement_trials": 3}, max_epochs=2), tmp_path / "run")
    assert results.stop_reason == "no improvement over 3 trials"
    assert len(results.rows()) == 4  # the best one and the three after it


def test_pbt_on_ray(make, tmp_path):
    points = [{"quality": q, "how": "stands still"} for q in (0.9, 0.1, 0.5, 0.3)]
    scheduler = {"name": "pbt", "mutate": ["quality"], "interval": 2}
    space = {"how": Choice(["stands still", "well"])}
    results = run(make(points, space, scheduler=scheduler, max_epochs=8), tmp_path / "run")
    assert results.counts["completed"] == 4
    assert results.perturbations
    check_curves(results)
    for event in results.perturbations:
        assert event["donor_epoch"] in starts(tmp_path, event["trial"])


def test_hyperband_on_ray(make, tmp_path):
    results = run(make(num_samples=12, scheduler="hyperband", max_epochs=9), tmp_path / "run")
    assert results.counts["completed"] + results.counts["stopped"] == 12
    assert results.counts["stopped"] > 3
    check_curves(results)
    # A paused trial goes on from where it was paused.
    assert any(starts(tmp_path, row["trial_id"]) == [0, 3] for row in results.rows())
