"""Who trains: lanes where they can and are faster, processes elsewhere, with the reason; on a real, local Ray."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lane_tasks import Branching

from raytune_hpo import Experiment, ExperimentError, Float, load_results, resume, run
from raytune_hpo.engine import population
from raytune_hpo.journal.events import (
    Decided,
    Executor,
    Perturbed,
    Retried,
    SessionOpened,
    Started,
)
from raytune_hpo.results.results import Results
from raytune_hpo.settings import Resources
from raytune_hpo.states import Decision
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.workers import choice
from raytune_hpo.workers.choice import GENERATIONS, MOST_UNKNOWN, concurrent_lanes
from raytune_hpo.workers.executors import has_room
from raytune_hpo.workers.inline_transport import InlineTransport

SPACE = {"lr": Float(1e-4, 1e-1, "log"), "batch_size": 256, "hidden_units": 16}
#: For one worker on the two cores that these tests have: each starts with seconds of imports.
ONE_WORKER = {"cpus": 2}


def digits(**fields: Any) -> Experiment:
    values = {"task": "digits", "space": SPACE, "num_samples": 6, "max_epochs": 3}
    values |= {"searcher": "random", "scheduler": "fifo", **fields}
    return Experiment(name="executors", **values)


def executors(results: Results) -> list[Executor]:
    return [event.executor for event in results.of(SessionOpened)]


@pytest.mark.usefixtures("ray_session")
def test_lanes_of_a_small_model(tmp_path: Path) -> None:
    results = run(digits(executor="lanes"), tmp_path / "run")
    assert results.status == "finished"
    assert executors(results) == ["lanes"]
    assert len(results.curves) == 18
    best = results.best
    assert best is not None
    assert best.test is not None
    assert best.checkpoint is not None
    assert "#" in str(best.checkpoint)
    assert [event.host for event in results.of(Started)] != []


@pytest.mark.usefixtures("ray_session")
def test_an_array_says_why_processes_are_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster nothing is tried in the driver's process."""
    monkeypatch.setattr(choice, "refusal", lambda *_: "on a cluster")
    space = {"lr": Float(1e-4, 1e-1, "log"), "batch_size": 256}
    experiment = digits(task=Branching(), space=space, num_samples=1, max_epochs=1, resources=ONE_WORKER)
    results = run(experiment, tmp_path / "run")
    assert results.status == "finished"
    assert executors(results) == ["processes"]
    (reason,) = (event.reason for event in results.of(SessionOpened))
    # (Of a machine that is busy with other things a step takes so long that it is not even tried.)
    assert reason == "Branch is not vmappable" or str(reason).startswith("a step of one model takes ")


@pytest.mark.usefixtures("ray_session")
def test_pbt_in_lanes_records_its_lineage(tmp_path: Path) -> None:
    scheduler = {"name": "pbt", "interval": 2, "quantile": 0.34}
    experiment = digits(scheduler=scheduler, max_epochs=8, executor="lanes", resources=ONE_WORKER)
    results = run(experiment, tmp_path / "run")
    assert results.status == "finished"
    perturbed = list(results.of(Perturbed))
    assert perturbed
    for event in perturbed:
        assert event.donor_epoch % 2 == 0
        # The donor's own row of a file: nothing is copied on the disk.
        assert event.checkpoint.path.rpartition("#")[2].startswith(f"{event.donor}-")
    assert Decision.PAUSE not in {event.decision for event in results.of(Decided)}
    assert {trial.epoch for trial in results.ledger.trials.values()} == {8}


@pytest.mark.usefixtures("ray_session")
def test_hyperband_in_lanes_pauses_and_goes_on(tmp_path: Path) -> None:
    experiment = digits(scheduler="hyperband", num_samples=9, max_epochs=9, executor="lanes", resources=ONE_WORKER)
    results = run(experiment, tmp_path / "run")
    assert results.status == "finished"
    assert Decision.PAUSE in {event.decision for event in results.of(Decided)}
    for _, curve in results.curves.groupby("trial_id"):
        assert list(curve.epoch) == list(range(1, len(curve) + 1))


@pytest.mark.usefixtures("ray_session")
def test_a_finished_run_keeps_the_lanes_that_retention_names(tmp_path: Path) -> None:
    fields = {"executor": "lanes", "checkpoint": {"keep_trials": 2}, "resources": ONE_WORKER}
    results = run(digits(num_samples=12, **fields), tmp_path / "run")
    kept = {c.path for t in results.ledger.trials.values() for c in results.kept(t).checkpoints}
    assert 2 <= len(kept) <= 4  # the best and the last of two trials
    assert load_results(tmp_path / "run").best is not None
    assert resume(tmp_path / "run").status == "finished"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"folds": 3}, "folds train several models a trial"),
        ({"hypergradient": {}}, "hypergradients look ahead"),
        ({"lr_range": "auto"}, "a learning-rate range test"),
        ({"scheduler": "panda", "num_samples": 1}, "a panda is one model"),
        ({"resources": {"cpus": 1, "gpus": 2}}, "a trial needs several GPUs"),
    ],
)
def test_what_no_lane_can_do_is_one_error_or_processes(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ExperimentError, match=f"executor = 'lanes': {reason}"):
        digits(executor="lanes", **fields)
    assert digits(**fields).resolved.lanes_refusal is not None


def test_an_unknown_executor_is_one_error() -> None:
    with pytest.raises(ExperimentError, match="executor = 'lane': must be one of auto, processes, lanes, inline"):
        digits(executor="lane")


def test_searchers_that_learn_get_fewer_trials_at_a_time() -> None:
    assert concurrent_lanes(digits(searcher="hyperopt", num_samples=80).resolved) == 80 // GENERATIONS
    assert concurrent_lanes(digits(searcher="hyperopt", num_samples=3).resolved) == 2
    assert concurrent_lanes(digits(searcher="hyperopt", num_samples=100_000).resolved) == MOST_UNKNOWN
    assert concurrent_lanes(digits(searcher="hyperopt", num_samples=80, scheduler="pbt").resolved) == 80
    assert concurrent_lanes(digits(searcher="random", num_samples=80).resolved) == 80
    assert concurrent_lanes(digits(searcher="random", num_samples=80, max_concurrent=5).resolved) == 5


@dataclass
class Rooms(InlineTransport):
    rooms: int

    def capacity(self, resources: Resources) -> int:
        return self.rooms


@pytest.mark.parametrize("executor", Executor)
def test_all_trials_have_room_unless_fewer_may_run_or_fit(executor: Executor) -> None:
    assert has_room(digits(num_samples=6).resolved, executor, Rooms(6))
    assert not has_room(digits(num_samples=6, max_concurrent=5).resolved, executor, Rooms(6))
    assert has_room(digits(num_samples=7).resolved, executor, Rooms(6)) == executor.of_lanes
    assert not has_room(digits(num_samples=6).resolved, executor, Rooms(0))


@pytest.mark.parametrize(("every", "interval", "expected"), [(1, 4, 1), (2, 4, 2), (3, 4, 1)])
def test_pbt_finds_a_checkpoint_at_every_interval(every: int, interval: int, expected: int) -> None:
    experiment = digits(scheduler={"name": "pbt", "interval": interval}, checkpoint={"every": every}, max_epochs=8)
    assert experiment.resolved.checkpoint_every == expected


@dataclass(frozen=True)
class OnAFullDisk(Digits):
    """A digits task whose trials find the disk full until `room` is there."""

    room: str = ""
    when: str = "built"

    def build_model(self, config: Mapping[str, Any]) -> Any:
        model = super().build_model(config)
        if self.when == "built" and config["lr"] < 1e-2:
            self._write()
        return model

    def augment(self, x: Any) -> Any:
        if self.when == "trained":
            self._write()
        return x

    def _write(self) -> None:
        if not Path(self.room).exists():
            import torch

            with Path("/dev/full").open("wb", buffering=0) as file:
                torch.save(torch.zeros(10**6), file)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("executor", "when"), [("lanes", "built"), ("lanes", "trained"), ("processes", "built")])
def test_a_full_disk_stops_the_run_and_fails_no_trial(tmp_path: Path, executor: str, when: str) -> None:
    task = OnAFullDisk(room=str(tmp_path / "room"), when=when)
    message = (
        rf"storage = 'a disk of {socket.gethostname()}': cannot be written \(No space left on device\).*then resume"
    )
    with pytest.raises(ExperimentError, match=message):
        run(digits(task=task, executor=executor, resources=ONE_WORKER), tmp_path / "run")
    Path(task.room).touch()
    results = resume(tmp_path / "run", task=task)
    assert results.status == "finished"
    assert set(results.trials["status"]) == {"completed"}
    assert len(results.curves) == 18


@dataclass(frozen=True)
class KillsItsProcess(Digits):
    """A digits task with one trial that its process does not survive."""

    driver: int = 0

    def build_model(self, config: Mapping[str, Any]) -> Any:
        if config["lr"] == 0.05 and os.getpid() != self.driver:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().build_model(config)


@pytest.mark.usefixtures("ray_session")
def test_a_trial_that_kills_arrays_fails_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "LOSSES_ALLOWED", 1)
    points = [{"lr": 0.05 if number == 2 else 0.01} for number in range(4)]
    task = KillsItsProcess(driver=os.getpid())
    experiment = digits(task=task, executor="lanes", num_samples=4, start_points=points, resources=ONE_WORKER)
    results = run(experiment, tmp_path / "run")
    statuses = list(results.trials["status"])
    assert statuses == ["failed" if number == 2 else "completed" for number in range(4)]
    losses = [event.blame for event in results.of(Retried) if event.trial == "t00002"]
    assert losses[0] < 1  # at first it shared the blame
