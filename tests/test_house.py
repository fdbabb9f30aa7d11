"""The house stands as docs/design.md says: who may import whom, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "raytune_hpo"

#: What each room may import of the package, besides itself.
GROUND = {"atomic", "errors", "checks", "seeding", "conditions", "parameters", "configs", "space", "settings"}
GROUND |= {"objective", "states", "options"}
ALLOWED = {
    "objective": set(),
    "states": set(),
    "options": {"errors", "checks"},
    "errors": set(),
    "atomic": set(),
    "seeding": set(),
    "checks": {"errors"},
    "conditions": {"errors", "checks"},
    "parameters": {"errors", "checks", "conditions"},
    "configs": set(),
    "space": {"errors", "checks", "conditions", "parameters", "configs"},
    "settings": {"errors", "checks"},
    "storage": GROUND,
    "training": GROUND | {"storage"},
    "tasks": GROUND | {"training"},
    "search": GROUND,
    "overrides": GROUND | {"training", "tasks"},
    "reference": GROUND | {"training", "tasks"},
    "schedulers": GROUND | {"storage", "training", "experiment"},
    "experiment_checks": GROUND | {"training", "tasks", "search", "reference"},
}
ALLOWED["experiment"] = ALLOWED["experiment_checks"] | {"experiment_checks", "storage", "schedulers", "overrides"}
ALLOWED["experiment_file"] = ALLOWED["experiment"] | {"experiment"}
ALLOWED["results"] = ALLOWED["experiment_file"]
ALLOWED["execution"] = ALLOWED["results"] | {"results", "experiment_file"}
ALLOWED["report"] = ALLOWED["execution"] | {"execution"}
ALLOWED["cli"] = ALLOWED["report"] | {"report"}

#: Where ray may be imported, and where its internals may be named.
RAY = (
    "execution",
    "schedulers/ray_host.py",
    "schedulers/corrected.py",
    "schedulers/build.py",
    "search/ray_searcher.py",
)
RAY_INTERNALS = ("execution/function_session.py", "execution/ray_runtime.py")

MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(file: Path) -> str:
    relative = file.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    here = room(file)
    if here == "__init__":
        return  # the package's public names come from everywhere
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "raytune_hpo" and len(parts) > 1 and parts[1] in ALLOWED:
            assert parts[1] == here or parts[1] in ALLOWED[here], f"{here} may not import {name}"


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_ray_and_torch_stay_in_their_rooms(file: Path) -> None:
    relative = str(file.relative_to(PACKAGE))
    for name in imports(file):
        if name.split(".")[0] == "ray":
            assert relative.startswith(RAY), f"{relative} imports {name}"
            if "_private" in name or "_internal" in name:
                assert relative in RAY_INTERNALS, f"{relative} imports {name}"
        if name.split(".")[0] in ("torch", "torchvision"):
            assert room(file) != "search", f"{relative} imports {name}"


def test_every_room_is_known() -> None:
    assert {room(file) for file in MODULES} - {"__init__"} == set(ALLOWED)


def test_a_wrong_import_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from raytune_hpo.execution import run\n    import ray.tune as t\n")
    found = set(imports(file))
    assert {"raytune_hpo.execution", "raytune_hpo.execution.run", "ray.tune"} <= found
