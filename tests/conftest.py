"""Shared by all tests: one local Ray for the session, started when a test first asks for it."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# One core a test: the machines that run these have two, and torch would take both.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test, nor a process that it starts, reads or writes the user's cache. Here, as some modules load data at their top.
CACHE = tempfile.mkdtemp(prefix="raytune_hpo_cache_")
os.environ["RAYTUNE_HPO_CACHE"] = CACHE
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)


# Minutes each: begun first, so that the other process of `make test` has the rest to do meanwhile.
SLOW = (
    "test_crash.py",
    "test_crash_panda.py",
    "test_confirm.py",
    "test_cluster.py",
    "test_interrupt.py",
    "test_experiments.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))


@pytest.fixture(scope="session", autouse=True)
def documents_fit_their_schemas() -> Iterator[None]:
    """Whatever a command prints as JSON in any test is what `raytune-hpo schema` says of it."""
    from raytune_hpo.cli import arguments

    plain = arguments.print_json

    def checked(document: Any) -> None:
        from jsonschema import Draft202012Validator

        from raytune_hpo.results.schemas import NAMES, schema

        verb = sys._getframe(1).f_globals["__name__"].rpartition(".")[2].replace("_", "-")
        if verb in NAMES:
            Draft202012Validator(schema(verb)).validate(json.loads(json.dumps(document)))
        plain(document)

    arguments.print_json = checked
    yield
    arguments.print_json = plain


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray; `run` and `resume` join it when they find it started."""
    from raytune_hpo.workers.ray_runtime import ray_session as start

    with start(None, verbose=False):
        yield


@pytest.fixture(scope="session")
def experiments() -> Path:
    return REPOSITORY / "experiments"
