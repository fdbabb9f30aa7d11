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
    "journal": GROUND,
    "storage": GROUND | {"journal"},
    "training": GROUND | {"storage"},
    "tasks": GROUND | {"training"},
    "search": GROUND,
    "schedulers": GROUND | {"journal"},
    "listeners": GROUND | {"journal", "storage"},
    "experiment": GROUND | {"storage", "training", "tasks", "search", "schedulers"},
}
ALLOWED["results"] = ALLOWED["experiment"] | {"experiment", "journal"}
ALLOWED["execution"] = ALLOWED["results"] | {"results", "listeners"}
ALLOWED["report"] = ALLOWED["execution"] | {"execution"}
ALLOWED["cli"] = ALLOWED["report"] | {"report"}
ALLOWED["__main__"] = {"cli"}

#: Within two rooms, from the bottom up: each may import those before it.
STORIES = {
    "experiment": ("references", "chosen", "checking", "overrides", "resolved", "resolve", "written", "file"),
    "journal": ("codec", "events", "chain", "format1", "file"),
}
#: For its type alone: what resolves an experiment takes the record that is resolved when it is built.
BACK = {("experiment/resolve.py", "raytune_hpo.experiment.written")}

#: Where ray may be imported, and where its internals may be named.
RAY = ("execution", "schedulers/corrected.py", "search/ray_searcher.py")
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


def test_imports_within_a_room_point_one_way() -> None:
    found = set()
    for name, stories in STORIES.items():
        files = {file.stem: file for file in (PACKAGE / name).glob("*.py")}
        assert set(files) - {"__init__"} == set(stories)
        for number, story in enumerate(stories):
            for imported in imports(files[story]):
                parts = imported.split(".")
                if parts[:2] == ["raytune_hpo", name] and len(parts) == 3 and parts[2] in stories[number:]:
                    found.add((f"{name}/{story}.py", imported))
    assert found == BACK


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
