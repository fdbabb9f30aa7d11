"""Shared by all tests: one local Ray for the session, started when a test first asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# One core a test: the machines that run these have two, and torch would take both.
os.environ.setdefault("OMP_NUM_THREADS", "1")


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
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test, nor a process that it starts, reads or writes the user's cache."""
    os.environ["RAYTUNE_HPO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray; `run` and `resume` join it when they find it started."""
    from raytune_hpo.workers.ray_runtime import ray_session as start

    with start(None, verbose=False):
        yield


@pytest.fixture(scope="session")
def experiments() -> Path:
    return REPOSITORY / "experiments"
