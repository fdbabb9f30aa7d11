"""The command line: what it prints, what it imports, what --set means. Nothing here starts Ray."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from written_run import end, finished_run, result, suggest, written_run

from raytune_hpo import Choice, Experiment, Float, Int, load_experiment
from raytune_hpo.cli.arguments import experiment_of
from raytune_hpo.cli.main import VERBS, main, parser
from raytune_hpo.cli.run import finish, screen_of
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import Closed
from raytune_hpo.results.results import load_results
from raytune_hpo.states import RunStatus
from raytune_hpo.storage.run_directory import RunDirectory

LIGHT = """
import json, sys
from raytune_hpo.cli.main import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as error:
        assert not error.code, error.code
    heavy = {"ray", "torch", "torchvision", "pandas", "scipy", "hyperopt", "sklearn", "bayes_opt"} & set(sys.modules)
    assert not heavy, (arguments, heavy)
"""
Capture = pytest.CaptureFixture[str]


def experiment(**fields: Any) -> Experiment:
    space = {
        "optimizer": Choice(["sgd", "adam"]),
        "lr": Float(1e-4, 1e-1, "log"),
        "momentum": Float(0.5, 0.9).when("optimizer", "==", "sgd"),
        "nesterov": Choice([False, True]).when("momentum", ">", 0.7),
        "batch_size": 32,
    }
    return Experiment(**{"name": "x", "task": "digits", "space": space, **fields})


def changed(path: Path, *changes: str) -> Experiment:
    arguments = [part for change in changes for part in ("--set", change)]
    return experiment_of(parser("validate").parse_args(["validate", str(path), *arguments]))


# What is imported ---------------------------------------------------------------------------------------


def light(*commands: list[str]) -> str:
    """What these commands print, in one process: the first that imports what is heavy is named."""
    source = [sys.executable, "-c", LIGHT, json.dumps(commands)]
    done = subprocess.run(source, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_help_is_light() -> None:
    lines = light(["--help"], *([verb, "--help"] for verb in VERBS)).splitlines()
    usages = [line.split()[2] for line in lines if line.startswith("usage: raytune-hpo ")]
    assert usages == ["[-h]", *VERBS]


def test_validate_and_the_tables_are_light(tmp_path: Path, experiments: Path) -> None:
    run_dir = str(finished_run(tmp_path / "run"))
    light(["trials", run_dir, "--json"], ["trials", run_dir], ["best", run_dir])
    light(["validate", str(experiments / "digits.py")], ["validate", str(experiments / "mnist_bayesopt.py")])


# validate -----------------------------------------------------------------------------------------------


def test_validate_prints_the_space_and_the_first_configs(experiments: Path, capsys: Capture) -> None:
    assert main(["validate", str(experiments / "digits.py")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("digits: valid. 64 trials, bayesopt + freeze_thaw, max validation_accuracy\n")
    assert "  momentum       Float [0.5, 0.99] reverse_log if optimizer == sgd\n" in out
    assert "  lr_schedule    = cosine\n" in out
    assert len(out.split("first 5 configs:\n")[1].splitlines()) == 5


@pytest.mark.parametrize("file", ["digits.py", "mnist_grid_cv.py", "mnist_bayesopt.py"])
def test_validate_shows_what_a_run_would_try_first(file: str, experiments: Path, capsys: Capture) -> None:
    assert main(["validate", str(experiments / file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    loaded = load_experiment(experiments / file)
    search = loaded.resolved.new_search()
    assert document["first_configs"] == [search.suggest(f"t{i:05d}") for i in range(5)]
    assert document["valid"] is True
    assert Experiment.from_json(document["experiment"]).resolved == loaded.resolved


def test_what_an_experiment_file_prints_goes_to_stderr(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "chatty.py"
    path.write_text(
        "print('hello')\nfrom raytune_hpo import *\n"
        "e = Experiment(name='x', task='digits', space={'lr': Float(0.1, 1)}, num_samples=1)\n"
    )
    assert main(["validate", str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["first_configs"]) == 1
    assert err == "hello\n"


def test_validate_counts_the_grid(experiments: Path, capsys: Capture) -> None:
    assert main(["validate", str(experiments / "mnist_grid_cv.py")]) == 0
    assert "27 trials (this search ends after 27)" in capsys.readouterr().out


def test_resources_of_a_cluster_are_not_asked_of_this_machine(experiments: Path, capsys: Capture) -> None:
    large = ["validate", str(experiments / "digits.py"), "--set", "resources.cpus=1000"]
    assert main(large) == 2
    assert main([*large, "--address", "auto"]) == 0


# --set --------------------------------------------------------------------------------------------------


def test_values_are_json_or_text(experiments: Path) -> None:
    path = experiments / "digits.py"
    made = changed(path, "num_samples=8", "scheduler=fifo", "time_budget_s=1.5", "stop.target=0.99", "name=other",
                   "early_stopping.patience=3", "checkpoint.keep_trials=None", "storage=/tmp/a=b").resolved  # fmt: skip
    assert (made.num_samples, made.scheduler.name, made.time_budget_s, made.stop.target) == (8, "fifo", 1.5, 0.99)
    assert (made.name, made.storage, made.checkpoint.keep_trials) == ("other", "/tmp/a=b", None)
    assert made.early_stopping is not None
    assert made.early_stopping.patience == 3


def test_an_option_keeps_its_neighbours(experiments: Path) -> None:
    made = changed(experiments / "mnist_bayesopt.py", "searcher.acquisition=ucb")
    assert made.resolved.searcher.to_json()["acquisition"] == "ucb"
    assert made.resolved.searcher.to_json()["n_initial"] == 2
    made = changed(experiments / "digits.py", 'searcher={"name": "hyperopt", "n_initial": 3}')
    assert made.resolved.searcher.to_json()["n_initial"] == 3


def test_options_of_the_task(experiments: Path, tmp_path: Path) -> None:
    for text in ("test_fraction=0.3", "task.test_fraction=0.3"):
        assert changed(experiments / "digits.py", text).resolved.task.options()["test_fraction"] == 0.3  # type: ignore[union-attr]
    made = changed(experiments / "digits.py", "task=mnist", f"data_dir={tmp_path}")
    assert made.resolved.task.options()["data_dir"] == str(tmp_path)  # type: ignore[union-attr]


def test_what_was_left_to_its_default_is_worked_out_anew() -> None:
    assert experiment().override({"metric": "validation_loss"}).resolved.objective.mode == "min"
    assert experiment(searcher="grid").resolved.num_samples == 5 * (1 + 3 + 2 * 2)
    assert experiment(searcher="grid").override({"searcher": "random"}).resolved.num_samples == 64
    pbt = experiment(scheduler="pbt")
    assert pbt.override({"max_epochs": 2}).resolved.scheduler.to_json()["interval"] == 1
    assert pbt.override({"space.lr": 0.1}).resolved.scheduler.to_json()["mutate"] == ["momentum"]


def test_a_fixed_parameter_takes_its_conditions_along() -> None:
    sgd = experiment().override({"space.optimizer": "sgd"}).resolved.space
    assert list(sgd.parameters) == ["lr", "momentum", "nesterov"]
    assert sgd.parameters["momentum"].conditions == ()
    adam = experiment().override({"space.optimizer": "adam"}).resolved.space
    assert list(adam.parameters) == ["lr"]
    assert adam.constants == {"batch_size": 32, "optimizer": "adam"}
    both = experiment().override({"space.optimizer": "sgd", "space.momentum": 0.6}).resolved.space
    assert list(both.parameters) == ["lr"]
    assert experiment().override({"space.batch_size": 8}).resolved.space.constants == {"batch_size": 8}


def test_the_experiment_of_the_file_stays_as_it_is(experiments: Path) -> None:
    before = load_experiment(experiments / "digits.py").to_json()
    changed(experiments / "digits.py", "seed=7", "space.lr=0.1", "test_fraction=0.3")
    assert load_experiment(experiments / "digits.py").to_json() == before


def test_overrides_of_a_function_trainable() -> None:
    def train(config: dict[str, Any]) -> None: ...

    made = Experiment(name="f", task=train, space={"a": Int(1, 3)}, metric="loss", mode="min")
    assert made.override({"seed": 3}).task is train
    with pytest.raises(ExperimentError, match="no options"):
        made.override({"task.a": 3})


# Tables -------------------------------------------------------------------------------------------------


def test_trials_as_a_table(tmp_path: Path, capsys: Capture) -> None:
    assert main(["trials", str(finished_run(tmp_path / "run"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "trial", "status", "reason", "epochs", "best", "validation_accuracy", "last", "seconds", "config",
    ]  # fmt: skip
    assert lines[1].split() == ["t00000", "stopped", "scheduler", "1", "0.8", "@1", "0.8", "0.5", "lr=0.01"]
    assert lines[2].split() == ["t00001", "completed", "max_epochs", "3", "0.95", "@2", "0.94", "1.5", "lr=0.05"]
    assert lines[4].split()[:5] == ["t00003", "failed", "ValueError:", "no", "0"]
    assert len(lines) == 5


def test_trials_as_json(tmp_path: Path, capsys: Capture) -> None:
    run_dir = finished_run(tmp_path / "run")
    assert main(["trials", str(run_dir), "--json"]) == 0
    text = capsys.readouterr().out
    assert "NaN" not in text
    document = json.loads(text)
    assert (document["run_dir"], document["status"]) == (str(run_dir), "finished")
    assert [t["status"] for t in document["trials"]] == ["stopped", "completed", "diverged", "failed"]
    assert document["trials"][1]["config"] == {"lr": 0.05, "batch_size": 32}
    assert document["trials"][2]["last"] is None


def test_trials_as_csv(tmp_path: Path, capsys: Capture) -> None:
    assert main(["trials", str(finished_run(tmp_path / "run")), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["trial_id"] for row in rows] == ["t00000", "t00001", "t00002", "t00003"]
    assert float(rows[1]["config.lr"]) == 0.05
    assert rows[3]["error"] == "ValueError: no"


def test_best(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = finished_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert main(["best", "run"]) == 0
    assert capsys.readouterr().out == (
        "t00001: validation_accuracy 0.95 at epoch 2 (run finished)\n"
        "config:\n  lr = 0.05\n  batch_size = 32\n"
        "validation: validation_accuracy 0.95, validation_loss 0.05\n"
        "test:       test_accuracy 0.93, test_loss 0.1\n"
        "checkpoint: run/checkpoints/t00001/00-00002.1\n"
    )
    assert main(["best", "run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["best"] == {
        "trial_id": "t00001",
        "config": {"lr": 0.05, "batch_size": 32},
        "metric": 0.95,
        "epoch": 2,
        "validation": {"validation_accuracy": 0.95, "validation_loss": pytest.approx(0.05)},
        "test": {"test_accuracy": 0.93, "test_loss": 0.1},
        "checkpoint": str(run_dir / "checkpoints/t00001/00-00002.1"),
        "checkpoint_epoch": 2,
        "replicates": None,
    }


def test_best_of_a_run_without_reports_is_null(tmp_path: Path, capsys: Capture) -> None:
    assert main(["best", str(written_run(tmp_path / "run", suggest("t00000"))), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"] is None


def test_a_torn_last_line_is_forgotten(tmp_path: Path, capsys: Capture) -> None:
    run_dir = written_run(tmp_path / "run", suggest("t00000"), result("t00000", 1, 0.5), '{"t":3,"even')
    assert main(["best", str(run_dir)]) == 0
    assert "0.5 at epoch 1 (run running)" in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "run", *(suggest(f"t{i:05d}") for i in range(5000)))
    command = f"{sys.executable} -m raytune_hpo.cli.main trials {run_dir} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


# The end of a run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_exit_codes_and_the_documents_of_a_run(as_json: bool, tmp_path: Path, capsys: Capture) -> None:
    options = parser("run").parse_args(["run", "x.py", *(["--json"] if as_json else [])])
    done = written_run(tmp_path / "done", suggest("t00000"), result("t00000", 1, 0.5, "stop"),
                       end("t00000", "completed", "max_epochs"), Closed(RunStatus.FINISHED))  # fmt: skip
    stopped = written_run(tmp_path / "stopped", suggest("t00000"), Closed(RunStatus.INTERRUPTED))
    for run_dir, code in ((done, 0), (finished_run(tmp_path / "failed"), 1), (stopped, 130)):
        results = load_results(run_dir)
        screen_of(options).show("fifo", lambda shown, results=results: results)
        assert finish(results, options) == code
        out, err = capsys.readouterr()
        assert err == ""
        if as_json:
            document = json.loads(out)
            assert set(document) >= {"run_dir", "status", "counts", "best"}
            assert document["status"] == results.status
            assert document["counts"] == results.counts
        else:
            assert ("raytune-hpo resume" in out) == (code == 130)
            assert ("raytune-hpo best" in out) == (code != 130)


def test_the_experiment_of_a_run_can_be_had_from_its_directory(tmp_path: Path) -> None:
    made = experiment()
    run = RunDirectory.create(tmp_path / "run", made.to_json(), None)
    run.unlock()
    assert load_experiment(run.path).resolved == made.resolved
    assert load_experiment(run.description_path).resolved == made.resolved
    with pytest.raises(ExperimentError, match="must be a Python file"):
        load_experiment(tmp_path)
