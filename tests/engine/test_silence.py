"""Trials that hang: ended with their worker by the experiment's timeouts; and who is told when a run has ended."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raytune_hpo import Choice, Experiment, ExperimentError, Float, get_checkpoint, report, run
from raytune_hpo.engine.silence import Silence
from raytune_hpo.journal.events import Noticed, Retried
from raytune_hpo.tasks.digits import Digits

OF_FUNCTION: dict[str, Any] = {
    "metric": "loss",
    "mode": "min",
    "searcher": "grid",
    "scheduler": "fifo",
    "max_epochs": 4,
}


def hanging(config: dict[str, Any]) -> None:
    """The trial of 1 does not come back from its third epoch, the first time."""
    start = get_checkpoint()
    first = int((start / "epoch").read_text()) if start is not None else 0
    for epoch in range(first, 4):
        if config["which"] == 1 and epoch == 2 and start is None:
            time.sleep(600)
        if config["which"] == 2:
            time.sleep(0.4)
        folder = Path(config["folder"]) / f"{config['which']}-{epoch}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "epoch").write_text(str(epoch + 1))
        report({"loss": float(epoch)}, checkpoint=folder)


class Stuck(nn.Module):
    """Its first batch does not come back where a mark says so."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.layer, self.mark = nn.Linear(64, 10), mark

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.mark.exists():
            self.mark.unlink()
            time.sleep(600)
        return self.layer(x)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Sticking(Digits):
    folder: str = ""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Stuck(Path(self.folder, "mark"))

    def model_hyperparameters(self) -> Mapping[str, Any]:
        return {}


@pytest.mark.usefixtures("ray_session")
def test_a_trial_that_hangs_is_ended_with_its_worker_and_goes_on(tmp_path: Path) -> None:
    experiment = Experiment(
        name="hangs",
        task=hanging,
        space={"which": Choice([0, 1, 2]), "folder": str(tmp_path / "made")},
        report_timeout_s=5.0,
        storage=str(tmp_path),
        **OF_FUNCTION,
    )
    results = run(experiment, tmp_path / "run", quiet=True)
    assert results.counts["completed"] == 3, [(t.id, t.status, t.error) for t in results.ledger.trials.values()]
    (retried,) = results.of(Retried)
    assert retried.trial == "t00001"
    assert retried.error.startswith("no report for ")
    assert "report_timeout_s is 5" in retried.error
    assert not retried.lost_worker
    assert retried.epoch == 2, "what it has reported is not kept back while it is at work"


@pytest.mark.large
@pytest.mark.usefixtures("ray_session")
def test_a_trial_that_takes_too_long_has_failed(tmp_path: Path) -> None:
    experiment = Experiment(
        name="long",
        task=hanging,
        space={"which": Choice([0, 2]), "folder": str(tmp_path / "made")},
        trial_timeout_s=1.0,
        max_failures=0,
        storage=str(tmp_path),
        **OF_FUNCTION,
    )
    results = run(experiment, tmp_path / "run", quiet=True)
    first, second = results.ledger.trials.values()
    assert first.status == "completed"
    assert (second.status, second.error is not None and "trial_timeout_s is 1" in second.error) == ("failed", True)


@pytest.mark.usefixtures("ray_session")
def test_an_array_that_hangs_is_ended_and_its_lanes_go_on(tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    experiment = Experiment(
        name="stuck",
        task=Sticking(folder=str(tmp_path)),
        space={"lr": Float(1e-3, 1e-1, "log")},
        searcher="random",
        scheduler="fifo",
        num_samples=4,
        max_epochs=3,
        executor="lanes",
        report_timeout_s=5.0,
        storage=str(tmp_path),
    )
    (tmp_path / "mark").unlink()  # the first check trains too
    experiment = experiment.override({"seed": 1})
    (tmp_path / "mark").touch()
    results = run(experiment, tmp_path / "run", quiet=True)
    assert results.counts["completed"] == 4


def test_timeouts_need_workers(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"name": "x", "task": "digits", "space": {"lr": Float(0.1, 1.0)}}
    with pytest.raises(ExperimentError, match="inline has none"):
        Experiment(**fields, executor="inline", report_timeout_s=3.0)
    with pytest.raises(ExperimentError, match="must be a number above 0"):
        Experiment(**fields, trial_timeout_s=0)


def test_who_is_silent_is_said_once() -> None:
    now = 0.0
    silence = Silence(lambda: now)
    experiment = Experiment(name="x", task="digits", space={"lr": Float(0.1, 1.0)}).resolved
    for trial in ("t00000", "t00001"):
        silence.began(trial)
    now = 300.0
    silence.reported("t00001")
    now = 601.0
    assert list(silence.overdue(["t00000", "t00001"], experiment)) == []
    assert silence.news() is None, "an epoch took 300 s: thrice that is waited for"
    now = 901.0
    text = silence.news()
    assert text is not None
    assert text.startswith("t00000 has not reported for 15 min")
    assert silence.news() is None
    assert list(silence.overdue(["t00001"], experiment)) == []
    now = 5000.0
    assert str(silence.news()).startswith("t00001 has")


# Who is told ------------------------------------------------------------------------------------------


def noting(folder: Path, name: str) -> str:
    script = folder / f"{name}.py"
    script.write_text(f"import sys; open({str(folder / name)!r}, 'w').write(sys.stdin.read())")
    return f"{sys.executable} {script}"


def small(tmp_path: Path, **fields: Any) -> Experiment:
    given: dict[str, Any] = {"name": "told", "task": "digits", "space": {"lr": Float(1e-3, 1e-1, "log")}}
    return Experiment(**given, num_samples=2, max_epochs=1, executor="inline", storage=str(tmp_path), **fields)


def failing(config: dict[str, Any]) -> None:
    raise ValueError("no")


def test_a_command_is_told_what_came_of_the_run(tmp_path: Path) -> None:
    run(small(tmp_path, on_finish=noting(tmp_path, "finish")), tmp_path / "run", quiet=True)
    told = json.loads((tmp_path / "finish").read_text())
    assert (told["event"], told["status"], told["run_dir"]) == ("finish", "finished", str(tmp_path / "run"))
    assert told["counts"]["completed"] == 2
    assert told["best"]["trial_id"] in ("t00000", "t00001")


def test_a_command_is_told_of_a_run_that_has_stopped_by_itself(tmp_path: Path) -> None:
    experiment = Experiment(
        name="fails",
        task=failing,
        space={"x": Float(0.0, 1.0)},
        metric="loss",
        mode="min",
        num_samples=5,
        max_failures=0,
        executor="inline",
        storage=str(tmp_path),
        on_failure=noting(tmp_path, "failure"),
        on_finish=noting(tmp_path, "finish"),
    )
    run(experiment, tmp_path / "run", quiet=True)
    told = json.loads((tmp_path / "failure").read_text())
    assert (told["event"], "ValueError: no" in told["reason"], told["best"]) == ("failure", True, None)
    assert not (tmp_path / "finish").exists()


def test_a_command_that_fails_is_said_and_nothing_more(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = run(small(tmp_path, on_finish="false --really"), tmp_path / "run", quiet=True)
    assert results.status == "finished"
    assert "'false --really' failed: exit code 1" in capfd.readouterr().err
    assert list(results.of(Noticed)) == list(results.of(Noticed))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", "must be a command"),
        ("'unclosed", "cannot be read as words"),
        ("no-such-program x", "no program"),
        (7, "must"),
    ],
)
def test_a_command_that_cannot_be_is_refused(tmp_path: Path, command: Any, expected: str) -> None:
    with pytest.raises(ExperimentError, match=expected):
        run(small(tmp_path, on_failure=command), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_trial_that_has_ended_and_whose_code_does_not_come_back_gives_its_worker_free() -> None:
    now = 0.0
    silence = Silence(lambda: now)
    experiment = Experiment(name="x", task="digits", space={"lr": Float(0.1, 1.0)}).resolved
    silence.began("t00000")
    now = 500.0
    assert list(silence.overdue(["t00000"], experiment, {"t00000"})) == []
    now = 700.0
    (overdue,) = silence.overdue(["t00000"], experiment, {"t00000"})
    assert overdue.why == "it has ended, and its code has not come back for 700 s"
