"""The house stands as docs/design.md says: who may import whom, read from the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "raytune_hpo"

#: The rooms, from the ground up: each may import those before it, and none after it.
ROOMS = (
    *("printable", "errors", "atomic", "owned", "seeding", "states", "objective", "checks", "options", "settings"),
    *("headway", "one_thread", "space", "journal", "storage", "listeners"),
    *("training", "tasks", "search", "schedulers"),
    *(
        "experiment",
        "figures",
        "results",
        "evidence",
        "exports",
        "probes",
        "workers",
        "engine",
        "asking",
        "integrations",
    ),
    *("ensembles", "verdicts", "display", "pages", "cli", "testing"),
)

#: Where ray may be imported, and where what it keeps to itself may be named.
RAY = (
    "workers/class_trainable.py",
    "workers/fold_process.py",
    "workers/nested_tasks.py",
    "workers/rank_process.py",
    "workers/ranks.py",
    "workers/ray_runtime.py",
    "workers/ray_transport.py",
    "workers/reporting.py",
    "workers/tune_session.py",
    "schedulers/corrected.py",
    "schedulers/ray_alone.py",
    "search/ray_searcher.py",
    "integrations/ray_tune/",
    "testing/",
)
RAY_INTERNALS = ("workers/tune_session.py", "workers/ray_runtime.py", "schedulers/ray_alone.py")
#: A module that a string names: `ray_alone` executes Ray's files, and answers their imports, by such names.
NAMED = re.compile(r"ray(\.\w+)+")

MODULES = sorted(PACKAGE.rglob("*.py"))
#: The package's public names come from everywhere.
DOORS = {"__init__", "__main__"}


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named(file: Path) -> Iterator[str]:
    """Every module of Ray's that a string of a file names."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMED.fullmatch(node.value):
            yield node.value


def room(file: Path) -> str:
    relative = file.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def runs_back(here: str, name: str) -> bool:
    """Whether an import in the room `here` leads to a room above it."""
    parts = name.split(".")
    if parts[0] != "raytune_hpo" or len(parts) < 2 or parts[1] not in ROOMS:
        return False
    return ROOMS.index(parts[1]) > ROOMS.index(here)


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    here = room(file)
    if here not in DOORS:
        assert [name for name in imports(file) if runs_back(here, name)] == []


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_ray_and_torch_stay_in_their_rooms(file: Path) -> None:
    relative = str(file.relative_to(PACKAGE))
    for name in (*imports(file), *named(file)):
        if name.split(".")[0] == "ray":
            assert relative.startswith(RAY), f"{relative} imports {name}"
            if "_private" in name or "_internal" in name:
                assert relative in RAY_INTERNALS, f"{relative} imports {name}"
        if name.split(".")[0] in ("torch", "torchvision"):
            assert room(file) not in ("search", "schedulers", "journal", "experiment"), f"{relative} imports {name}"


@pytest.mark.parametrize("file", [f for f in MODULES if f.name != "__init__.py"], ids=lambda f: f.name)
def test_nobody_asks_a_scheduler_or_searcher_for_its_name(file: Path) -> None:
    """What it is, it says itself: a comparison with a name, or with a list of names, is a door that was shut."""
    names = {"panda", "pbt", "pb2", "hyperband", "asha", "median", "hyperopt", "bayesopt", "bohb", "coarse_to_fine"}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Compare):
            texts = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            assert not texts & names, f"{file.relative_to(PACKAGE)}:{node.lineno}"


def test_every_room_is_known() -> None:
    assert {room(file) for file in MODULES} - DOORS == set(ROOMS)


def test_a_wrong_import_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    source = "def f():\n    from raytune_hpo.engine import run\n    import ray.tune as t\n    g('ray.tune._x')\n"
    file.write_text(source)
    found = set(imports(file))
    assert set(named(file)) == {"ray.tune._x"}
    assert {"raytune_hpo.engine", "raytune_hpo.engine.run", "ray.tune"} <= found
    assert runs_back("results", "raytune_hpo.engine.run")
    assert not runs_back("cli", "raytune_hpo.engine.run")


def test_no_room_hides_a_public_name() -> None:
    """`import raytune_hpo.x` makes x an attribute of the package: of that name nothing else may be public."""
    import raytune_hpo

    public = {name for name in raytune_hpo.__all__ if not isinstance(getattr(raytune_hpo, name), type(re))}
    assert public & {room(file) for file in MODULES} == set()
