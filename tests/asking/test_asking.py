"""Runs that are asked: by this process, by others, by shells; whatever dies."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Float, amend, load_results, open_run, report, run
from raytune_hpo.asking import server
from raytune_hpo.engine.commanding import give
from raytune_hpo.journal.events import Decided, Ended, Executor, Reported, Retried, SessionOpened, Started
from raytune_hpo.results.results import Results

PERSON = Path(__file__).parents[1] / "asking_person.py"


def loss(x: float, epoch: int) -> float:
    return x + 1 / epoch


def train(config: dict[str, Any]) -> None:
    for epoch in range(1, 10):
        report({"loss": loss(config["x"], epoch)})


def asked(**fields: Any) -> Experiment:
    return Experiment(
        **{
            "name": "asked",
            "task": None,
            "space": {"x": Float(0, 1)},
            "metric": "loss",
            "mode": "min",
            "searcher": "random",
            "scheduler": "asha",
            "num_samples": 8,
            "max_epochs": 9,
            **fields,
        }
    )


def trained(run: Any, trial: Any, after: int | None = None) -> int:
    """Until it is stopped. The epoch after which it was."""
    for epoch in range((trial.epoch if after is None else after) + 1, 100):
        if run.report(trial, epoch, {"loss": loss(trial.config["x"], epoch)}) == "stop":
            return epoch
    raise AssertionError("it was not stopped")


def table(results: Results) -> list[Any]:
    reports = [(e.trial, e.epoch, e.metrics["loss"]) for e in results.of(Reported)]
    decisions = [(e.trial, e.epoch, e.decision) for e in results.of(Decided)]
    return [reports, decisions, [(t.id, t.config, t.status, t.best) for t in results.ledger.trials.values()]]


@pytest.mark.parametrize("searcher", ["random", "hyperopt"])
def test_it_is_the_run_that_workers_would_have_made(tmp_path: Path, searcher: str) -> None:
    with open_run(asked(searcher=searcher), tmp_path / "asked") as own:
        assert own.owns
        while (trial := own.ask()) is not None:
            trained(own, trial)
        assert own.is_over
        assert own.ask() is None
    results = load_results(tmp_path / "asked")
    assert results.status == "finished"
    assert [e.executor for e in results.of(SessionOpened)] == [Executor.ASKED]
    fields = {"searcher": searcher, "task": train, "executor": "inline", "max_concurrent": 1}
    assert table(results) == table(run(asked(**fields), tmp_path / "run", quiet=True))
    assert not (tmp_path / "asked" / server.SOCKET).exists()
    with open_run(None, tmp_path / "asked") as again:  # it is over, and that is all
        assert again.ask() is None


def test_another_process_goes_through_the_socket_and_takes_over(tmp_path: Path) -> None:
    """(Two of one process are as two processes are: the lock is a descriptor's.)"""
    first = open_run(asked(scheduler="fifo", num_samples=3, max_epochs=4), tmp_path / "run", lease_s=5)
    with open_run(None, tmp_path / "run", lease_s=5) as second:
        assert (first.owns, second.owns) == (True, False)
        one, other = first.ask(), second.ask()
        assert one is not None
        assert other is not None
        assert second.report(other, 1, {"loss": 1.0}) == "continue"
        first.report(one, 1, {"loss": 2.0})
        first.close()
        assert second.report(other, 2, {"loss": 0.9}) == "continue"  # which now owns it
        assert second.owns
        assert second.report(other, 2, {"loss": 0.9}) == "continue"  # said twice
        assert trained(second, other, after=2) == 4
        with pytest.raises(ExperimentError, match="is closed here"):
            first.report(one, 2, {"loss": 1.0})
        left = []
        while (trial := second.ask()) is not None:
            left.append(trial.id)
            trained(second, trial)
    results = load_results(tmp_path / "run")
    assert results.status == "finished"
    assert set(left) == {one.id, "t00002"} - {other.id}
    assert max(Counter((e.trial, e.epoch) for e in results.of(Reported)).values()) == 1


def test_states_are_given_back(tmp_path: Path) -> None:
    """Hyperband pauses, pbt exploits: a trial goes on from the folder that came with its report."""
    for scheduler in ("hyperband", {"name": "pbt", "interval": 2, "mutate": ["x"]}):
        path = tmp_path / str(scheduler)[:9]
        seen = []
        with open_run(asked(scheduler=scheduler, num_samples=6), path) as own:
            waiting: list[Any] = []
            while True:
                try:
                    trial = own.ask(timeout_s=0.3)
                except TimeoutError:
                    trial = None
                    if not waiting:
                        continue
                if trial is None and not waiting:
                    break
                if trial is not None:
                    epoch = 0
                    if trial.epoch:
                        assert trial.checkpoint is not None
                        epoch = int((trial.checkpoint / "epoch").read_text())
                        seen.append(trial.epoch)
                    assert epoch == trial.epoch
                    waiting.append([trial, epoch])
                    continue
                for item in list(waiting):
                    trial, epoch = item[0], item[1] + 1
                    folder = tmp_path / "state"
                    folder.mkdir(exist_ok=True)
                    (folder / "epoch").write_text(str(epoch))
                    item[1] = epoch
                    if own.report(trial, epoch, {"loss": loss(trial.config["x"], epoch)}, folder) == "stop":
                        waiting.remove(item)
        assert seen
        assert load_results(path).status == "finished"


def test_who_is_not_heard_of_loses_the_trial(tmp_path: Path) -> None:
    experiment = asked(scheduler="fifo", num_samples=2, max_epochs=3)
    with open_run(experiment, tmp_path / "run") as own:
        with open_run(None, tmp_path / "run", lease_s=0.4, token="shell") as shell:
            trial = shell.ask()
            assert trial is not None
            assert shell.report(trial, 1, {"loss": 1.0}) == "continue"
            deadline = time.monotonic() + 20
            while not list(own.results().of(Retried)):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            taken = own.ask()
            assert taken is not None
            assert (taken.id, taken.epoch) == (trial.id, 0)  # without a checkpoint from the beginning
            with pytest.raises(ExperimentError, match="is another's: your lease has lapsed"):
                shell.report(trial, 2, {"loss": 1.0})
        (retried,) = own.results().of(Retried)
        assert "shell was not heard of for 0.4 s" in retried.error
        assert retried.lost_worker
        trained(own, taken)


def test_a_persons_commands_reach_who_trains(tmp_path: Path) -> None:
    """A stop, more epochs in mid-training (a new session of the owner's, which the trainer does not notice)."""
    experiment = asked(scheduler="fifo", num_samples=2, max_epochs=4)
    with open_run(experiment, tmp_path / "run", lease_s=5) as own:
        first, second = own.ask(), own.ask()
        assert first is not None
        assert second is not None
        own.report(first, 1, {"loss": 1.0})
        assert give(tmp_path / "run", "stop", trial=first.id).is_running
        assert own.report(first, 2, {"loss": 0.5}) == "stop"
        amend(tmp_path / "run", {"max_epochs": 6})
        assert trained(own, second) == 6
        assert own.ask() is None
    results = load_results(tmp_path / "run")
    assert {t.id: t.epoch for t in results.ledger.trials.values()} == {first.id: 1, second.id: 6}
    assert results.ledger.sessions == 2


def test_tell_ends_a_trial(tmp_path: Path) -> None:
    with open_run(asked(scheduler="fifo", num_samples=4, max_failures=0, fail_fast=None), tmp_path / "run") as own:
        told = [{"metrics": {"loss": 0.5}}, {"error": "it broke\nin two lines"}, {}, {}]
        for number, what in enumerate(told):
            trial = own.ask()
            assert trial is not None
            if number == 2:
                own.report(trial, 1, {"loss": 1.5})
            own.tell(trial, **what)
            with pytest.raises(ExperimentError, match="is over: nothing more can be told of it"):
                own.tell(trial, {"loss": 1.0})
        assert own.ask() is None
        ends = [(t.status, t.best, t.error) for t in own.results().ledger.trials.values()]
    assert [(status, best) for status, best, _ in ends] == [
        ("completed", 0.5),
        ("failed", None),
        ("completed", 1.5),
        ("failed", None),
    ]
    assert ends[1][2] == "it broke in two lines"


def test_askers_wait_for_one_another(tmp_path: Path) -> None:
    """coarse_to_fine has nothing to suggest before a round has ended; who waits is answered then."""
    searcher = {"name": "coarse_to_fine", "rounds": 2, "samples": 2}
    with open_run(asked(scheduler="fifo", searcher=searcher, num_samples=None, max_epochs=4), tmp_path / "run") as own:
        first, second = own.ask(), own.ask()
        with pytest.raises(TimeoutError, match=r"no trial within 0\.2 s"):
            own.ask(timeout_s=0.2)
        got: list[Any] = []
        waiting = threading.Thread(target=lambda: got.append(own.ask()))
        waiting.start()
        for trial in (first, second):
            trained(own, trial)
        waiting.join(20)
        assert got[0] is not None
        trained(own, got[0])
        while (trial := own.ask()) is not None:
            trained(own, trial)
    assert load_results(tmp_path / "run").status == "finished"


# Processes -----------------------------------------------------------------------------------------------


FILE = """
from raytune_hpo import *
experiment = Experiment(
    name="a", task=None, space={"x": Float(0, 1)}, metric="loss", mode="min", searcher="random", scheduler="asha",
    num_samples=SAMPLES, max_epochs=9,
)
"""


def campaign(folder: Path, samples: int, kills: int, seed: int) -> dict[str, Any]:
    """Four processes over one run, which are killed, each second time the owner, and begun again."""
    rng = random.Random(seed)
    (folder / "exp.py").write_text(FILE.replace("SAMPLES", str(samples)))

    def start(number: int) -> subprocess.Popen[bytes]:
        arguments = [folder / "exp.py", folder / "run", folder / f"log{number}", "0.03"]
        with (folder / f"err{number}").open("ab") as errors:
            return subprocess.Popen([sys.executable, PERSON, *arguments], stderr=errors)

    people = {number: start(number) for number in range(4)}
    killed: list[str] = []
    deadline = time.monotonic() + 100 + samples
    try:
        while any(person.poll() is None for person in people.values()):
            assert time.monotonic() < deadline
            time.sleep(rng.uniform(0.3, 2.0))
            alive = [number for number, person in people.items() if person.poll() is None]
            if len(killed) >= kills or not alive or not (folder / "log0").exists():
                continue
            lock = folder / "run" / "lock"
            holder = lock.read_text() if lock.exists() else ""
            owner = next((n for n in alive if f"process {people[n].pid} " in holder), None)
            if owner is None and len(killed) % 2 == 0:
                continue
            victim = owner if owner is not None and len(killed) % 2 == 0 else rng.choice(alive)
            people[victim].kill()
            people[victim].wait()
            killed.append("owner" if victim == owner else "another")
            people[victim] = start(victim)
    finally:
        for person in people.values():
            person.kill()
            person.wait()
    errors = "".join((folder / f"err{number}").read_text() for number in range(4))
    assert [person.returncode for person in people.values()] == [0] * 4, errors[-3000:]
    results = load_results(folder / "run")
    assert results.status == "finished"
    assert len(results.ledger.trials) == samples
    assert set(Counter(e.trial for e in results.of(Ended)).values()) == {1}, "a trial ended twice"
    reports = Counter((e.trial, e.epoch) for e in results.of(Reported))
    assert max(reports.values()) == 1, "a report was taken twice"
    for number in range(4):
        for line in (folder / f"log{number}").read_text().splitlines():
            note = json.loads(line)
            assert "decision" not in note or (note["trial"], note["epoch"]) in reports, "an answered report was lost"
    for trial in results.ledger.trials.values():
        values = [(e.epoch, e.metrics["loss"]) for e in results.of(Reported) if e.trial == trial.id]
        assert values == [(e, loss(trial.config["x"], e)) for e in range(1, trial.epoch + 1)]
    return {"killed": Counter(killed), "sessions": results.ledger.sessions}


def test_processes_that_are_killed(tmp_path: Path) -> None:
    found = campaign(tmp_path, 120, 3, 1)
    assert found["killed"]["owner"] >= 1, found


@pytest.mark.large
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4))
def test_processes_that_are_killed_often(tmp_path: Path, seed: int) -> None:
    print(campaign(tmp_path, 200, 14, seed))


SCRIPT = """
set -e
while trial=$(raytune-hpo ask run --experiment exp.py); do
    field() { echo "$trial" | python -c "import json, sys; print(json.load(sys.stdin)$1)"; }
    x=$(field "['config']['x']")
    for epoch in 1 2 3; do
        told="{\\"loss\\": $(python -c "print($x + 1 / $epoch)")}"
        raytune-hpo tell run $(field "['trial']") --epoch $epoch --metrics "$told" | grep -q continue || break
    done
done
"""


def test_a_shell_script_does_it(tmp_path: Path) -> None:
    """No process stays: each command owns the run while it lasts."""
    assert len(SCRIPT.strip().splitlines()) <= 10
    (tmp_path / "exp.py").write_text(FILE.replace("SAMPLES", "3").replace("max_epochs=9", "max_epochs=3"))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", SCRIPT], cwd=tmp_path, env=environment, check=True, timeout=100)
    results = load_results(tmp_path / "run")
    assert results.status == "finished"
    assert len(results.ledger.trials) == 3
    assert not list(results.of(Retried))
    assert {e.worker.partition(" ")[0] for e in results.of(Started) if e.worker} == {"shell"}
