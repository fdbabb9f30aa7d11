"""The largest batch: powers of two, the largest model, and a stop before the memory is used up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raytune_hpo import Choice, Int, SearchSpace
from raytune_hpo.cli.main import main
from raytune_hpo.probes import max_batch as module
from raytune_hpo.probes.max_batch import (
    Tried,
    count_parameters,
    expected_bytes,
    free_memory,
    largest_model,
    max_batch,
    peak_bytes,
)
from raytune_hpo.tasks import Digits
from raytune_hpo.training.data import TrialData

SPACE = SearchSpace(
    {
        "hidden_units": Int(8, 64, "power_of_two"),
        "hidden_layers": Int(1, 3),
        "units_3": Int(1, 500).when("hidden_layers", ">=", 3),
        "activation": Choice(["relu", "tanh"]),
        "batch_norm": True,
    }
)


@pytest.fixture(scope="module")
def data() -> TrialData:
    return Digits().load(0).for_trials()


def test_parameters_are_counted_without_memory() -> None:
    assert count_parameters(Digits(), {"hidden_units": 8}) == 64 * 8 + 8 + 8 * 10 + 10
    assert count_parameters(Digits(), {"hidden_units": 10_000_000, "init": "orthogonal"}) > 7e8


def test_the_largest_model_is_found_conditions_and_all() -> None:
    config, count = largest_model(Digits(), SPACE, seed=0)
    assert (config["hidden_units"], config["hidden_layers"], config["units_3"]) == (64, 3, 500)
    assert count == count_parameters(Digits(), config)


def test_as_much_as_there_are_samples(data: TrialData) -> None:
    found = max_batch(Digits(), data, SPACE, 0, device="cpu")
    assert (found.batch_size, found.bound) == (1024, "data")  # of 1,077; batch norm cannot do with one sample
    assert [t.batch_size for t in found.tried] == [2**i for i in range(1, 11)]
    sizes = [t.bytes for t in found.tried]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 50 * 2**20


OWN = """
from dataclasses import dataclass

from raytune_hpo import Experiment, Float
from raytune_hpo.tasks import Digits


@dataclass(frozen=True)
class Own(Digits):
    pass


experiment = Experiment(name="own", task=Own(), space={"lr": Float(1e-3, 1e-1, "log")})
"""


def test_a_task_of_an_experiment_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text(OWN)
    assert main(["max-batch", str(tmp_path / "own.py"), "--limit", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["batch_size"] == 4


def test_it_stops_before_the_memory_is_used_up(data: TrialData, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = [Tried(2**i, 1000 + 100 * 2**i) for i in range(11)]
    monkeypatch.setattr(module, "_on_cpu", lambda *arguments: iter(tried))
    monkeypatch.setattr(module, "free_memory", lambda: 20_000)
    found = max_batch(Digits(), data, SPACE, 0, device="cpu")
    assert (found.batch_size, found.bound) == (128, "memory")  # 256 would take 26,600 of 18,000
    assert expected_bytes(tried[:8]) == pytest.approx(1000 + 100 * 256)


def test_a_child_that_is_killed_is_the_limit(data: TrialData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_on_cpu", lambda *arguments: iter([Tried(1, 10), Tried(2, 10)]))
    assert max_batch(Digits(), data, SPACE, 0, device="cpu").bound == "memory"
    monkeypatch.setattr(module, "_on_cpu", lambda *arguments: iter([]))
    assert max_batch(Digits(), data, SPACE, 0, device="cpu").batch_size == 0


def test_memory_is_read_in_bytes() -> None:
    assert 2**20 < peak_bytes() < free_memory() + 2**40
    assert free_memory() > 2**27


def test_the_verb(experiments: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "_on_cpu", lambda t, d, c, s, sizes: iter([Tried(n, 1000 + n) for n in sizes]))
    file = str(experiments / "digits.py")
    assert main(["max-batch", file, "--limit", "100"]) == 0
    assert "largest batch on cpu: 64 (bound by: --limit)" in capsys.readouterr().out
    assert main(["max-batch", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["batch_size"] == 1024
    for wrong in (["--limit", "0"], ["--set", "lr=2"]):
        assert main(["max-batch", file, *wrong]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main(["max-batch", str(experiments / "function_trainable.py")]) == 2
