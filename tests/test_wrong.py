"""Wrong experiment files, command lines and run directories: one line on stderr that says what is right, exit 2.

Most run in this process for speed, through the command's own `main`; a sample runs as real commands, which
also shows that neither ray nor torch was needed to find the fault.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written_run import checkpoint, result, suggest, written_run

from raytune_hpo.cli.main import main

TIME_LIMIT_S = 5.0
HEADER = """
from raytune_hpo import *
from raytune_hpo.tasks import Digits, Mnist

def train(config): ...
def two(config, more): ...
"""
GOOD = {"name": '"wrong"', "task": '"digits"', "space": '{"lr": Float(1e-4, 1e-1, "log")}', "storage": '"runs"'}
FUNCTION = {"task": "train", "metric": '"loss"', "mode": '"min"'}
SGD = 'Choice(["sgd", "adam"])'


def space(text: str) -> dict[str, str]:
    return {"space": "{" + text + "}"}


def free(text: str) -> dict[str, str]:
    """A space of a function trainable, which may name its parameters as it likes."""
    return {**FUNCTION, "space": "{" + text + "}"}


# (fields as source text that replace the good ones, what the line must say)
FILES: list[tuple[dict[str, str], list[str]]] = [
    # fields: types, ranges, names
    ({"name": "5"}, ["name = 5", "letters"]),
    ({"name": '"a/b"'}, ["name = 'a/b'", "letters"]),
    ({"task": '"digts"'}, ["task = 'digts'", "did you mean 'digits'"]),
    ({"task": "Digits"}, ["task = ", "write Digits()"]),
    ({"task": "7"}, ["task = 7", "a task's name"]),
    ({"task": "Digits(test_fraction=1.5)"}, ["task.test_fraction = 1.5", "above 0 and below 1"]),
    ({"task": "Digits(split_seed=-1)"}, ["task.split_seed = -1", "an integer of at least 0"]),
    ({"task": "Digits(validation=0.1)"}, ["Digits(validation=...)", "did you mean 'validation_fraction'"]),
    ({"task": 'Mnist(data_dir="/nowhere")'}, ["task.data_dir = '/nowhere'", "existing folder"]),
    ({"task": "Mnist(train_samples=0)"}, ["task.train_samples = 0", "an integer of at least 1"]),
    ({"nmae": '"x"'}, ["nmae", "did you mean 'name'"]),
    ({"space": "None"}, ["space = None", "a dictionary"]),
    ({"metric": '"validation_acuracy"'}, ["metric = 'validation_acuracy'", "did you mean 'validation_accuracy'"]),
    ({"mode": '"maximum"'}, ["mode = 'maximum'", "'min' or 'max'"]),
    ({"mode": '"min"'}, ["mode = 'min'", "validation_accuracy is better when it is higher"]),
    ({**FUNCTION, "metric": "None"}, ["metric = None", "the trainable reports"]),
    ({**FUNCTION, "mode": "None"}, ["mode = None", "'min' or 'max'"]),
    ({**FUNCTION, "task": "two"}, ["task = 'two'", "one argument, the config"]),
    ({"num_samples": "0"}, ["num_samples = 0", "an integer from 1 to"]),
    ({"num_samples": '"64"'}, ["num_samples = '64'", "an integer"]),
    ({"max_epochs": "2.5"}, ["max_epochs = 2.5", "an integer"]),
    ({"seed": "-1"}, ["seed = -1", "from 0 to 9223372036854775807"]),
    ({"max_failures": "True"}, ["max_failures = True", "an integer"]),
    ({"max_concurrent": "0"}, ["max_concurrent = 0", "at least 1"]),
    ({"time_budget_s": "0"}, ["time_budget_s = 0", "above 0"]),
    ({"time_budget_s": "10 ** 400"}, ["time_budget_s = 1000", "a number above 0"]),
    ({"storage": '""'}, ["storage = ''", "path of a folder"]),
    ({"storage": '"x" * 300'}, ["storage = ", "too long"]),
    ({"resources": '{"cpu": 2}'}, ["resources.cpu = 2", "did you mean 'cpus'"]),
    ({"resources": "Resources(cpus=1.5)"}, ["resources.cpus = 1.5", "whole number"]),
    ({"resources": "Resources(cpus=0)"}, ["resources = ", "needs a CPU or a GPU"]),
    ({"resources": "Resources(cpus=-1)"}, ["resources.cpus = -1", "at least 0"]),
    ({"resources": "2"}, ["resources = 2", "Resources(cpus, gpus, strategy)"]),
    ({"early_stopping": "{}"}, ["early_stopping = {}", "needs 'patience'"]),
    ({"early_stopping": '{"patience": 0}'}, ["early_stopping.patience = 0", ">= 1"]),
    ({"early_stopping": '{"patience": 3, "min_delta": -1}'}, ["early_stopping.min_delta = -1", ">= 0"]),
    ({"stop": '{"target": "0.99"}'}, ["stop.target = '0.99'", "a finite number"]),
    ({"stop": '{"no_improvement": 3}'}, ["stop.no_improvement = 3", "did you mean 'no_improvement_trials'"]),
    ({"checkpoint": "Checkpointing(every=0)"}, ["checkpoint.every = 0", "at least 1"]),
    ({"checkpoint": '{"keep": None}'}, ["checkpoint.keep = None", "an integer"]),
    # the space
    (space(""), ["space = {}", "no parameter to search"]),
    (space('"lr": 0.1'), ["space = {'lr': 0.1}", "no parameter to search"]),
    (space('"lrr": Float(0.1, 1)'), ["space = 'lrr'", "did you mean 'lr'"]),
    (space('"lr": Float(-1, 1)'), ["space.lr = -1", "a float > 0"]),
    (space('"lr": Float(1e-3, 1), "batch_size": Float(16, 64)'), ["space.batch_size = 16.0", "an int >= 1"]),
    (space('"lr": Float(1e-3, 1), "dropout": 1.0'), ["space.dropout = 1.0", "in [0, 1)"]),
    (space('"optimizer": Choice(["sgd", "adm"])'), ["space.optimizer = 'adm'", "one of sgd"]),
    (space('"lr": Float(1, 0.1)'), ["Float.low = 1", "below high = 0.1"]),
    (space('"lr": Float(1, 10 ** 400)'), ["Float.high = 1000", "must be a number"]),
    (space('"lr": Float(0, 1, "log")'), ["Float.low = 0", "needs low > 0", "line"]),
    (space('"momentum": Float(0.9, 1, "reverse_log")'), ["Float.high = 1", "needs high < 1"]),
    (space('"lr": Float(0.1, 1, "lgo")'), ["Float.scale = 'lgo'", "'log'"]),
    (space('"lr": Float(0.1, "1")'), ["Float.high = '1'", "must be a number"]),
    (space('"lr": Float(0.1)'), ["Float() missing", "'high'"]),
    (free('"n": Int(1, 2.5)'), ["Int.high = 2.5", "an integer"]),
    (free('"n": Int(1, 10, step=4)'), ["Int.high = 10", "such as 9"]),
    (free('"n": Int(3, 64, "power_of_two")'), ["Int.low = 3", "a power of two"]),
    (free('"n": Int(0, 64, "log")'), ["Int.low = 0", "low >= 1"]),
    (free('"n": Choice(["a"])'), ["Choice.options = ['a']", "two or more"]),
    (free('"n": Choice(["a", "a"])'), ["Choice.options = 'a'", "twice"]),
    (free('"n": Choice("ab")'), ["Choice.options = 'ab'", "a list"]),
    (free('"n": Choice([1, {2}])'), ["Choice.options = {2}", "plain JSON value"]),
    (free('"n": Int(1, 2), "c": float("inf")'), ["space.c = inf", "plain JSON value"]),
    (free('"n": Int(1, 2), "c": [Int(1, 2)]'), ["space.c = Int(", "inside a value"]),
    (free('"a.b": Int(1, 2)'), ["space.a.b = 'a.b'", "without a dot"]),
    # conditions
    (
        space(f'"optimizer": {SGD}, "momentum": Float(0.5, 0.9).when("optimiser", "==", "sgd")'),
        ["space.momentum.when = 'optimiser'", "optimizer"],
    ),
    (
        space(f'"optimizer": {SGD}, "momentum": Float(0.5, 0.9).when("optimizer", "==", "SGD")'),
        ["space.momentum.when = 'SGD'", "{sgd, adam}"],
    ),
    (space('"optimizer": "sgd", "momentum": Float(0.5, 0.9).when("optimizer", "==", "sgd")'), ["a constant"]),
    (free('"a": Int(1, 3), "b": Int(1, 3).when("a", ">", 3)'), ["space.b.when = 'a > 3'", "[1..3]"]),
    (free('"a": Int(1, 3), "b": Int(1, 3).when("a", "=", 3)'), ["when = '='", "one of =="]),
    (free('"a": Int(1, 3), "b": Int(1, 3).when("a", "in", [])'), ["when = []", "one or more"]),
    (free('"a": Int(1, 3).when("b", "==", 1), "b": Int(1, 3).when("a", "==", 1)'), ["lead back to itself"]),
    # start points
    ({"start_points": "[{'lr': 1.0}]"}, ["start_points[0].lr = 1.0", "[0.0001, 0.1] log"]),
    ({"start_points": "[{'lr': 0.01}, {'learning_rate': 0.1}]"}, ["start_points[1].learning_rate = 0.1", "lr"]),
    ({"start_points": "[{}]"}, ["start_points[0].lr = None", "missing"]),
    ({"start_points": "{'lr': 0.01}"}, ["start_points = {'lr': 0.01}", "a list of configs"]),
    ({"start_points": "[0.01]"}, ["start_points[0] = 0.01", "a dictionary"]),
    ({**free('"a": Int(1, 3), "c": 3'), "start_points": "[{'a': 1, 'c': {'d': 1}}]"}, ["start_points[0].c = {'d': 1}"]),
    # searchers and schedulers
    ({"searcher": '"hyperot"'}, ["searcher = 'hyperot'", "did you mean 'hyperopt'"]),
    ({"searcher": "None"}, ["searcher = None", "one of random"]),
    ({"searcher": '{"n_initial": 5}'}, ["searcher = ", "'name'"]),
    ({"searcher": '{"name": "bayesopt", "n_inital": 5}'}, ["searcher.n_inital = 5", "did you mean 'n_initial'"]),
    ({"searcher": '{"name": "bayesopt", "n_initial": 1}'}, ["searcher.n_initial = 1", "from 2"]),
    ({"searcher": '{"name": "random", "sampler": "sobl"}'}, ["searcher.sampler = 'sobl'", "did you mean 'sobol'"]),
    ({"searcher": '{"name": "grid", "points": 7}', "num_samples": "8"}, ["num_samples = 8", "ends after 7 trials"]),
    ({"searcher": '{"name": "grid", "points": 0}'}, ["searcher.points = 0", "from 1"]),
    ({"scheduler": '"ahsa"'}, ["scheduler = 'ahsa'", "did you mean 'asha'"]),
    ({"scheduler": '{"name": "asha", "grace": 2}'}, ["scheduler.grace = 2", "grace_period"]),
    ({"scheduler": '{"name": "asha", "reduction_factor": 1}'}, ["scheduler.reduction_factor = 1", "above 1"]),
    ({"scheduler": '{"name": "asha", "grace_period": 99}'}, ["scheduler.grace_period = 99", "max_epochs = 27"]),
    ({"scheduler": '{"name": "fifo", "brackets": 2}'}, ["scheduler.brackets = 2", "no such option of 'fifo'"]),
    ({"scheduler": '{"name": "pbt", "quantile": 0.6}'}, ["scheduler.quantile = 0.6", "at most 0.5"]),
    ({"scheduler": '{"name": "pbt", "mutate": ["rl"]}'}, ["scheduler.mutate = 'rl'", "lr"]),
    ({"scheduler": '{"name": "pbt", "mutate": []}'}, ["scheduler.mutate = []", "at least one"]),
    ({"scheduler": '{"name": "pbt", "mutate": "lr"}'}, ["scheduler.mutate = 'lr'", "a list of names"]),
    (
        {**space('"lr": Float(1e-3, 1), "hidden_units": Int(8, 64)'), "scheduler": '{"name": "pbt", "mutate": '
         '["hidden_units"]}'},
        ["scheduler.mutate = 'hidden_units'", "mid-training; lr can"],
    ),
    ({**space('"hidden_units": Int(8, 64)'), "scheduler": '"pbt"'}, ["scheduler = 'pbt'", "such as lr"]),
    ({**FUNCTION, "scheduler": '"pbt"'}, ["scheduler.mutate = None", "mid-training"]),
    # the machine
    ({"resources": "Resources(cpus=1000)"}, ["resources.cpus = 1000", "CPU cores", "ask for less"]),
    ({"resources": "Resources(gpus=2)"}, ["resources.gpus = 2", "0 GPUs"]),
]  # fmt: skip


def experiment_file(folder: Path, fields: dict[str, str]) -> Path:
    path = folder / f"wrong_{abs(hash(str(fields)))}.py"
    listed = ", ".join(f"{name}={text}" for name, text in {**GOOD, **fields}.items())
    path.write_text(f"{HEADER}\nexperiment = Experiment({listed})\n")
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to be in, and a machine without GPUs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command line in this process and answers its one line of error."""

    def run(*arguments: str) -> str:
        before = {p for p in Path.cwd().rglob("*") if "__pycache__" not in p.parts}
        try:
            code = main(list(arguments))
        except SystemExit as error:  # argparse
            code = error.code if isinstance(error.code, int) else -1
        out, err = capsys.readouterr()
        assert code == 2, err
        assert out == ""
        assert_one_line(err)
        assert {p for p in Path.cwd().rglob("*") if "__pycache__" not in p.parts} == before, "something was written"
        return err

    return run


def assert_one_line(err: str) -> None:
    assert err.startswith("raytune-hpo")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err


@pytest.mark.parametrize(("fields", "words"), FILES, ids=lambda v: "".join(v)[:60] if isinstance(v, list) else "")
def test_wrong_experiments(
    fields: dict[str, str], words: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    path = experiment_file(tmp_path, fields)
    for verb in ("validate", "run"):
        line = refused(verb, str(path))
        for word in words:
            assert word in line
        assert len(line) < 500


def test_the_template_of_those_files_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise every test above would pass for the wrong reason."""
    for fields in ({}, FUNCTION, free('"a.b"'.replace(".", "_") + ": Int(1, 3)")):
        assert main(["validate", str(experiment_file(tmp_path, fields))]) == 0
    assert capsys.readouterr().err == ""


CONTENTS: list[tuple[str, list[str]]] = [
    ("def f(:\n", ["invalid syntax", "line 1"]),
    ("", ["must build one Experiment", "it has none"]),
    ("import nothing_of_this_name\n", ["ModuleNotFoundError", "nothing_of_this_name", "line 1"]),
    ("\n\n1 / 0\n", ["ZeroDivisionError", "line 3"]),
    ("raise ValueError('two\\nlines')\n", ["ValueError: two lines"]),
    ("import sys\nsys.exit(3)\n", ["SystemExit: 3", "line 2"]),
    (
        "from raytune_hpo import *\n"
        "a, b = (Experiment(name=n, task='digits', space={'lr': Float(0.1, 1)}) for n in 'ab')\n",
        ["it has 2: a, b"],
    ),
]


@pytest.mark.parametrize(("content", "words"), CONTENTS)
def test_files_that_build_no_experiment(
    content: str, words: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    path = tmp_path / f"content_{abs(hash(content))}.py"
    path.write_text(content)
    line = refused("validate", str(path))
    assert line.startswith(f"raytune-hpo: experiment file = '{path}'"[:100])
    for word in words:
        assert word in line


# (arguments after the file, what the line must say)
OVERRIDES: list[tuple[list[str], list[str]]] = [
    (["--set", "num_sample=3"], ["--set num_sample = 3", "did you mean 'num_samples'"]),
    (["--set", "num_samples"], ["--set = 'num_samples'", "FIELD=VALUE"]),
    (["--set", "=3"], ["--set = '=3'", "FIELD=VALUE"]),
    (["--set", "num_samples=many"], ["num_samples = 'many'", "an integer"]),
    (["--set", "num_samples=" + "9" * 5000], ["num_samples = '999", "an integer"]),
    (["--set", "seed=1", "--set", "seed=2"], ["--set = 'seed=2'", "twice"]),
    (["--set", "space.lrr=0.1"], ["space.lrr = 0.1", "did you mean 'lr'"]),
    (["--set", "space.batch_size=0"], ["space.batch_size = 0", "an int >= 1"]),
    (["--set", "searcher.n_initial=4"], ["searcher.n_initial = 4", "this one is auto: choose one (searcher.name)"]),
    (["--set", "searcher=random", "--set", "searcher.n_initial=4"], ["no such option of 'random'"]),
    (["--set", "scheduler=asha", "--set", "scheduler.grace_period=0"], ["scheduler.grace_period = 0", "at least 1"]),
    (["--set", "resources.gpu=1"], ["resources.gpu = 1", "did you mean 'gpus'"]),
    (["--set", "task.fraction=0.1"], ["--set task.fraction = 0.1", "no such option"]),
    (["--set", "test_fraction=0"], ["task.test_fraction = 0", "above 0"]),
    (["--set", "task=mnist", "--set", "data_dir=5"], ["task.data_dir = 5", "an existing folder"]),
    (["--set", "start_points=[1]"], ["start_points[0] = 1", "a dictionary"]),
    (["--nothing"], ["--nothing", "--help"]),
    (["--set"], ["--set", "expected one argument"]),
]


@pytest.mark.parametrize(("arguments", "words"), OVERRIDES)
def test_wrong_overrides(arguments: list[str], words: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    batch = space('"lr": Float(1e-3, 1), "batch_size": Int(8, 64)')
    line = refused("validate", str(experiment_file(tmp_path, batch)), *arguments)
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["required: COMMAND"]),
        (["rnu"], ["'rnu'", "'run'"]),
        (["run"], ["raytune-hpo run", "required: file"]),
        (["validate", "nothing.py"], ["nothing.py", "no such file"]),
        (["validate", "."], ["must be a Python file"]),
        (["resume"], ["required: run_dir"]),
        (["export", "somewhere"], ["required: -o"]),
        (["trials", "somewhere", "--json", "--csv"], ["not allowed with"]),
        (["run", "x.py", "--quiet", "--verbose"], ["not allowed with"]),
        (["resume", "no\nwhere"], ["no experiment.json"]),
        *[([verb, "."], ["run directory = ", "holds no run"]) for verb in ("resume", "trials", "best")],
        (["export", ".", "-o", "model"], ["run directory = ", "holds no run"]),
    ],
)
def test_wrong_command_lines(arguments: list[str], words: list[str], refused: Callable[..., str]) -> None:
    line = refused(*arguments)
    for word in words:
        assert word in line


# Where a run would go -----------------------------------------------------------------------------------


def test_storage_that_is_a_file(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "occupied").write_text("")
    path = str(experiment_file(tmp_path, {"storage": f'"{tmp_path}/occupied"'}))
    for verb in ("validate", "run"):
        assert "must be a folder that can be written to" in refused(verb, path)
    assert "must be a folder" in refused("run", path, "--run-dir", f"{tmp_path}/occupied/below")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write to")
def test_storage_that_cannot_be_written(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "storage = '/proc/" in refused("run", str(experiment_file(tmp_path, {"storage": '"/proc/runs"'})))


def test_a_run_directory_in_use(tmp_path: Path, refused: Callable[..., str]) -> None:
    run_dir = written_run(tmp_path / "run")
    line = refused("run", str(experiment_file(tmp_path, {})), "--run-dir", str(run_dir))
    assert "exists already" in line
    assert "resume" in line


@pytest.mark.parametrize(
    ("address", "words"),
    [("here", "auto or HOST:PORT"), ("localhost:port", "auto or HOST:PORT"), ("127.0.0.1:1", "nothing answers")],
)
def test_a_cluster_that_is_not_there(address: str, words: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    line = refused("run", str(experiment_file(tmp_path, {})), "--address", address)
    assert f"--address = '{address}'" in line
    assert words in line


# Runs that are not what they should be --------------------------------------------------------------------


SUGGEST = suggest("t00000")
RESULT = result("t00000", 1, 0.9)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 99}', "reads formats up to 2"),
        ('{"format": 1}', "fields are missing"),
        ('{"format": 1, "experiment": {"metric": "loss"}}', "fields are missing"),
    ],
)
def test_a_damaged_description(content: str, words: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    run_dir = written_run(tmp_path / "run")
    (run_dir / "experiment.json").write_text(content)
    for verb in ("trials", "best"):
        assert words in refused(verb, str(run_dir))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((SUGGEST, "{torn\n", RESULT), "journal.jsonl:2': was changed: it has no checksum; restore the journal"),
        ((RESULT,), "is no trial that was suggested before"),
        (({"event": "suggest", "trial": "t00000"},), "events[0] (suggest).config = None: is missing"),
        (({"event": "levitate"},), "'levitate': is no event that this version knows; a newer one wrote it"),
    ],
)
def test_a_damaged_journal(lines: tuple[Any, ...], words: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    run_dir = written_run(tmp_path / "run", *lines)
    for verb in ("trials", "best"):
        line = refused(verb, str(run_dir))
        assert "journal" in line
        assert words in line


def test_nothing_to_show_or_export(tmp_path: Path, refused: Callable[..., str]) -> None:
    empty = str(written_run(tmp_path / "empty"))
    assert "has no report yet" in refused("best", empty)
    assert "has no finished report" in refused("export", empty, "-o", "model")
    assert "there are none yet" in refused("export", empty, "-o", "model", "--trial", "t00000")
    begun = str(written_run(tmp_path / "begun", SUGGEST, RESULT))
    assert "--trial = 't7': no such trial; there are t00000 to t00000" in refused(
        "export", begun, "-o", "model", "--trial", "t7"
    )
    assert "--trial = 't00000': has no checkpoint" in refused("export", begun, "-o", "model")


def test_export_over_files(tmp_path: Path, refused: Callable[..., str]) -> None:
    record = checkpoint("t00000", 1)
    run_dir = written_run(tmp_path / "run", SUGGEST, RESULT, record)
    full = tmp_path / "full"
    full.mkdir()
    (full / "kept").write_text("")
    assert "--output = " in (line := refused("export", str(run_dir), "-o", str(full)))
    assert "exists already" in line
    assert "--output = " in refused("export", str(run_dir), "-o", str(full / "kept"))
    (run_dir / record.checkpoint.path / "changed").write_text("more")
    assert "is damaged" in refused("export", str(run_dir), "-o", "model")


def test_resuming_what_cannot_go_on(tmp_path: Path, refused: Callable[..., str]) -> None:
    gone = {"file": "/nowhere/gone.py", "name": "train"}
    run_dir = written_run(tmp_path / "gone", task=gone)
    assert "no such file" in refused("resume", str(run_dir))
    run_dir = written_run(tmp_path / "prompt", task={"unsaved": "train"})
    assert "resume(run_dir, task=...)" in refused("resume", str(run_dir))
    run_dir = written_run(tmp_path / "future", levity=3)
    assert "levity" in refused("resume", str(run_dir))


# As real commands ---------------------------------------------------------------------------------------

COMMAND = """
import sys
from raytune_hpo.cli.main import main
try:
    code = main(sys.argv[1:])
finally:
    heavy = {"ray", "torch", "torchvision", "pandas", "scipy", "hyperopt"} & set(sys.modules)
    assert not heavy, heavy
sys.exit(code)
"""


def command(*arguments: str, **environment: str) -> str:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of CPU: what it costs, however busy the machine is.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < TIME_LIMIT_S
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert_one_line(done.stderr)
    assert sorted(p.suffix for p in Path.cwd().iterdir() if p.name != "__pycache__") == [".py"]
    return done.stderr


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({"searcher": '"hyperot"'}, []),
        (space('"lr": Float(-1, 1)'), []),
        ({"resources": "Resources(cpus=1000)"}, []),
        ({"storage": '"/proc/runs"'}, []),
        ({"searcher": '"bayesopt"'}, ["--set", "searcher.xi=-1"]),
        ({}, ["--address", "127.0.0.1:1"]),
        ({}, ["--set", "nothing=1"]),
    ],
)
def test_real_commands_load_nothing_heavy(fields: dict[str, str], arguments: list[str], tmp_path: Path) -> None:
    command("run", str(experiment_file(tmp_path, fields)), *arguments)


def test_mnist_without_data_or_network(tmp_path: Path) -> None:
    path = experiment_file(tmp_path, {"task": '"mnist"'})
    path.write_text(
        # No name is resolved and nothing is connected to, wherever this test runs.
        "import socket\n"
        "def refused(*_, **__): raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refused\n" + path.read_text()
    )
    home = tmp_path.parent / f"{tmp_path.name}-home"
    home.mkdir()
    proxies = {name: "" for name in os.environ if re.fullmatch(r"(?i)\w+_proxy", name)}
    line = command("run", str(path), HOME=str(home), RAYTUNE_HPO_DATA="", **proxies)
    assert "set data_dir or the environment variable RAYTUNE_HPO_DATA" in line
    assert "connect to the network" in line
