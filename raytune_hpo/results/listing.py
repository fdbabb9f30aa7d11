"""The runs of a storage folder, one line each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.results.results import load_results
from raytune_hpo.storage.run_directory import DESCRIPTION, RunDirectory


class Listing:
    """The runs of a folder. A journal that has not grown since is not read again."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self._known: dict[Path, tuple[tuple[int, int] | None, dict[str, Any]]] = {}

    def runs(self) -> list[dict[str, Any]]:
        """Of each run, by name: run_dir, status, created, trials, metric, best, last (the time of its last event, in
        seconds since 1970, None without one). One that is damaged hides no other: it has a reason."""
        found = sorted(path.parent for path in self.storage.glob(f"*/{DESCRIPTION}"))
        return [self._one(path) for path in found]

    def _one(self, path: Path) -> dict[str, Any]:
        directory = RunDirectory(path)
        state = _state(directory.journal_path)
        before = self._known.get(path)
        if before is None or before[0] != state:
            before = self._known[path] = (state, _read(directory))
        told = before[1]
        if told["status"] == "running" and not directory.in_use():
            return {**told, "status": "killed"}
        return told


def _read(directory: RunDirectory) -> dict[str, Any]:
    path = directory.path
    try:
        results = load_results(path)
        created = str(directory.description().get("created", ""))
    except ExperimentError as error:
        return {"run_dir": str(path), "status": "damaged", "reason": str(error)}
    best = results.ledger.winner()
    return {
        "run_dir": str(path),
        "status": results.status,
        "created": created,
        "trials": len(results.ledger.trials),
        "metric": results.metric,
        "best": None if best is None else best.best,
        "last": results.steps[-1].at if results.steps else None,
    }


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
