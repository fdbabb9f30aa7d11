"""Classes, functions, arrays and other objects in a space: recorded by name, given to the user's code as they are."""

from __future__ import annotations

import copy
import csv
import functools
import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import raytune_hpo
from raytune_hpo import Choice, Experiment, ExperimentError, Float, load_results, resume, run
from raytune_hpo.cli.main import main
from raytune_hpo.space import SearchSpace, describe
from raytune_hpo.space.named import described
from tests.reports import object_spaces
from tests.reports.object_spaces import Rings, Wide, rings_space, space, train

RELU = "torch.nn.modules.activation:ReLU"


def experiment(folder: Path, task: Any = train, **given: Any) -> Experiment:
    named: dict[str, Any] = {"metric": "loss", "mode": "min"} if task is train else {}
    return Experiment(
        **{
            "name": "x",
            "task": task,
            "space": space(),
            "scheduler": "fifo",
            "num_samples": 4,
            "max_epochs": 2,
            "executor": "inline",
            "storage": str(folder),
            **named,
            **given,
        }
    )


def test_a19_a_function_gets_objects_and_the_run_holds_their_names(tmp_path: Path) -> None:
    start = {"x": 0.1 + 0.2, "act": nn.GELU, "curve": "steep", "part": {"scale": "large"}}
    results = run(experiment(tmp_path, start_points=[start]), tmp_path / "run")
    assert {t.status for t in results.ledger.trials.values()} == {"completed"}
    first = results.ledger.trials["t00000"]
    assert first.best == pytest.approx(3 * 0.3 + 20 + 3)
    assert first.config["x"] == 0.3
    assert first.config["act"] == "torch.nn.modules.activation:GELU"
    assert first.config["curve"] == "tests.reports.object_spaces:steep"
    assert first.config["part"] == {"scale": "large", "kept": "tests.reports.object_spaces:flat"}
    assert first.config["data"].startswith("ndarray [2] float64 sha1:")
    assert first.config["loss"].startswith("MSELoss sha1:")
    # What is kept is text, and reading it makes nothing of it.
    json.dumps([row["config"] for row in load_results(tmp_path / "run").rows()])
    recorded = load_results(tmp_path / "run").experiment["space"]
    assert SearchSpace.from_json(recorded).gone == ["part.kept", "data", "loss", "part.scale", "act", "curve"]
    assert SearchSpace.from_json(recorded).to_json() == recorded


def test_a19_workers_get_objects_too(tmp_path: Path) -> None:
    results = run(experiment(tmp_path, executor="processes", num_samples=2, max_concurrent=1), tmp_path / "run")
    assert {t.status for t in results.ledger.trials.values()} == {"completed"}


FILE = """
from pathlib import Path
import numpy as np
from raytune_hpo import Choice, Experiment, Float, report

def steep(x): return 3 * x
def flat(x): return x

def train(config):
    if config["f"] is not flat and config["f"] is not steep or Path("{flag}").read_text() == "stop":
        raise ValueError(config["f"])
    report({{"loss": config["f"](config["x"]) + config["data"].sum()}})

experiment = Experiment(name="x", task=train, metric="loss", mode="min", scheduler="fifo", num_samples=3, max_epochs=1,
    space={{"x": Float(0, 1), "f": Choice([steep, flat]), "data": np.ones({size})}}, executor="inline", fail_fast=1,
    max_failures=0, storage="{folder}")
"""


def test_a19_the_experiment_file_makes_the_objects_of_a_resumed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, flag, folder = tmp_path / "exp.py", tmp_path / "flag", tmp_path / "run"
    file.write_text(FILE.format(flag=flag, size=3, folder=tmp_path))
    flag.write_text("stop")
    assert main(["run", str(file), "--run-dir", str(folder)]) != 0
    flag.write_text("go")
    # Arrays are compared by their content.
    file.write_text(FILE.format(flag=flag, size=4, folder=tmp_path))
    capsys.readouterr()
    assert main(["retry", str(folder), "--code", "current"]) == 2
    told = capsys.readouterr().err
    assert "space.data = 'ndarray [3] float64 sha1:" in told
    assert "is what the run was begun with; the experiment now has ndarray [4] float64 sha1:" in told
    assert main(["retry", str(folder)]) == 0
    capsys.readouterr()
    trials = load_results(folder).ledger.trials
    assert {t.status for t in trials.values()} == {"completed"}
    assert {t.config["f"] for t in trials.values()} <= {"exp:steep", "exp:flat"}
    assert main(["trials", str(folder)]) == 0
    table = capsys.readouterr().out
    assert "f=flat" in table or "f=steep" in table
    assert "exp:" not in table
    assert main(["trials", str(folder), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["config.f"] for row in rows} <= {"exp:steep", "exp:flat"}


def test_near_a19_a_space_is_passed_again_where_no_file_makes_it(tmp_path: Path) -> None:
    recorded = experiment(tmp_path).to_json()
    with pytest.raises(ExperimentError, match=r"space.part.kept = .*pass the space again, resume\(run_dir, space"):
        Experiment.from_json(recorded)
    again = Experiment.from_json(recorded, given={"space": space()})
    assert again.to_json() == recorded
    given = again.resolved.space.given(again.resolved.space.sample(np.random.default_rng(0)))
    assert given["part"]["kept"] is object_spaces.flat
    # Of what is no array a digest may differ for nothing: it is told.
    other = SearchSpace({**space(), "loss": nn.MSELoss(reduction="sum")})
    taken = SearchSpace.from_json(recorded["space"]).with_objects_of(other)
    assert taken.to_json() == recorded["space"]
    (line,) = taken.changed_since(other)
    assert line.startswith("space.loss is MSELoss sha1:")
    with pytest.raises(ExperimentError, match="is what the run was begun with; the experiment now has ndarray"):
        Experiment.from_json(recorded, given={"space": space(data=(1.0, 2.5))})


TASK_FILE = """
from raytune_hpo import Experiment
from tests.reports.object_spaces import Rings, rings_space

experiment = Experiment(name="x", task=Rings(), space=rings_space(), scheduler={scheduler}, num_samples=4, max_epochs=2,
    executor="inline", storage="{folder}", checkpoint={{"every": 1}})
"""


def test_a19_a_task_gets_objects_wherever_its_models_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lanes, the sealed test, export, replay, and what is made of an exported model."""
    file, folder, target = tmp_path / "exp.py", str(tmp_path / "run"), tmp_path / "model"
    file.write_text(TASK_FILE.format(folder=tmp_path, scheduler="{'name': 'pbt', 'interval': 1}"))
    assert main(["validate", str(file), "--deep"]) == 0
    assert "Choice {ReLU, Tanh}" in capsys.readouterr().out
    assert main(["run", str(file), "--run-dir", folder]) == 0
    assert "side by side as lanes" in capsys.readouterr().out
    results = load_results(folder)
    trials = results.ledger.trials
    assert {t.status for t in trials.values()} == {"completed"}, [t.error for t in trials.values()]
    assert {t.config["first"] for t in trials.values()} <= {
        "torch.nn.modules.linear:Linear",
        "tests.reports.object_spaces:Wide",
    }
    assert {t.config["lr"] for t in trials.values()} <= {round(0.01 * k, 2) for k in range(1, 11)}
    assert results.best is not None
    assert results.best.test  # the test split was opened, with the winner's model
    assert main(["replay", folder]) == 0
    assert main(["export", folder, "-o", str(target)]) == 0
    document = json.loads((target / "config.json").read_text())
    assert document["resolved_config"]["act"] in (RELU, "torch.nn.modules.activation:Tanh")
    assert document["resolved_config"]["centre"] in object_spaces.CENTRES
    x = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    expected = raytune_hpo.load_model(target)(x)
    # Without its program, the task's own code is run.
    (target / "model.pt2").unlink()
    document["predicts"]["program"] = False
    (target / "config.json").write_text(json.dumps(document))
    with pytest.raises(ExperimentError, match=r"config.* = .*load_model\(\.\.\., space=\.\.\.\)"):
        raytune_hpo.load_model(target, task=Rings())
    rebuilt = raytune_hpo.load_model(target, task=Rings(), space=rings_space())
    np.testing.assert_allclose(rebuilt(x), expected, rtol=1e-5)


def test_near_a19_defaults_of_a_task_are_objects() -> None:
    made = Experiment(name="x", task=Rings(), space={"first": Choice([Wide, nn.Linear]), "lr": Float(0.01, 0.1)})
    config = made.resolved.usual_config()
    assert config["first"] == "torch.nn.modules.linear:Linear"
    resolved = made.resolved.task.resolved(config)
    assert (resolved["first"], resolved["act"], resolved["scale"]) == (nn.Linear, nn.ReLU, None)
    recorded = made.resolved.task.recorded_config(config)["resolved_config"]
    assert recorded["act"] == RELU
    assert recorded["centre"].startswith("ndarray [2] float32 sha1:")
    with pytest.raises(ExperimentError, match=r"space.dropout|space.units"):
        Experiment(name="x", task=Rings(), space={"units": Choice([nn.ReLU, nn.GELU])})


def test_near_a19_a_digest_is_of_the_content() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(2, 2)
    assert described(layer) == described(copy.deepcopy(layer))
    assert described(layer) != described(nn.Linear(2, 2))
    assert described(torch.zeros(2)).startswith("Tensor [2] float32 sha1:")
    assert described(np.zeros(2)) != described(np.ones(2))


def test_a19_names_of_options() -> None:
    assert describe(Choice([nn.ReLU, torch.tanh, None, "ReLU6"])) == "{ReLU, tanh, None, ReLU6}"
    assert describe(Choice([nn.ReLU, "ReLU"])) == f"{{{RELU}, ReLU}}"
    assert Choice([nn.ReLU, "ReLU"]).recorded("ReLU") == "ReLU"
    assert not Choice({"a": np.zeros(2), "b": np.ones(2)}).accepts(np.zeros(2))
    assert Choice([nn.ReLU, np.tanh]).options == (RELU, "numpy:tanh")
    with_class = SearchSpace({"act": Choice([nn.ReLU, nn.GELU]), "x": Float(0, 1).when("act", "==", nn.ReLU)})
    assert with_class.parameters["x"].conditions[0].operand == RELU
    by_name = SearchSpace({"act": Choice([nn.ReLU, nn.GELU]), "x": Float(0, 1).when("act", "==", "ReLU")})
    assert by_name == with_class
    fixed = with_class.with_constant("act", "ReLU")
    assert fixed.given(fixed.build({"x": 0.5})) == {"act": nn.ReLU, "x": 0.5}
    assert SearchSpace({"x": Float(0, 1), "n": np.int64(3)}).constants == {"n": 3}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([lambda x: x, nn.ReLU], 'has no name that it could be recorded by: give it one, Choice({"name": ...})'),
        ([functools.partial(object_spaces.flat, 3), nn.ReLU], "has no name"),
        ([np.zeros(3), np.ones(3)], "has no name"),
        ([(nn.ReLU, 1), (nn.GELU, 2)], "has no name"),
        ([nn.ReLU, nn.GELU, nn.ReLU], "stands in the list twice"),
        ({"one": 1}, "needs two or more"),
        ({"one": 1, 2: 2}, "a name must be text"),
        ({"one": 1, "x": Float(0, 1)}, "a parameter cannot be an option"),
    ],
)
def test_near_a19_what_cannot_be_named_is_one_line(options: Any, told: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        Choice(options)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_near_a19_what_cannot_travel_is_named(tmp_path: Path) -> None:
    given = {**space(), "lock": threading.Lock()}
    with pytest.raises(ExperimentError, match=r"^space.lock = 'lock': cannot travel to workers: a _thread.lock"):
        run(experiment(tmp_path, space=given, executor="processes"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_near_a19_resume_takes_a_space(tmp_path: Path) -> None:
    """Of a finished run there is nothing to make."""
    made = run(experiment(tmp_path, num_samples=1), tmp_path / "run")
    assert resume(tmp_path / "run", space=space()).status == made.status
