"""A run in a changed world: its code edited, moved or gone, read from elsewhere, or written by a stranger.

Rows A2, A3, B4, B5, B7, B8, B17, B23 and C4.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raytune_hpo import load_experiment, load_results, resume, run
from raytune_hpo.cli.main import main
from raytune_hpo.journal.events import SessionOpened

Capture = pytest.CaptureFixture[str]

SPACE = '{"x": Float(0.0, 1.0)}, metric="loss", mode="min", num_samples=4, max_epochs=2, scheduler="fifo"'
EXPERIMENT = f"""
from raytune_hpo import Experiment, Float
from mytrain import train
experiment = Experiment(name="mine", task=train, space={SPACE}, executor="inline")
"""
TRAIN = """
import raytune_hpo
from parts.score import score

def train(config):
    for epoch in range(2):
        raytune_hpo.report({"loss": score(config["x"]), "epoch_seen": epoch})
"""
SCORE = "def score(x): return 1.0 + x\n"


@pytest.fixture(autouse=True)
def imports() -> Iterator[None]:
    """Each test imports its own modules of the same names."""
    paths, before = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = paths
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mytrain", "parts") or name.startswith("raytune_hpo_file_"):
            del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "parts").mkdir(parents=True)
    (folder / "exp.py").write_text(EXPERIMENT)
    (folder / "mytrain.py").write_text(TRAIN)
    (folder / "parts" / "score.py").write_text(SCORE)  # a package without an __init__
    return folder


def begun(project: Path, path: Path, reports: int = 3) -> Path:
    """A run of the project's experiment whose process died after so many reports."""
    code = f"""
import os, sys
from raytune_hpo import load_experiment, run
from raytune_hpo.engine.population import Population
report = Population.report
seen = []
def dying(self, trial, *given):
    answer = report(self, trial, *given)
    seen.append(1)
    if len(seen) == {reports}:
        self.ledger.seconds = 0
        os._exit(9)
    return answer
Population.report = dying
run(load_experiment("exp.py"), {str(path)!r}, source=__import__("pathlib").Path("exp.py"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    return path


def losses(path: Path) -> list[float]:
    trials = load_results(path).ledger.trials.values()
    return [round(t.best - 1.0 - t.config["x"], 6) for t in trials if t.best is not None]


# A2, B4: the code is gone, or another ----------------------------------------------------------------------


def test_a2_b4_a_run_goes_on_with_its_own_code(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = begun(project, tmp_path / "run")
    (project / "parts" / "score.py").write_text("def score(x): return 1000.0\n")
    (project / "mytrain.py").unlink()
    monkeypatch.chdir(tmp_path)  # from elsewhere
    assert main(["resume", str(path), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["status"] == "finished"
    assert losses(path) == [0.0] * 4  # score is the one that the run began with
    told = "since the run was begun mytrain.py is gone, parts/score.py has changed: the run's own copy is used"
    assert told in " ".join(printed.err.split())
    versions = [session.code for session in load_results(path).of(SessionOpened)]
    assert len(versions) == 2
    assert len(set(versions)) == 1


def test_b4_todays_code_is_taken_on_demand_and_marked(project: Path, tmp_path: Path, capsys: Capture) -> None:
    path = begun(project, tmp_path / "run")
    (project / "parts" / "score.py").write_text("def score(x): return 0.5 + x\n")
    assert main(["resume", str(path), "--code", "current", "--quiet"]) == 0
    assert set(losses(path)) == {0.0, -0.5}
    capsys.readouterr()
    assert main(["trials", str(path)]) == 0
    table = capsys.readouterr().out
    assert "code" in table.splitlines()[0]
    assert main(["best", str(path)]) == 0
    assert "two versions of the code" in capsys.readouterr().out
    assert (path / "source-2" / "parts" / "score.py").read_text() == "def score(x): return 0.5 + x\n"
    assert (path / "source" / "parts" / "score.py").read_text() == SCORE


def test_near_b4_what_is_gone_cannot_be_current(project: Path, tmp_path: Path, capsys: Capture) -> None:
    path = begun(project, tmp_path / "run")
    (project / "mytrain.py").unlink()
    assert main(["resume", str(path), "--code", "current"]) == 2
    assert f"--code = 'current': {project}/mytrain.py is gone; leave it out" in capsys.readouterr().err


def test_near_b4_a_torn_copy_is_made_good_by_the_original(project: Path, tmp_path: Path) -> None:
    path = begun(project, tmp_path / "run")
    (path / "source" / "mytrain.py").write_text("")
    (path / "source" / "parts" / "score.py").unlink()
    assert resume(path, quiet=True).counts["completed"] == 4


def test_near_b4_a_copy_that_is_gone_is_not_made_good_in_silence(
    project: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = begun(project, tmp_path / "run")
    shutil.rmtree(path / "source")
    assert main(["resume", str(path)]) == 2
    assert "holds no copy of the code that the run trains with; --code current takes today's" in capsys.readouterr().err
    assert main(["resume", str(path), "--code", "current", "--quiet"]) == 0


def test_near_b8_code_from_nowhere_is_to_be_passed_again(tmp_path: Path) -> None:
    text = f"""
import raytune_hpo
from raytune_hpo import Experiment, Float
def train(config):
    raytune_hpo.report({{"loss": config["x"]}})
if __name__ == "__main__":
    raytune_hpo.run(Experiment(name="mine", task=train, space={SPACE}, executor="inline"), "run", quiet=True)
"""
    done = subprocess.run([sys.executable, "-"], input=text, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cut(tmp_path / "run", 2)
    resumed = [sys.executable, "-m", "raytune_hpo.cli.main", "resume", str(tmp_path / "run")]
    done = subprocess.run(resumed, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "resume(run_dir, task=...)" in done.stderr


def test_near_b4_a_changed_copy_is_not_run(project: Path, tmp_path: Path, capsys: Capture) -> None:
    path = begun(project, tmp_path / "run")
    (project / "mytrain.py").write_text("changed = True\n")
    (path / "source" / "mytrain.py").write_text("raise SystemExit('run')\n")
    assert main(["resume", str(path)]) == 2
    assert "mytrain.py': was changed" in capsys.readouterr().err


def test_near_b4_a_module_that_was_edited_is_read_anew(project: Path) -> None:
    first = load_experiment(project / "exp.py")
    (project / "parts" / "score.py").write_text("def score(x): return 3.0 + x  # other\n")
    again = load_experiment(project / "exp.py")
    assert first.task.__globals__["score"](0) == 1.0  # type: ignore[union-attr]
    assert again.task.__globals__["score"](0) == 3.0  # type: ignore[union-attr]


def test_near_b4_modules_are_todays_again_after_a_resume(project: Path, tmp_path: Path) -> None:
    path = begun(project, tmp_path / "run")
    (project / "parts" / "score.py").write_text("def score(x): return 7.0\n")
    before, folder = list(sys.path), os.getcwd()
    assert resume(path).status == "finished"
    assert sys.path == before
    assert os.getcwd() == folder
    assert "mytrain" not in sys.modules
    load_experiment(project / "exp.py")
    assert sys.modules["parts.score"].score(0) == 7.0


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_near_b4_a_module_imported_in_a_trial_is_kept_too(
    executor: str, project: Path, tmp_path: Path, ray_session: None
) -> None:
    late = TRAIN.replace("from parts.score import score\n", "")
    (project / "mytrain.py").write_text(late.replace("    for", "    from parts.score import score\n    for"))
    path = tmp_path / "run"
    made = load_experiment(project / "exp.py").override({"num_samples": 1, "executor": executor})
    assert run(made, path, source=project / "exp.py", quiet=True).best is not None
    assert (path / "source" / "parts" / "score.py").read_text() == SCORE


# A3: a file that starts a run while it is read ------------------------------------------------------------


def test_a3_a_script_without_a_guard_is_resumed_and_not_run(tmp_path: Path) -> None:
    script = f"""
import raytune_hpo
from raytune_hpo import Experiment, Float
def train(config):
    for _ in range(2):
        raytune_hpo.report({{"loss": config["x"]}})
print("top")
raytune_hpo.run(Experiment(name="mine", task=train, space={SPACE}, executor="inline"), RUN)
"""
    path = tmp_path / "run"
    file = tmp_path / "noguard.py"
    file.write_text(script.replace("RUN)", f"{str(path)!r})"))
    done = subprocess.run([sys.executable, str(file)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (path / "journal.jsonl").write_bytes(b"".join(lines[:-2]))
    done = subprocess.run(
        [sys.executable, "-m", "raytune_hpo.cli.main", "resume", str(path), "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    said = 'noguard.py starts a run where it is read; that run is not started: put it under if __name__ == "__main__":'
    assert said in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["noguard.py", "run"]


# B5: from another working directory ------------------------------------------------------------------------

READS = """
import pathlib
import numpy as np
from dataclasses import dataclass
from raytune_hpo import Experiment, Float, Split, Splits, Task
from torch import nn

@dataclass(frozen=True)
class Mine(Task):
    def load(self, seed):
        x = np.loadtxt("numbers.txt", dtype=np.float32).reshape(-1, 2)
        part = Split(x, (x[:, 0] > x[:, 1]).astype(np.int64))
        return Splits(part, part, part)

    def build_model(self, config):
        return nn.Linear(2, 2)

HERE = pathlib.Path(__file__).parent / "exp.py"
experiment = Experiment(name="mine", task=Mine(), space={"lr": Float(0.01, 0.1)}, num_samples=2, max_epochs=2,
                        scheduler="fifo", executor="inline")
"""


def trained_in(project: Path) -> Path:
    """A run of a project whose task reads a file by a relative path."""
    project.mkdir()
    (project / "exp.py").write_text(READS)
    (project / "numbers.txt").write_text("\n".join(f"{i % 7} {i % 5}" for i in range(40)))
    with contextlib.chdir(project):
        assert main(["run", "exp.py", "--run-dir", "run", "--quiet"]) == 0
    return project / "run"


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """(a project, its run)."""
    return tmp_path / "project", trained_in(tmp_path / "project")


@pytest.fixture(scope="module")
def of_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_in(tmp_path_factory.mktemp("module") / "project")


@pytest.fixture
def copied(of_module: Path, tmp_path: Path) -> Path:
    """A run to be tampered with, whose project is not."""
    return Path(shutil.copytree(of_module, tmp_path / "run"))


def cut(path: Path, lines: int) -> None:
    """As after a kill: without the journal's last lines."""
    journal = path / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-lines]))


def test_b5_relative_paths_are_the_runs_own(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = trained
    cut(path, 3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["resume", str(path), "--quiet"]) == 0
    assert load_results(path).counts["completed"] == 2
    assert main(["replay", str(path)]) == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_must_show_5_a_run_without_its_world(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    project, path = trained
    moved = tmp_path / "archive" / "moved"
    moved.parent.mkdir()
    path.rename(moved)
    (project / "numbers.txt").unlink()
    (project / "exp.py").write_text("raise RuntimeError('edited')\n")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["trials", str(moved)]) == 0
    assert main(["best", str(moved)]) == 0
    assert capsys.readouterr().err == ""
    assert main(["export", str(moved), "-o", "out"]) == 0
    told = "since the run was begun exp.py has changed: the run's own copy is used (--code current takes today's)"
    assert capsys.readouterr().err == f"raytune-hpo: {told}\n"
    assert (tmp_path / "out" / "model.pt2").is_file()
    for verb in ("replay", "resume"):
        if verb == "resume":
            cut(moved, 3)
        assert main([verb, str(moved)]) == 2
        (error,) = [line for line in capsys.readouterr().err.splitlines() if "has changed" not in line]
        assert "task = 'Mine': cannot load its data: exp.py, line " in error
        assert error.endswith(", in load: FileNotFoundError: numbers.txt not found.")


# B7, B8, B17: code that is found again ---------------------------------------------------------------------

WRAPPED = """
import functools
import raytune_hpo
from raytune_hpo import Experiment, Float

def report(config, scale=1.0):
    for _ in range(2):
        raytune_hpo.report({"loss": scale * config["x"]})

def unnamed(f):
    def inner(config):
        return f(config)
    return inner

class Callable:
    def __call__(self, config):
        report(config)
    def method(self, config):
        report(config)

def made(kind):
    from ray import tune
    scaled = lambda config: report(config, 2.0)
    kinds = {
        "partial": lambda: functools.partial(report, scale=3.0),
        "parameters": lambda: tune.with_parameters(report, scale=3.0),
        "wrapper": lambda: unnamed(report),
        "lambda": lambda: lambda config: report(config),
        "closure": lambda: scaled,
        "method": lambda: Callable().method,
        "object": lambda: Callable(),
    }
    return kinds[kind]()

experiment = Experiment(name="mine", task=made(KIND), space=SPACE)
"""


@pytest.mark.parametrize("kind", ["partial", "parameters", "wrapper", "lambda", "closure", "method", "object"])
def test_b7_b8_any_callable_is_made_again_by_its_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "wrapped.py"
    fields = SPACE + ', executor="inline"'
    file.write_text(WRAPPED.replace("KIND", repr(kind)).replace("SPACE", fields))
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(file), "--run-dir", "run", "--quiet"]) == 0
    cut(tmp_path / "run", 2)
    file.unlink()
    assert main(["resume", "run", "--quiet"]) == 0
    assert load_results("run").counts["completed"] == 4


def test_b7_what_wraps_a_function_travels_to_workers(ray_session: None, tmp_path: Path) -> None:
    file = tmp_path / "travels.py"
    file.write_text(WRAPPED.replace("KIND", "'wrapper'").replace("SPACE", SPACE + ', executor="processes"'))
    results = run(load_experiment(file).override({"num_samples": 1}), tmp_path / "run", source=file)
    assert results.counts["completed"] == 1


def test_b17_a_module_that_was_run_by_name_is_resumed(tmp_path: Path) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "scale.py").write_text("SCALE = 2.0\n")
    (package / "mod.py").write_text(f"""
import raytune_hpo
from raytune_hpo import Experiment, Float
from .scale import SCALE

def train(config):
    for _ in range(2):
        raytune_hpo.report({{"loss": SCALE * config["x"]}})

if __name__ == "__main__":
    raytune_hpo.run(Experiment(name="mine", task=train, space={SPACE}, executor="inline"), "run")
""")
    done = subprocess.run([sys.executable, "-m", "pkg.mod"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cut(tmp_path / "run", 2)
    (package / "scale.py").unlink()
    resumed = [sys.executable, "-m", "raytune_hpo.cli.main", "resume", str(tmp_path / "run"), "--quiet"]
    done = subprocess.run(resumed, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load_results(tmp_path / "run").counts["completed"] == 4


# B23: processes that a trial starts ------------------------------------------------------------------------

SPAWNS = f"""
import raytune_hpo
from raytune_hpo import Experiment, Float
from torch.utils.data import DataLoader, Dataset
from parts.score import score

class Numbers(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, i):
        return score(float(i))

def train(config):
    loader = DataLoader(Numbers(), batch_size=4, num_workers=1, multiprocessing_context="spawn")
    raytune_hpo.report({{"loss": float(next(iter(loader)).sum())}})

experiment = Experiment(name="mine", task=train, space={SPACE}, executor=EXECUTOR)
"""


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_b23_loaders_may_be_spawned(executor: str, project: Path, tmp_path: Path, ray_session: None) -> None:
    (project / "exp.py").write_text(SPAWNS.replace("EXECUTOR", repr(executor)))
    experiment = load_experiment(project / "exp.py").override({"num_samples": 1, "max_epochs": 1})
    (project / "parts" / "score.py").write_text("gone")  # what the processes import is what the run began with
    results = run(experiment, tmp_path / "run", source=project / "exp.py", quiet=True)
    assert results.best is not None, results.rows()
    assert results.best.metric == 10.0


# C4: whose code --------------------------------------------------------------------------------------------


def described(path: Path, **changes: object) -> None:
    file = path / "experiment.json"
    document = json.loads(file.read_text())
    document.update(changes)
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("reference", [
    {"import": "subprocess:Popen", "options": {"args": ["touch", "VICTIM"]}},
    {"import": "os:system"},
    {"import": "pathlib:Path", "options": {}},
    {"import": "raytune_hpo:load_experiment", "options": {"path": "VICTIM"}},
    {"import": "torch.nn:Linear", "options": {"in_features": 1, "out_features": 1}},
    {"import": "torch:__version__"},
    {"import": "no_such_module_here:x"},
    {"import": "antigravity"},
    {"file": "VICTIM.py", "name": "Mine"},
])  # fmt: skip
@pytest.mark.parametrize("verb", ["export", "ensemble", "replay", "resume"])
def test_c4_only_tasks_are_called(
    verb: str, reference: dict[str, object], copied: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = copied
    if verb == "resume":
        cut(path, 2)
    text = json.dumps(reference).replace("VICTIM", str(tmp_path / "victim"))
    experiment = json.loads((path / "experiment.json").read_text())["experiment"]
    described(path, experiment={**experiment, "task": json.loads(text)})
    more = ["-o", str(tmp_path / "out")] if verb == "export" else []
    (tmp_path / "victim.py").write_text(f"{READS}\nopen('{tmp_path}/victim', 'w')")
    capsys.readouterr()
    assert main([verb, str(path), *more]) == 2
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("raytune-hpo: task = ")]) == 1
    assert not (tmp_path / "victim").exists()


def test_c4_what_only_looks_imports_nothing(trained: tuple[Path, Path], capsys: Capture) -> None:
    project, path = trained
    (project / "exp.py").write_text("raise SystemExit('imported')\n")
    for copy in (path / "source").rglob("*.py"):
        copy.write_text("raise SystemExit('imported')\n")
    for command in (["trials", str(path)], ["best", str(path)], ["list", str(project)], ["importance", str(path)]):
        assert main(command) == 0
    assert main(["resume", str(path), "--quiet"]) == 0  # it has finished: there is nothing to run
    assert "imported" not in capsys.readouterr().err


def test_c4_a_strangers_code_is_announced(copied: Path, tmp_path: Path, capsys: Capture) -> None:
    path = copied
    described(path, made_by={"user": "eve\x1b[31m", "host": "there"})
    capsys.readouterr()
    assert main(["export", str(path), "-o", str(tmp_path / "out")]) == 0
    assert "this run was made by eve" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [
    {"root": "relative"}, {"files": [{"module": "m", "path": "../../m.py", "package": False, "digest": "0"}]},
    {"files": [{"module": "json", "path": "json.py", "package": False, "digest": "0"}]}, {"files": None},
    {"paths": ["/etc"]}, {"files": [{"module": "m", "path": "/etc/m.py", "package": False, "digest": "0"}]},
    {"entry": 3}, {"version": None}, {"more": 1},
])  # fmt: skip
def test_near_c4_a_hostile_list_of_files_is_one_line(
    damage: dict[str, object], copied: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = copied
    manifest = path / "source" / ".manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **damage}))
    capsys.readouterr()
    assert main(["export", str(path), "-o", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ".manifest.json': is damaged" in line


def test_near_c4_a_copy_that_is_a_link_is_not_read(copied: Path, tmp_path: Path, capsys: Capture) -> None:
    path = copied
    (tmp_path / "outside.py").write_text((path / "source" / "exp.py").read_text())
    (path / "source" / "exp.py").unlink()
    (path / "source" / "exp.py").symlink_to(tmp_path / "outside.py")
    assert main(["export", str(path), "-o", str(tmp_path / "out")]) == 2
    assert "exp.py is a link" in capsys.readouterr().err


# One process, several projects ----------------------------------------------------------------------------


def of_project(folder: Path, base: float) -> Path:
    (folder / "parts").mkdir(parents=True)
    (folder / "exp.py").write_text(EXPERIMENT)
    (folder / "mytrain.py").write_text(TRAIN)
    (folder / "parts" / "score.py").write_text(f"def score(x): return {base} + x\n")
    return folder


def test_near_b4_a_resume_takes_no_other_projects_module(tmp_path: Path) -> None:
    """The module of that name that the process has imported is another project's."""
    one, other = of_project(tmp_path / "one", 1.0), of_project(tmp_path / "other", 50.0)
    path = begun(one, tmp_path / "run")
    load_experiment(other / "exp.py")
    assert sys.modules["parts.score"].score(0) == 50.0
    assert resume(path, quiet=True).status == "finished"
    assert losses(path) == [0.0] * 4
    assert sys.modules["parts.score"].score(0) == 50.0


def test_near_b4_a_gone_projects_run_leaves_the_next_alone(tmp_path: Path) -> None:
    one, other = of_project(tmp_path / "one", 1.0), of_project(tmp_path / "other", 50.0)
    path = begun(one, tmp_path / "run")
    shutil.rmtree(one)
    assert load_experiment(path).name == "mine"  # by the run's copy
    results = run(load_experiment(other / "exp.py"), tmp_path / "again", source=other / "exp.py", quiet=True)
    assert results.best is not None
    assert results.best.metric >= 50.0
    assert (tmp_path / "again" / "source" / "parts" / "score.py").is_file()


def test_near_b4_a_run_again_of_a_gone_project_has_its_code(tmp_path: Path) -> None:
    project = of_project(tmp_path / "one", 1.0)
    path = begun(project, tmp_path / "run")
    shutil.rmtree(project)
    code = [sys.executable, "-m", "raytune_hpo.cli.main"]
    again = tmp_path / "again"
    done = subprocess.run(
        [*code, "run", str(path), "--run-dir", str(again), "--quiet"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {f.name for f in (again / "source").rglob("*.py")} >= {"exp.py", "mytrain.py", "score.py"}
    cut(again, 2)
    done = subprocess.run(
        [*code, "resume", str(again), "--quiet"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert losses(again) == [0.0] * 4


def test_near_b4_an_outer_project_takes_its_own_neighbour(tmp_path: Path) -> None:
    outer, inner = of_project(tmp_path / "outer", 1.0), of_project(tmp_path / "outer" / "sub", 50.0)
    load_experiment(inner / "exp.py")
    assert load_experiment(outer / "exp.py").task.__globals__["score"](0) == 1.0  # type: ignore[union-attr]


def test_near_b4_what_was_imported_late_is_todays_afterwards(project: Path, tmp_path: Path) -> None:
    late = TRAIN.replace("from parts.score import score\n", "").replace(
        "    for", "    from late import score\n    for"
    )
    (project / "mytrain.py").write_text(late)
    (project / "late.py").write_text("from parts.score import score\n")
    path = begun(project, tmp_path / "run")
    for folder in (path / "source", project):
        (folder / "late.py").unlink(missing_ok=True)
    manifest = json.loads((path / "source" / ".manifest.json").read_text())
    manifest["files"] = [f for f in manifest["files"] if f["module"] != "late"]
    (path / "source" / ".manifest.json").write_text(json.dumps(manifest))
    (project / "late.py").write_text("from parts.score import score\n")
    (project / "parts" / "score.py").write_text("def score(x): return 7.0\n")
    assert resume(path, quiet=True).status == "finished"
    assert "late" not in sys.modules


def test_near_b4_a_project_behind_a_link_is_kept(tmp_path: Path) -> None:
    real = of_project(tmp_path / "real", 1.0)
    (tmp_path / "link").symlink_to(real)
    path = begun(tmp_path / "link", tmp_path / "run")
    assert (path / "source" / "parts" / "score.py").is_file()


def test_near_b4_more_modules_are_no_other_version(project: Path, tmp_path: Path) -> None:
    """Resumed with the function itself, in the process that has imported more of its project by now."""
    path = begun(project, tmp_path / "run")
    task = load_experiment(project / "exp.py").resolved.task
    (project / "more.py").write_text("x = 1\n")
    __import__("more")
    results = resume(path, task=task, quiet=True)
    assert len(results.ledger.codes) == 1, results.ledger.codes
    sys.modules.pop("more", None)


def test_near_c1_a_copy_is_not_written_through_a_link(project: Path, tmp_path: Path) -> None:
    path = begun(project, tmp_path / "run")
    (tmp_path / "victim").mkdir()
    shutil.rmtree(path / "source" / "parts")
    (path / "source" / "parts").symlink_to(tmp_path / "victim")
    assert main(["resume", str(path), "--quiet"]) == 2
    assert list((tmp_path / "victim").iterdir()) == []
