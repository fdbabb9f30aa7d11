"""Ray's schedulers, loaded without Ray Tune: the same decisions, no import, no trace, and the ordinary ones where Ray
has changed. When this fails after an upgrade of Ray, runs are right and start slower; see schedulers/ray_alone.py."""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import pickle
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import ray.tune.schedulers
from ray.air.constants import TRAINING_ITERATION
from ray.tune.experiment import Trial
from ray.tune.result import DEFAULT_METRIC

from raytune_hpo import schedulers
from raytune_hpo.schedulers import ray_alone
from raytune_hpo.testing.schedulers import random_simulation
from raytune_hpo.testing.simulation import POPULATION_BASED

FILES = ("trial_scheduler", "async_hyperband", "hyperband", "median_stopping_rule", "pbt")
MOVED = f"ray {ray.__version__} has changed what its schedulers ask for; see schedulers/ray_alone.py"
CASES = {
    "asha": "asha",
    "asha-3": {"name": "asha", "brackets": 3},
    "hyperband": "hyperband",
    "median": "median",
    "pbt": {"name": "pbt", "interval": 2},
    "pb2": {"name": "pb2", "interval": 2},
}
TRACES = 30


def in_a_fresh_process(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


# Nothing is imported, nothing is left behind -----------------------------------------------------------

BUILT = """
import logging, sys
from raytune_hpo import Experiment, Float
from raytune_hpo.schedulers import corrected, ray_alone

def trainable(config): ...

def built(**scheduler):
    fields = {"space": {"x": Float(0.0, 1.0)}, "metric": "v", "mode": "max", "max_epochs": 9}
    return Experiment(name="x", task=trainable, scheduler=scheduler, **fields).resolved.new_scheduler()

def packages():
    return {m.partition(".")[0] for m in sys.modules} & {"ray", "pandas", "pyarrow"}
"""


def test_all_are_built_without_an_import_of_ray():
    in_a_fresh_process(
        BUILT
        + """
for name in ("asha", "hyperband", "median"):
    built(name=name)
for name in ("pbt", "pb2"):
    built(name=name, mutate=["x"])
assert not packages(), packages()
"""
    )


def test_ray_tune_may_be_imported_afterwards_and_knows_nothing_of_it():
    in_a_fresh_process(
        BUILT
        + """
ours = built(name="asha")
assert not packages()
before = set(sys.modules)
ray_alone.alone(ray_alone.installed())
assert not any(name.startswith("ray.") for name in set(sys.modules) - before)

from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.schedulers import trial_scheduler

real = ASHAScheduler(max_t=9)
assert isinstance(real, TrialScheduler) and not isinstance(ours.ray, TrialScheduler)
assert trial_scheduler.Trial is tune.experiment.Trial
assert "__import__" not in vars(trial_scheduler) and trial_scheduler.__builtins__["__import__"] is __import__
fields = {"space": {"x": Float(0.0, 1.0)}, "metric": "v", "mode": "max", "max_epochs": 9}
theirs = Experiment(name="x", task=trainable, scheduler=real, **fields).resolved.new_scheduler()
assert type(theirs.ray) is ASHAScheduler and theirs.ray._time_attr == "epoch"
assert issubclass(ray_alone.classes().asha, TrialScheduler)  # no reason any more to do without
from ray.tune import Tuner
Tuner(lambda config: None, tune_config=tune.TuneConfig(metric="v", mode="max", scheduler=real))
"""
    )


def test_where_ray_tune_is_imported_its_own_classes_are_used():
    found = ray_alone.classes()
    assert found == ray_alone.ordinary()
    assert found.pbt is ray.tune.schedulers.PopulationBasedTraining


# The same decisions ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def over(found: ray_alone.SchedulerClasses) -> Iterator[None]:
    """Our schedulers made anew over these classes, for as long as the context lasts."""
    names = [f"{schedulers.__name__}.{name}" for name in ("corrected", "pb2")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_alone, "classes", lambda: found)
        for name in names:
            importlib.import_module(name)  # so that there is one to come back to
            patch.delitem(sys.modules, name)
            patch.setattr(schedulers, name.rpartition(".")[2], None)
        for name in names:
            importlib.import_module(name)
        yield


def journals(case: str, found: ray_alone.SchedulerClasses) -> list[list[bytes]]:
    """Of whole runs with crashes, failures and interrupts: every decision is in them."""
    runs = TRACES if case != "pb2" else TRACES // 4  # each of its exploits fits a Gaussian process
    lengths = (2, 7, 10, 27) if case in POPULATION_BASED else (1, 2, 7, 10, 27)
    with over(found):
        sims = [random_simulation(CASES[case], seed, lengths).run() for seed in range(runs)]
    used = type(sims[0].population.host.scheduler.ray)
    assert set(used.__mro__) & {found.asha, found.hyperband, found.median, found.pbt}
    return [sim.lines for sim in sims]


@pytest.mark.parametrize("case", CASES)
def test_decisions_are_the_same(case):
    found = journals(case, ray_alone.alone(ray_alone.installed()))
    assert found == journals(case, ray_alone.ordinary())
    answers = {word for lines in found for line in lines for word in re.findall(rb'"decision":"(\w+)"', line)}
    assert len(answers) > 1


# What stands for Ray's ------------------------------------------------------------------------------------


def test_what_is_given_is_what_ray_has():
    assert ray_alone.GIVEN["ray.tune.result"]["DEFAULT_METRIC"] == DEFAULT_METRIC
    assert ray_alone.GIVEN["ray.air.constants"]["TRAINING_ITERATION"] == TRAINING_ITERATION
    states = {name: value for name, value in vars(ray_alone.Trial).items() if name.isupper()}
    assert states == {name: getattr(Trial, name) for name in states}
    for module, names in ray_alone.GIVEN.items():
        for name, stand_in in names.items():
            real = getattr(importlib.import_module(module), name)
            assert isinstance(stand_in, str) or callable(real), f"{module}.{name}"


class Asked(ast.NodeVisitor):
    """What a source imports, in functions too, and not where only a type checker looks; the attributes of Trial."""

    def __init__(self, source: str) -> None:
        self.given: dict[str, set[str]] = defaultdict(set)
        self.real: set[str] = set()
        self.states: set[str] = set()
        self.visit(ast.parse(source))

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            package = alias.name.partition(".")[0]
            (self.given[alias.name] if package == "ray" else self.real).add(package)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert not node.level
        package = node.module.partition(".")[0]
        if package == "ray":
            self.given[node.module] |= {alias.name for alias in node.names}
        else:
            self.real.add(package)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == "Trial":
            self.states.add(node.attr)
        self.generic_visit(node)


def test_rays_schedulers_import_what_is_given_and_nothing_else():
    given, states = defaultdict(set), set()
    for name in FILES:
        asked = Asked((ray_alone.installed() / f"{name}.py").read_text())
        assert asked.real <= ray_alone.REAL, MOVED
        states |= asked.states
        for module, names in asked.given.items():
            given[module] |= names
    assert given.pop(f"{ray_alone.PACKAGE}.trial_scheduler") == {"FIFOScheduler", "TrialScheduler"}, MOVED
    assert given == {module: set(names) for module, names in ray_alone.GIVEN.items()}, MOVED
    assert states == {name for name in vars(ray_alone.Trial) if name.isupper()}, MOVED


def test_what_is_absent_cannot_be_used_unnoticed():
    domain = ray_alone.GIVEN["ray.tune.search.sample"]["Domain"]
    for use in (domain, lambda: isinstance(1, domain), lambda: issubclass(int, domain), ray_alone.Trial):
        with pytest.raises(NotImplementedError, match="is not there where Ray's schedulers are loaded alone"):
            use()
    for thing in (domain, ray_alone.Trial):
        with pytest.raises(AttributeError):
            _ = thing.SAVING


def test_a_copy_is_one_and_a_pickle_is_refused():
    asha = ray_alone.alone(ray_alone.installed()).asha(max_t=9)
    assert type(copy.deepcopy(asha)) is type(asha)
    with pytest.raises(pickle.PicklingError, match="not the same object"):
        pickle.dumps(asha)


# A Ray that has changed -----------------------------------------------------------------------------------

#: What is written into which file, and what becomes of it.
CHANGES = {
    "a module": ("hyperband", "from ray.tune.logger import Logger", ImportError),
    "a module, whole": ("hyperband", "import ray", ImportError),
    "a name": ("median_stopping_rule", "from ray.tune.result import DONE", ImportError),
    "all names": ("pbt", "from ray.tune.result import *", ImportError),
    "a relative import": ("pbt", "from .trial_scheduler import TrialScheduler", ImportError),
    "another package": ("pbt", "import pandas", ImportError),
    "a module in a function": ("async_hyperband", "def f():\n    from ray.tune.logger import Logger", NameError),
    "ray in a function": ("async_hyperband", "def f():\n    import ray", NameError),
    "a state of trials": (
        "pbt",
        "class A:\n    def f(self, trial):\n        return trial.status == Trial.SAVING",
        NameError,
    ),
    "a class of absent ones": ("pbt", "assert not isinstance(1, Domain)", NotImplementedError),
    "a syntax of the future": ("trial_scheduler", "match = = 1", SyntaxError),
    "an error": ("trial_scheduler", "raise RuntimeError", RuntimeError),
    "a class gone": ("hyperband", "del HyperBandScheduler", AttributeError),
    "a file gone": ("median_stopping_rule", None, FileNotFoundError),
}


def changed(folder: Path, file: str, text: str | None) -> Path:
    shutil.copytree(ray_alone.installed(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / f"{file}.py"
    if text is None:
        path.unlink()
    else:
        path.write_text(f"{path.read_text()}\n\n{text}\n")
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_when_they_are_loaded(change, tmp_path):
    file, text, error = CHANGES[change]
    folder = changed(tmp_path / "schedulers", file, text)
    with pytest.raises(error):
        ray_alone.alone(folder)


def test_an_unchanged_copy_loads(tmp_path):
    assert ray_alone.alone(changed(tmp_path / "schedulers", "pbt", "")).pbt.__name__ == "PopulationBasedTraining"


def test_a_changed_ray_leads_to_the_ordinary_classes(tmp_path):
    folder = changed(tmp_path / "schedulers", "hyperband", "from ray.tune.logger import Logger")
    in_a_fresh_process(
        BUILT.replace("import corrected, ray_alone", "import ray_alone")
        + f"""
from pathlib import Path
ray_alone.installed = lambda: Path({str(folder)!r})
ours = built(name="asha")
from ray.tune import schedulers
assert isinstance(ours.ray, schedulers.AsyncHyperBandScheduler)
assert ray_alone.classes().hyperband is schedulers.HyperBandScheduler
"""
    )
