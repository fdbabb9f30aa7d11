"""Shared by all tests: one local Ray for the session, started when a test first asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# One core a test: the machines that run these have two, and torch would take both.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray; `run` and `resume` join it when they find it started."""
    from raytune_hpo.execution.ray_runtime import ray_session as start

    with start(None, verbose=False):
        yield


@pytest.fixture(scope="session")
def experiments() -> Path:
    return REPOSITORY / "experiments"
