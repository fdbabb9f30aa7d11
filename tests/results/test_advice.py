"""Advice: what runs with known faults are told, and that chance is told nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import copied
from written_run import end, result, suggest, written_run

from raytune_hpo import Choice, Float, Int, load_results
from raytune_hpo.cli.main import main
from raytune_hpo.journal.events import DataLoaded, Event
from raytune_hpo.results.advice import Advice, advice
from raytune_hpo.space import SearchSpace

SPACE: dict[str, Any] = {
    "lr": Float(1e-4, 1e-1, "log"),
    "units": Int(1, 64),
    "layers": Int(1, 3),
    "kind": Choice(["a", "b"]),
    "more": Int(1, 8).when("kind", "==", "b"),
}


def ran(
    path: Path, configs: list[dict[str, Any]], curves: list[list[float]], *, stopped: str = "asha", samples: int = 0
) -> list[Advice]:
    """Of a run of trials with these accuracies epoch by epoch; those with fewer than the most were stopped."""
    last = max(map(len, curves))
    lines: list[Event | tuple[Event, ...]] = [DataLoaded((64,), "float32", 100, samples)] if samples else []
    for i, (config, curve) in enumerate(zip(configs, curves, strict=True)):
        trial = f"t{i:05d}"
        lines.append(suggest(trial, **config))
        for epoch, accuracy in enumerate(curve, start=1):
            ends = epoch == len(curve)
            decision = "continue" if not ends else "complete" if len(curve) == last else "stop"
            lines.append(result(trial, epoch, accuracy, decision))
        done = len(curve) == last
        lines.append(end(trial, "completed" if done else "stopped", "max_epochs" if done else stopped))
    written_run(path, *lines, space=SearchSpace(SPACE).to_json(), scheduler={"name": "asha"})
    return advice(load_results(path))


def drawn(n: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    space = SearchSpace(SPACE)
    return [space.sample(rng) for _ in range(n)]


def of(kind: str, found: list[Advice]) -> list[Advice]:
    return [one for one in found if one.kind == kind]


@pytest.mark.parametrize(("parameter", "end"), [("lr", "high"), ("lr", "low"), ("units", "high"), ("layers", "low")])
def test_the_best_crowd_at_a_border(tmp_path: Path, parameter: str, end: str) -> None:
    configs = drawn(200, 2)
    space = SearchSpace(SPACE)
    sign = 1 if end == "high" else -1
    curves = [[sign * float(space.parameters[parameter].to_unit(config[parameter]))] for config in configs]
    found = of("border", ran(tmp_path / "run", configs, curves))
    assert [(one.facts["parameter"], one.facts["end"]) for one in found] == [(parameter, end)]
    assert found[0].text.startswith(f"{parameter}: ")
    assert f"of the best {found[0].facts['best']} trials" in found[0].text


def test_chance_has_no_borders(tmp_path: Path) -> None:
    """Of forty runs whose results have nothing to do with their configs one or two may be told something."""
    told = 0
    for seed in range(40):
        rng = np.random.default_rng(1000 + seed)
        curves = [[float(x)] for x in rng.random(60)]
        told += bool(of("border", ran(tmp_path / str(seed), drawn(60, seed), curves)))
    assert told <= 4


def test_a_winner_inside_is_no_border(tmp_path: Path) -> None:
    configs = drawn(100)
    space = SearchSpace(SPACE)
    curves = [[-abs(float(space.parameters["lr"].to_unit(config["lr"])) - 0.5)] for config in configs]
    assert not of("border", ran(tmp_path / "run", configs, curves))


def test_a_first_rung_that_judges_by_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    curves = [[float(rng.random()), 0.0, float(rng.random()) + 1] for _ in range(30)]
    curves += [[0.0] for _ in range(40)]
    (found,) = of("stopping", ran(tmp_path / "run", drawn(70), curves))
    assert found.facts["epoch"] == 1
    assert found.facts["stopped"] == 40
    assert "grace_period" in found.text


def test_a_first_rung_that_tells_is_not_blamed(tmp_path: Path) -> None:
    curves = [[0.01 * i, 0.02 * i, 0.03 * i] for i in range(30)] + [[0.0] for _ in range(40)]
    assert not of("stopping", ran(tmp_path / "run", drawn(70), curves))


def test_trials_that_a_person_stopped_are_not_the_schedulers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    curves = [[float(rng.random()), 0.0, float(rng.random()) + 1] for _ in range(30)]
    curves += [[0.0] for _ in range(40)]
    assert not of("stopping", ran(tmp_path / "run", drawn(70), curves, stopped="target"))


def test_stopping_would_have_saved(tmp_path: Path) -> None:
    curves = [[0.01 * i * (1 + epoch / 9) for epoch in range(9)] for i in range(30)]
    (found,) = of("stopping", ran(tmp_path / "run", drawn(30), curves))
    assert found.facts["grace_period"] == 1
    assert found.facts["saved"] == pytest.approx(1 - (30 + 10 * 2 + 3 * 6) / 270)
    assert found.facts["kept"] == 3


def test_differences_below_the_noise(tmp_path: Path) -> None:
    curves = [[0.9 - 0.0021 * i] for i in range(30)]
    (found,) = of("noise", ran(tmp_path / "run", drawn(30), curves, samples=400))
    assert found.facts["standard_error"] == pytest.approx(0.015)
    assert found.facts["near"] == 15
    assert "confirm" in found.text
    assert not of("noise", ran(tmp_path / "large", drawn(30), curves, samples=4_000_000))


def test_a_run_without_trials_is_told_nothing(tmp_path: Path) -> None:
    written_run(tmp_path / "run")
    assert advice(load_results(tmp_path / "run")) == []


def test_best_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran(tmp_path / "run", drawn(30), [[0.9 - 0.0021 * i] for i in range(30)], samples=400)
    assert main(["best", str(tmp_path / "run")]) == 0
    assert "note:       15 trials are within two standard errors" in capsys.readouterr().out
    assert main(["best", str(tmp_path / "run"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in document["advice"]] == ["noise"]
    assert document["advice"][0]["near"] == 15


def test_where_trials_are_copied_nothing_is_said_of_stopping_them(tmp_path: Path) -> None:
    """The same run with one copy in it: what its first epochs foretold is not known."""
    configs, curves = drawn(30), [[0.1 + i / 100, 0.2 + i / 100, *[0.3 + i / 100] * 7] for i in range(30)]
    assert of("stopping", ran(tmp_path / "run", configs, curves))
    path = tmp_path / "copied"
    config = {"lr": 0.01, "batch_size": 32}
    lines: list[Any] = []
    for i, curve in enumerate(curves):
        trial = f"t{i:05d}"
        lines.append(suggest(trial, **config))
        lines += [result(trial, epoch, accuracy) for epoch, accuracy in enumerate(curve[:3], start=1)]
        if i == 1:
            lines.append(copied(trial, "t00000", 3, 1, 0.01, 0.012))
        lines += [
            result(trial, epoch, accuracy, "complete" if epoch == 9 else "continue", generation=int(i == 1))
            for epoch, accuracy in enumerate(curve[3:], start=4)
        ]
        lines.append(end(trial, "completed", "max_epochs"))
    written_run(path, *lines)
    assert of("stopping", advice(load_results(path))) == []
