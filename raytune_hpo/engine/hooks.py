"""Commands for the person who is asleep: run when a run has finished, or has ended otherwise by itself.

    {"run_dir": ..., "event": "finish" | "failure", "status": ..., "reason": ..., "best": {...}, "counts": {...}}

is on their standard input, as JSON. That one fails is said, and nothing more comes of it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.printable import printable
from raytune_hpo.results.results import Results, load_results
from raytune_hpo.states import RunStatus
from raytune_hpo.storage.run_directory import RunDirectory

TIMEOUT_S = 60.0


def tell(run_dir: Path, *, results: Results | None = None, error: BaseException | None = None) -> None:
    """Run the commands for how a session ended. error: that it ended with. Of one that a person ended, none."""
    failed = error is not None or (results is not None and results.close_reason is not None)
    if not failed and (results is None or results.status != RunStatus.FINISHED):
        return
    try:
        recorded = RunDirectory(run_dir).description()["experiment"]  # as it is now: it may have been amended
    except ExperimentError:  # whose loss is what the session has ended with
        return
    command = recorded.get("on_failure" if failed else "on_finish")
    if isinstance(command, str):
        _run(command, json.dumps(_document(run_dir, failed, results, error)), run_dir)


def _document(run_dir: Path, failed: bool, results: Results | None, error: BaseException | None) -> dict[str, Any]:
    if results is None:
        try:
            results = load_results(run_dir)
        except ExperimentError as unreadable:
            error = error or unreadable
    found: dict[str, Any] = {"run_dir": str(run_dir), "event": "failure" if failed else "finish"}
    reason = str(error) if error is not None else None
    if results is None:
        return {**found, "status": None, "reason": reason, "best": None, "counts": {}}
    best = results.best
    return {
        **found,
        "status": results.status,
        "reason": reason or results.close_reason or results.stop_reason,
        "metric": results.metric,
        "best": None if best is None else best.to_json(),
        "counts": results.counts,
        "seconds": round(results.seconds, 3),
    }


def _run(command: str, document: str, run_dir: Path) -> None:
    environment = {**os.environ, "RAYTUNE_HPO_RUN_DIR": str(run_dir)}
    try:
        done = subprocess.run(
            shlex.split(command),
            input=document,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        why = f"took more than {TIMEOUT_S:g} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
    else:
        if done.returncode == 0:
            return
        lines = (done.stderr or done.stdout).strip().splitlines()
        why = f"exit code {done.returncode}" + (f": {lines[-1]}" if lines else "")
    print(printable(f"raytune-hpo: {command!r} failed: {why}"), file=sys.stderr)
