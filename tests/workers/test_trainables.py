"""What may stand in `task=` besides a Task: whatever Ray Tune takes for a trainable."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune

from raytune_hpo import Experiment, ExperimentError, Float, run
from raytune_hpo.settings import Resources


def train(config: dict[str, Any], offset: float = 0.0, data: Any = None) -> None:
    total = 0.0 if data is None else float(np.sum(data))
    for _ in range(2):
        tune.report({"score": config["x"] + offset + total})


class Adder:
    def __init__(self, offset: float) -> None:
        self.offset = offset

    def __call__(self, config: dict[str, Any]) -> None:
        train(config, self.offset)

    def method(self, config: dict[str, Any]) -> None:
        train(config, 2 * self.offset)


class Counting(tune.Trainable):
    """Saves a dictionary, as Ray allows besides files."""

    def setup(self, config: dict[str, Any]) -> None:
        self.config, self.count = config, 0

    def step(self) -> dict[str, Any]:
        self.count += 1
        return {"score": self.config["x"] * self.count, "count": self.count, "done": self.count == 3}

    def save_checkpoint(self, folder: str) -> dict[str, Any]:
        return {"count": self.count}

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.count = checkpoint["count"]


def experiment(task: Any, **fields: Any) -> Experiment:
    given = {"num_samples": 2, "max_epochs": 4, "scheduler": "fifo", "max_concurrent": 1, **fields}
    return Experiment(name="any", task=task, space={"x": Float(0.0, 1.0)}, metric="score", mode="max", **given)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("make", "added"),
    [
        (lambda: functools.partial(train, offset=10.0), 10.0),
        (lambda: Adder(20.0), 20.0),
        (lambda: Adder(20.0).method, 40.0),
        (lambda: lambda config: train(config, 5.0), 5.0),
        (lambda: tune.with_parameters(train, data=np.arange(4)), 6.0),
        (lambda: tune.with_resources(tune.with_parameters(train, offset=3.0), {"cpu": 1}), 3.0),
    ],
    ids=["partial", "callable object", "method", "lambda", "with_parameters", "with_resources"],
)
def test_any_callable_trains(make: Any, added: float, tmp_path: Path) -> None:
    results = run(experiment(make(), num_samples=1), tmp_path / "run")
    (trial,) = results.ledger.trials.values()
    assert trial.status == "completed"
    assert trial.best == pytest.approx(trial.config["x"] + added)


@pytest.mark.usefixtures("ray_session")
def test_a_class_trainable_trains_saves_and_goes_on(tmp_path: Path) -> None:
    # hyperband pauses trials, so that they go on from their checkpoints.
    results = run(experiment(Counting, num_samples=4, scheduler="hyperband"), tmp_path / "run")
    assert results.status == "finished"
    for trial in results.ledger.trials.values():
        assert trial.metrics["count"] == trial.epoch
        assert "training_iteration" not in trial.metrics, "what Ray adds of its own is no metric"
    ended = [t for t in results.ledger.trials.values() if t.status == "completed"]
    assert ended
    assert all(t.epoch == 3 and t.reason == "done" for t in ended)
    assert any(t.checkpoints for t in ended)


def test_what_with_resources_asks_for_is_honoured_or_refused() -> None:
    def fresh() -> Any:  # with_resources writes its wish on the function itself
        return functools.partial(train)

    asked = tune.with_resources(fresh(), {"cpu": 2, "gpu": 0.5})
    assert experiment(asked).resolved.resources == Resources(cpus=2, gpus=0.5)
    assert experiment(asked, resources=Resources(cpus=2, gpus=0.5)).resolved.resources.gpus == 0.5
    with pytest.raises(ExperimentError, match=r"resources.*with_resources asks for.*leave one of both out"):
        experiment(asked, resources=Resources(cpus=1))
    with pytest.raises(ExperimentError, match="several bundles"):
        experiment(tune.with_resources(fresh(), tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 2}])))
    with pytest.raises(ExperimentError, match="CPUs and GPUs only"):
        experiment(tune.with_resources(fresh(), {"cpu": 1, "custom": 1}))
    assert experiment(tune.with_resources(Counting, {"cpu": 2})).resolved.resources.cpus == 2


def test_what_has_no_name_is_recorded_as_made_by_its_file() -> None:
    document = json.loads(json.dumps(experiment(functools.partial(train, offset=1.0)).to_json()))
    assert "made" in document["task"]
    with pytest.raises(ExperimentError, match=r"pass it again: resume\(run_dir, task=\.\.\.\)"):
        Experiment.from_json(document)
    again = Experiment.from_json(document, given={"task": train})
    assert again.resolved.task is train
