"""Every file in experiments/ loads, validates and says how it is run; some of each method are run."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from written_data import write_california, write_cifar10, write_mnist
from written_run import finished_run

from raytune_hpo import load_experiment, load_results, run
from raytune_hpo.cli.main import main, parser
from raytune_hpo.tasks.cifar10 import FOLDER
from raytune_hpo.tasks.data_folders import DATA_VARIABLE
from raytune_hpo.training.task import Task

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted((REPOSITORY / "experiments").glob("*.py"))

#: Run here at their smallest size, at 13 s of CPU each for the start of a worker: every kind of task, folds, and
#: all methods but NOT_RUN. All files are run by benchmarks/every_experiment.py.
RUN = (
    "california_housing",
    "cifar10_resnet_pbt",
    "digits_coarse_to_fine",
    "mnist_grid_cv",
)
NOT_RUN = {"bayesopt", "bohb", "cmaes", "evolutionary", "freeze_thaw", "function", "hyperband", "hypergradient"}
"""Their contracts run them on real spaces and in the real driver, tests/workers on real workers; a test below runs a
function trainable under hyperband."""


def commands(path: Path) -> list[list[str]]:
    """The raytune-hpo lines of a file's header, split, without what is said in brackets after them."""
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    lines = re.findall(r"^raytune-hpo (.*)$", doc.replace("\\\n", " "), re.M)
    return [shlex.split(re.sub(r"\s{2,}\(.*\)$", "", line)) for line in lines]


def _loaded(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


command = _loaded(REPOSITORY / "benchmarks" / "every_experiment.py")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every data set: the real MNIST where it is at hand, else small written ones."""
    folder = tmp_path_factory.mktemp("data")
    real = [Path(root) / "MNIST" for root in (os.environ.get(DATA_VARIABLE), REPOSITORY.parent / "shared/data") if root]
    found = next((mnist for mnist in real if (mnist / "raw").is_dir()), None)
    if found is not None:
        (folder / "MNIST").symlink_to(found)
    else:
        write_mnist(folder / "MNIST" / "raw", train=100, test=40)
    write_cifar10(folder / FOLDER)
    write_california(folder)
    return folder


def test_there_are_the_handbooks_examples() -> None:
    named = "mnist_grid_cv mnist_random mnist_bayesopt mnist_cnn linear_extrapolation california_housing diabetes"
    assert {*named.split(), "cifar10_resnet_pbt", "stretch_pants", "function_trainable"} <= {f.stem for f in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_experiment(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert load_experiment(path).name == path.stem
    assert commands(path)
    for line in commands(path):
        options = parser(line[0]).parse_args(line)
        assert (options.file if "file" in options else options.run_dir) in (f"experiments/{path.name}", "RUN_DIR")
    monkeypatch.chdir(tmp_path)
    assert main(["validate", str(path), "--address", "auto", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["valid"]
    assert len(document["first_configs"]) == min(5, document["experiment"]["num_samples"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_override_of_a_header_is_valid(path: Path, tmp_path: Path, capsys) -> None:
    for verb, _, *changes in commands(path):
        if verb == "run":
            given = [change.replace("=DIR", f"={tmp_path}") for change in changes]
            assert main(["validate", str(path), "--address", "auto", *given]) == 0, capsys.readouterr().err


def test_image_tasks_take_their_folder_from_the_command_line(tmp_path: Path, capsys) -> None:
    for path in FILES:
        if path.stem.startswith(("mnist", "cifar")):
            assert main(["validate", str(path), "--set", f"data_dir={tmp_path}", "--json"]) == 0
            task = json.loads(capsys.readouterr().out)["experiment"]["task"]
            assert task["options"]["data_dir"] == str(tmp_path)


def test_the_searches_are_the_handbooks(experiments: Path) -> None:
    grid, random, bayes, linear, housing = (
        load_experiment(experiments / f"{name}.py").resolved
        for name in ("mnist_grid_cv", "mnist_random", "mnist_bayesopt", "linear_extrapolation", "california_housing")
    )
    assert (grid.num_samples, grid.folds) == (27, 5)
    options = {path: choice.options for path, choice in grid.space.parameters.items()}  # type: ignore[union-attr]
    assert options == {"hidden_units": (128, 256, 512), "batch_size": (64, 128, 256), "lr": (1e-2, 1e-3, 1e-4)}
    assert (random.num_samples, random.folds, random.seed) == (50, 5, 42)
    assert (bayes.num_samples, bayes.searcher.to_json()["n_initial"], bayes.max_epochs) == (12, 2, 5)
    assert (linear.max_epochs, linear.space.constants["hidden_units"]) == (100, 16)
    first = housing.start_points[0]
    units = [first.get(f"units_{k}") for k in range(1, 5)]
    assert [first["hidden_layers"], *units, first["batch_size"]] == [4, 6, 5, 4, 3, 256]
    assert (first["activation"], first["lr"]) == ("leaky_relu", 1e-3)


# The command that runs them all -------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_smallest_size_is_small(path: Path) -> None:
    loaded = load_experiment(path)
    own, small = loaded.resolved, command.smallest(loaded).resolved
    assert small.num_samples <= 3
    assert small.max_epochs <= 2
    assert small.max_concurrent == 1
    assert (small.folds is None) == (own.folds is None)
    assert (small.searcher.name, small.scheduler.name) == (own.searcher.name, own.scheduler.name)
    if isinstance(own.task, Task):
        samples = {k: v for k, v in small.task.options().items() if k.endswith("_samples")}
        assert all(v <= 20 for v in samples.values())
    assert small.new_search().suggest("t00000") is not None


def test_what_is_run_here_covers_every_method() -> None:
    def methods(names: Any) -> set[Any]:
        found = set()
        for name in names:
            experiment = load_experiment(REPOSITORY / "experiments" / f"{name}.py").resolved
            kind = experiment.task.kind if isinstance(experiment.task, Task) else "function"
            found |= {experiment.searcher.name, experiment.scheduler.name, kind}
            found |= {option for option in ("folds", "hypergradient") if getattr(experiment, option)}
        return found

    assert methods(file.stem for file in FILES) - methods(RUN) == NOT_RUN


@pytest.mark.parametrize("name", RUN)
def test_run_at_its_smallest_size(name: str, data_dir: Path, tmp_path: Path, ray_session: None) -> None:
    file = REPOSITORY / "experiments" / f"{name}.py"
    (row,) = command.rows([file], size="smallest", data_dir=str(data_dir), folder=tmp_path)
    assert not row.failed, (row.note, row.why)
    results = load_results(tmp_path / name)
    best = results.best
    assert (results.status, best is not None) == ("finished", True)
    assert row.best == (results.metric, best.metric)
    assert math.isfinite(row.best[1])
    score, value = row.test
    assert (score.startswith("test_"), best.test[score]) == (True, value)
    assert row.epochs == len(results.curves) * (results.experiment["folds"] or 1) > 0
    lines = command.table([row]).splitlines()
    assert [len(lines), lines[1].split()[0]] == [2, name]
    assert f"{value:.4g}" in lines[1]


def test_missing_data_and_failed_trials_are_rows_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiments: Path
) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    row = command.row_of(
        experiments / "cifar10_resnet_pbt.py", size="smallest", data_dir=str(tmp_path), folder=tmp_path / "runs"
    )
    assert (row.failed, row.method) == (False, "random + pbt")
    assert row.note == "no data"
    header, line, reason = command.table([row]).splitlines()
    assert len(header) < 100
    assert line.endswith("no data")
    assert reason.startswith("cifar10_resnet_pbt: no data: data_dir = ")
    assert "cifar-10-python.tar.gz" in reason
    assert not (tmp_path / "runs").exists()
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "taken").touch()
    row = command.row_of(experiments / "digits.py", size="smallest", data_dir=None, folder=tmp_path)
    assert (row.failed, row.note, row.why[:13]) == (True, "failed", "run directory")
    row = command._row("hand", "random + fifo", load_results(finished_run(tmp_path / "hand")), 5)
    assert (row.failed, row.note) == (True, "1 failed")
    assert (row.best, row.test) == (("validation_accuracy", 0.95), ("test_accuracy", 0.93))
    assert row.epochs == 5 * 5


def test_a_function_of_ones_own_pauses_and_goes_on(experiments: Path, tmp_path: Path, ray_session: None) -> None:
    """HyperBand pauses trials at its rungs; epochs trained after a pause continue the ones before it."""
    changes = {"scheduler": "hyperband", "num_samples": 5, "max_epochs": 9, "max_concurrent": 1}
    results = run(load_experiment(experiments / "function_trainable.py").override(changes), tmp_path / "run")
    assert (results.status, results.counts["failed"]) == ("finished", 0)
    curves = results.curves
    paused = curves[curves.decision == "pause"]
    longest = curves.trial_id.value_counts()
    gone_on = [trial for trial in paused.trial_id if longest[trial] == 9]
    assert gone_on
    unpaused = run(
        load_experiment(experiments / "function_trainable.py").override(
            {**changes, "scheduler": "fifo", "executor": "inline"}
        ),
        tmp_path / "unpaused",
    ).curves
    for trial in gone_on:
        one, other = (list(c[c.trial_id == trial].loss) for c in (curves, unpaused))
        assert one == other, "what was paused and restored trains as what was not"
