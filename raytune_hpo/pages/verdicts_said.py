"""What was judged of a run since: confirm's, retest's and the ensembles' verdicts, and every opening of the test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raytune_hpo.checks import is_number
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.codec import MalformedError, read_plain_data
from raytune_hpo.owned import read_bytes
from raytune_hpo.results.sealed_test import openings
from raytune_hpo.verdicts.confirmation import CONFIRM_FILE
from raytune_hpo.verdicts.retesting import read_history

RETEST_FOLDER = "retest"


def verdicts(run_dir: Path) -> dict[str, Any]:
    """confirmed: None without a confirmation; retests and openings: in order. Each {"damaged": why} where its file
    cannot be read."""
    return {
        "confirmed": _whole(lambda: _confirmed(run_dir)),
        "retests": _whole(lambda: [_retest(line) for line in read_history(run_dir / RETEST_FOLDER)]),
        "openings": _whole(lambda: [asdict(opening) for opening in openings(run_dir)]),
    }


def _whole(part: Callable[[], Any]) -> Any:
    try:
        return part()
    except (ExperimentError, MalformedError, ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        text = str(error) if isinstance(error, ExperimentError) else f"a file of it is damaged: {error!r}"
        return {"damaged": text}


def _confirmed(run_dir: Path) -> dict[str, Any] | None:
    path = run_dir / CONFIRM_FILE
    if not os.path.lexists(path):
        return None
    told = read_plain_data(json.loads(read_bytes(path)), CONFIRM_FILE)
    return {
        **{key: _text(told[key]) for key in ("verdict", "reason", "metric", "searched_best")},
        "winner": None if told["winner"] is None else _text(told["winner"]),
        "tied": [_text(trial) for trial in told["tied"]],
        "seeds": int(told["seeds"]),
        "naive": None if told["naive"] is None else _number(told["naive"]),
        "optimism": _interval(told["optimism"]),
        "configs": [
            {
                "trial": _text(entry["trial"]),
                "config": read_plain_data(entry["config"], "config"),
                "searched": _number(entry["search"]["metric"]),
                "mean": _interval(entry["mean"]),
                "behind": _interval(entry["behind"]),
                "beaten": bool(entry["beaten"]),
                "failures": len(entry["failures"]),
            }
            for entry in told["configs"]
        ],
    }


def _retest(line: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: _text(line[key]) for key in ("date", "verdict", "reason")}
    changes = [_text(change) for change in line["changes"]]
    return {"number": int(line["number"]), **told, "level": _interval(line["level"]), "changes": changes}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _number(value: Any) -> float:
    if not is_number(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _interval(value: Any) -> dict[str, float] | None:
    return None if value is None else {key: _number(value[key]) for key in ("estimate", "low", "high")}
