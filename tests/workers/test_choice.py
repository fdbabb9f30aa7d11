"""auto's rule: one process where workers would only be starting, workers where they are worth their start."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lane_tasks import Branching

from raytune_hpo import Experiment, ExperimentError, Float, run
from raytune_hpo.journal.events import Executor
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.training.speed import Speed, measured
from raytune_hpo.workers import choice, executors
from raytune_hpo.workers.choice import START_S, chosen, imported_torch, refusal

SPACE = {"lr": Float(1e-3, 1.0, "log")}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "cpus", lambda: 4)
    monkeypatch.setattr(choice, "gpus", lambda: 2)


def experiment(**fields: Any) -> Any:
    values = {
        "task": "digits",
        "space": {"lr": Float(1e-3, 1.0, "log")},
        "searcher": "random",
        "scheduler": "fifo",
        "max_epochs": 10,
        **fields,
    }
    return Experiment(name="choice", **values).resolved


@pytest.mark.parametrize(
    ("fields", "epoch_s", "expected"),
    [
        ({"num_samples": 10}, 0.05, Executor.INLINE),  # 5 s here, 4 + 5 / 4 there
        ({"num_samples": 10}, 0.06, Executor.PROCESSES),
        ({"num_samples": 40, "scheduler": "asha", "max_epochs": 9}, 0.04, Executor.INLINE),  # 2 1/3 epochs each
        ({"num_samples": 100, "max_concurrent": 1}, 0.5, Executor.INLINE),  # there is nothing to win by workers
        ({"num_samples": 100, "max_concurrent": 1}, 0.7, Executor.PROCESSES),  # but that they survive a crash
        ({"num_samples": 10, "resources": {"cpus": 4}}, 0.5, Executor.INLINE),
        ({"num_samples": 10, "resources": {"cpus": 2}}, 0.5, Executor.PROCESSES),
    ],
)
def test_the_shorter_way(fields: dict[str, Any], epoch_s: float, expected: Executor) -> None:
    found = chosen(experiment(**fields), Speed(epoch_s, None, "Branch is not vmappable"), start_s=4.0)
    assert found.executor == expected
    lanes = chosen(experiment(**fields), Speed(9.0, epoch_s, None), start_s=4.0)
    assert (lanes.executor.of_lanes, lanes.executor.is_inline) == (True, expected.is_inline)


def test_it_says_why() -> None:
    few, many = experiment(num_samples=10), experiment(num_samples=100)
    one = chosen(few, Speed(0.02, None, "Branch is not vmappable"), start_s=4.0)
    assert one.reason == "about 2 s of training for one process, and workers take 4 s to start"
    assert chosen(many, Speed(0.2, None, "Branch is not vmappable"), 4.0).reason == "Branch is not vmappable"
    assert chosen(many, Speed(0.2, 0.1, None), 4.0).reason == "about 100 s of training for one process"


def function(config: dict[str, Any]) -> None:
    """Never called."""


@pytest.mark.parametrize(
    ("fields", "address", "reason"),
    [
        ({}, "auto", "on a cluster"),
        ({"task": function, "metric": "y", "mode": "min"}, None, "a function runs in a process of its own"),
        ({"folds": 3, "resources": {"cpus": 3}}, None, "a trial has several CPUs for its folds"),
        ({"resources": {"gpus": 2}}, None, "a trial has several GPUs"),
        ({"resources": {"gpus": 0.5}}, None, "trials share a GPU"),
        ({"resources": {"gpus": 1}}, None, "there are several GPUs"),
        ({"folds": 3}, None, None),
        ({}, None, None),
    ],
)
def test_what_is_never_tried_in_this_process(fields: dict[str, Any], address: str | None, reason: str | None) -> None:
    assert refusal(experiment(**fields), address) == reason


def test_a_run_of_many_passes_is_not_even_tried_here() -> None:
    loaded = Digits().load(0).for_trials()  # 1,077 samples to train
    assert choice.is_small(experiment(num_samples=464), loaded)
    assert not choice.is_small(experiment(num_samples=465), loaded)
    assert choice.is_small(experiment(num_samples=1_900, scheduler="asha", max_epochs=9), loaded)
    assert not choice.is_small(experiment(num_samples=93, folds=5), loaded)


def test_the_start_is_judged_by_an_import_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torch" in sys.modules
    assert imported_torch() == START_S


def test_speed_is_of_the_spaces_configs() -> None:
    digits = experiment(num_samples=4)
    loaded = Digits().load(0).for_trials()
    configs = choice.configs_to_measure(digits)
    assert len(configs) == 4
    assert configs == choice.configs_to_measure(digits)
    assert len({config["lr"] for config in configs}) == 4
    for trials, lanes, different in ((100, 8, 4), (40, 5, 3), (16, 2, 2)):  # hyperopt has an eighth at a time
        of_search = choice.configs_to_measure(experiment(num_samples=trials, searcher="hyperopt"))
        assert (len(of_search), len({config["lr"] for config in of_search})) == (lanes, different)
    speed = choice.measured(digits, loaded)
    assert speed.refusal is None
    assert speed.lane_s is not None
    assert 0 < speed.lane_s < speed.alone_s < 1
    assert speed.epoch_s == speed.lane_s


def test_speed_where_there_are_no_lanes() -> None:
    loaded = Digits().load(0).for_trials()
    one, five = (choice.measured(experiment(num_samples=2, **f), loaded) for f in ({}, {"folds": 5}))
    assert five.lane_s is None
    assert five.refusal == "folds train several models a trial"
    assert five.epoch_s == five.alone_s > one.alone_s
    own = experiment(task=Branching(), num_samples=2)
    speed = measured(own.recipe(), Branching().load(0).for_trials(), [{"lr": 0.1}], "cpu", own.lanes_refusal)
    assert speed.refusal == "Branch is not vmappable"


@dataclass(frozen=True)
class Failing(Digits):
    def build_model(self, config: Mapping[str, Any]) -> Any:
        raise ValueError("of two\nlines")


@dataclass(frozen=True)
class NoData(Digits):
    def load(self, seed: int) -> Any:
        raise KeyError("column")


def test_code_that_raises_when_it_is_tried_fails_in_its_trials() -> None:
    failing = experiment(task=Failing(), num_samples=2)
    speed = choice.measured(failing, Digits().load(0).for_trials())
    assert str(speed).endswith(", in build_model: ValueError: of two lines")
    found = chosen(failing, speed, 4.0)
    assert (found.executor, found.reason) == (
        Executor.PROCESSES,
        f"a config that was tried failed: {speed}",
    )


@pytest.mark.parametrize("executor", ["auto", "inline"])
def test_data_that_cannot_be_loaded_are_one_error(executor: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"task = 'NoData': cannot load its data: .*in load: KeyError: 'column'"):
        run(Experiment(name="choice", task=NoData(), space=SPACE, executor=executor), tmp_path / "run")
    assert not (tmp_path / "run" / executors.TRYING).exists()


def test_one_sample_of_a_small_batch_is_enough() -> None:
    tiny = Digits(validation_fraction=0.8, test_fraction=0.05)
    loaded = tiny.load(0).for_trials()
    speed = measured(experiment(task=tiny).recipe(), loaded, [{"lr": 0.1, "batch_size": 100_000}], "cpu", None)
    assert speed.alone_s > 0
