"""What surrounds one trial of a function: its directory, its seed, a process that earlier trials have not changed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from place_trainable import leaks, places

import raytune_hpo
from raytune_hpo import Choice, Digits, Experiment, Float, Resources, report, resume, run
from raytune_hpo.results.results import Results
from raytune_hpo.search.random_search import RandomSearch
from raytune_hpo.workers.nested_tasks import has_room


def experiment(task: Any, executor: str = "inline", **fields: Any) -> Experiment:
    given = {
        "space": {"x": Choice([0, 1, 2, 3])},
        "num_samples": 4,
        "max_epochs": 4,
        "searcher": "grid",
        "scheduler": "fifo",
        "checkpoint": {"keep_trials": 9},
        **fields,
    }
    if given["searcher"] == "grid":
        del given["num_samples"]
    return Experiment(name="places", task=task, metric="x", mode="max", executor=executor, **given)


@pytest.fixture(scope="module", params=["inline", "processes"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, str]:
    if request.param == "processes":
        request.getfixturevalue("ray_session")
    path = tmp_path_factory.mktemp("places") / "run"
    before = os.getcwd(), dict(os.environ), list(sys.path), torch.get_default_dtype(), random.getstate()
    cpus = 1 if request.param == "inline" else ray.cluster_resources()["CPU"]  # all, in one worker
    results = run(experiment(places, request.param, resources={"cpus": cpus}), path)
    after = os.getcwd(), dict(os.environ), list(sys.path), torch.get_default_dtype(), random.getstate()
    if request.param == "inline":
        assert after == before
    assert leaks() == ""
    return results, request.param


def test_a1_a_checkpoint_of_a_relative_folder_is_the_trials_own(ran: tuple[Results, str]) -> None:
    results, _ = ran
    assert list(results.trials["status"]) == ["completed"] * 4
    for trial in results.ledger.trials.values():
        record = trial.checkpoints[-1]
        saved = json.loads((results.run_dir / record.path / "w.json").read_text())
        assert saved == {"x": trial.config["x"], "epoch": 1}


def test_b6_the_context_is_as_a_tuner_gives_it(ran: tuple[Results, str]) -> None:
    results, executor = ran
    cpus = 1.0 if executor == "inline" else ray.cluster_resources()["CPU"]
    for trial in results.ledger.trials.values():
        own = str(results.run_dir / "trials" / trial.id)
        seen = trial.metrics
        assert (seen["cwd"], seen["dir"], seen["own_dir"]) == (own, own, own)
        assert (Path(own) / "notes.txt").read_text() == str(trial.config["x"])
        assert (seen["name"], seen["id"], seen["resources"]) == ("places", trial.id, f"[{{'CPU': {cpus}}}]")
        assert seen["original"] == os.getcwd()


def test_b12_nothing_of_a_trial_reaches_the_next(ran: tuple[Results, str]) -> None:
    results, _ = ran
    assert [trial.metrics["leaks"] for trial in results.ledger.trials.values()] == [""] * 4


def test_b12_generators_start_from_the_trials_seed(ran: tuple[Results, str]) -> None:
    results, _ = ran
    draws = [trial.metrics["draws"] for trial in results.ledger.trials.values()]
    assert len(set(draws)) == 4
    again = run(
        experiment(places, start_points=[{"x": 0}], searcher="random", num_samples=1), results.run_dir / "again"
    )
    assert [t.metrics["draws"] for t in again.ledger.trials.values()] == draws[:1]


def test_b11_what_never_has_room_is_refused_at_once(ran: tuple[Results, str]) -> None:
    results, executor = ran
    if executor == "inline":
        return
    (came,) = (trial.metrics for trial in results.ledger.trials.values() if trial.config["x"] == 0)
    for what in ("a task", "an actor"):
        assert "asks for 1 CPUs, and the trials hold all there is" in came[what]
        assert "max_concurrent" in came[what]
        assert "num_cpus=0" in came[what]
    assert came["a task without a CPU"] == "answered 1"
    assert came["an actor without a CPU"] == "answered 2"


def test_near_b11_what_is_left_besides_the_workers() -> None:
    one = Resources(1)
    assert not has_room((1, 0), [(2, 0), (4, 0)], one, None)
    assert has_room((1, 0), [(2, 0), (4, 0)], Resources(3), None), "of the first node two, of the second one"
    assert not has_room((2, 0), [(2, 0)], one, 1)
    assert has_room((1, 0), [(2, 0)], one, 1)
    assert has_room((1, 0), [(8, 1)], Resources(1, 1), None), "GPUs, not CPUs, bound the workers"
    assert not has_room((1, 1), [(8, 1)], Resources(1, 1), None)


# Neighbours ----------------------------------------------------------------------------------------------------------


def test_near_a1_a_retry_and_a_resume_find_the_old_directory(tmp_path: Path) -> None:
    def stops(config: dict[str, Any]) -> None:
        file = Path("tries.txt")
        tries = int(file.read_text()) if file.exists() else 0
        file.write_text(str(tries + 1))
        if tries == 0:
            raise ValueError("asked for")
        if tries == 1:
            raise KeyboardInterrupt
        report({"x": tries})

    results = run(experiment(stops, max_failures=2, searcher="random", num_samples=1), tmp_path / "run")
    assert [trial.metrics["x"] for trial in results.ledger.trials.values()] == [2]
    assert (tmp_path / "run/trials/t00000/tries.txt").read_text() == "3"


def test_near_a1_a_file_of_where_the_run_was_begun_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.csv").write_text("1\n")

    def reads(config: dict[str, Any]) -> None:
        name = "data/train.csv" if config["x"] < 2 else os.path.abspath("data/train.csv")
        try:
            open(name).close()
        except OSError as error:
            if config["x"] == 1:
                raise RuntimeError("cannot load") from error
            raise

    with contextlib.chdir(tmp_path):
        results = run(experiment(reads, space={"x": Choice([0, 1, 2])}, max_failures=0), tmp_path / "run")
    for trial in results.ledger.trials.values():
        assert trial.error is not None
        assert str(tmp_path / "data/train.csv") in trial.error
        assert "TUNE_ORIG_WORKING_DIR" in trial.error


def test_near_a1_the_users_own_ray_chdir_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    seen = []

    def where(config: dict[str, Any]) -> None:
        seen.append((os.getcwd(), raytune_hpo.trial_dir()))
        report({"x": 1})

    run(experiment(where, searcher="random", num_samples=1), tmp_path / "run")
    assert seen == [(os.getcwd(), tmp_path / "run/trials/t00000")]
    assert not (tmp_path / "run/trials").exists(), "what is empty goes with its trial"


SEARCHED: list[tuple[str, bool]] = []


class Recording(RandomSearch):
    """Writes down what the driver's process looks like between two trials."""

    name = "recording"

    def propose(self, *arguments: Any) -> Any:
        SEARCHED.append((os.getcwd(), "MINE" in os.environ))
        return super().propose(*arguments)


def test_near_a1_the_drivers_process_is_its_own_between_trials(tmp_path: Path) -> None:
    def marks(config: dict[str, Any]) -> None:
        for epoch in range(4):
            os.environ["MINE"] = str(epoch)
            Path("epoch.txt").write_text(str(epoch))
            report({"x": config["x"], "mine": os.environ["MINE"]})

    SEARCHED.clear()
    results = run(experiment(marks, searcher=Recording), tmp_path / "run")
    assert [(os.getcwd(), False)] * len(SEARCHED) == SEARCHED
    assert len(SEARCHED) >= 4
    for trial in results.ledger.trials.values():
        assert trial.metrics["mine"] == (tmp_path / f"run/trials/{trial.id}/epoch.txt").read_text() == "3"


def test_near_b2_a_repetition_has_another_seed_and_a_retry_the_same(tmp_path: Path) -> None:
    def seeded(config: dict[str, Any]) -> None:
        tries = Path("tries")
        if config["x"] == 0 and not tries.exists():
            tries.write_text(str(raytune_hpo.trial_seed()))
            raise ValueError("asked for")
        report({"x": raytune_hpo.trial_seed(), "first": tries.read_text() if tries.exists() else ""})

    points = [{"x": 0}, {"x": 1}]
    results = run(experiment(seeded, searcher="random", num_samples=2, start_points=points), tmp_path / "run")
    first, second = results.ledger.trials.values()
    assert first.metrics["first"] == str(first.metrics["x"])
    assert first.metrics["x"] != second.metrics["x"]
    assert raytune_hpo.trial_seed() == 0
    repeat = {"name": "repeat", "repeats": 2}
    repeated = run(experiment(seeded, searcher=repeat, start_points=points), tmp_path / "again")
    seeds = [trial.metrics["x"] for trial in repeated.ledger.trials.values()]
    assert len(set(seeds)) == 2, "the same for every config of a repetition, so that they are compared in pairs"


def test_near_a1_an_empty_directory_that_is_used_again_is_nobodys(tmp_path: Path) -> None:
    """Trials that write nothing, trials that do, one that goes on later, and children that live on, in turns."""
    children = []

    def mixed(config: dict[str, Any]) -> None:
        x = config["x"]
        if x == 1:
            Path("own.txt").write_text("1")
        if x == 2:
            children.append(subprocess.Popen(["sh", "-c", "read line; echo late > late.txt"], stdin=subprocess.PIPE))
        report({"x": x, "found": str(os.listdir())})

    results = run(experiment(mixed, space={"x": Choice([0, 1, 2, 3, 4, 5])}), tmp_path / "run")
    (child,) = children
    child.communicate(b"go\n")
    assert child.returncode != 0, "its directory is gone, and no other trial's"
    assert {t.config["x"]: t.metrics["found"] for t in results.ledger.trials.values()} == {
        x: "['own.txt']" if x == 1 else "[]" for x in range(6)
    }
    kept = [str(path.relative_to(tmp_path)) for path in (tmp_path / "run/trials").rglob("*")]
    (one,) = (t.id for t in results.ledger.trials.values() if t.config["x"] == 1)
    assert sorted(kept) == [f"run/trials/{one}", f"run/trials/{one}/own.txt"]


class WhereLoaded(Digits):
    """A task that reads a file by a relative path when it builds a model."""

    def build_model(self, config: Any) -> Any:
        assert Path("beside.txt").read_text() == "here"
        return super().build_model(config)


@pytest.mark.parametrize("executor", ["inline", "inline folds"])
def test_near_a1_a_task_trains_where_the_run_was_begun(tmp_path: Path, executor: str) -> None:
    (tmp_path / "beside.txt").write_text("here")
    fields: dict[str, Any] = {"folds": 2} if executor == "inline folds" else {}
    made = Experiment(
        name="tasks",
        task=WhereLoaded(),
        space={"lr": Float(0.01, 0.1), "batch_size": 512},
        num_samples=1,
        max_epochs=1,
        executor="inline",
        scheduler="fifo",
        **fields,
    )
    with contextlib.chdir(tmp_path):
        results = run(made, tmp_path / "run")
    assert list(results.trials["status"]) == ["completed"]
    assert not (tmp_path / "run/trials").exists()
    assert resume(tmp_path / "run", task=WhereLoaded()).status == "finished"
