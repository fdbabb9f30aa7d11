"""experiment.json: what a run is, read strictly, since it may be a stranger's.

Its fields have the types that tables and verbs rely on, whatever they say; whether they make an experiment that can run
is `Experiment.from_json`'s to find.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.codec import MalformedError, read_plain_data, shown
from raytune_hpo.owned import read_bytes

FORMAT = 2
READABLE = (1, 2)
DESCRIPTION = "experiment.json"


def described(path: Path) -> dict[str, Any]:
    """The content of a description. Raises ExperimentError if it is damaged or of another format."""
    try:
        data = json.loads(read_bytes(path), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ExperimentError("run directory", str(path), f"is damaged: {error}") from error
    except OSError as error:
        raise ExperimentError("run directory", str(path), f"cannot be read: {error.strerror or error}") from error
    found = data.get("format") if isinstance(data, dict) else None
    if type(found) is not int:
        raise ExperimentError("run directory", str(path), "is damaged: it says no format")
    if found not in READABLE:
        raise ExperimentError(str(path), shown(found), f"this version reads formats up to {FORMAT}")
    try:
        read_plain_data(data, DESCRIPTION)
        missing = [name for name in _NEEDED if _at(data, name) is None]
        if missing:
            raise ExperimentError("run directory", str(path), f"is damaged: fields are missing ({', '.join(missing)})")
        for name, (fits, words) in _FIELDS.items():
            value = _at(data, name)
            if value is not None and not fits(value):
                raise MalformedError(name, value, f"must be {words}")
    except MalformedError as error:
        raise ExperimentError("run directory", str(path), f"is damaged: {error}") from error
    return data  # type: ignore[no-any-return]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _at(data: Any, path: str) -> Any:
    """The value at a path, "experiment.space.parameters"; None where there is none."""
    for name in path.split("."):
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_seed(value: Any) -> bool:
    return type(value) is int


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) for v in value)


def _are_parameters(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(v, dict) and isinstance(v.get("kind"), str) for v in value.values()
    )


_TEXT, _OBJECT, _COUNT = (_is_text, "a text"), (_is_object, "an object"), (_is_count, "an integer of at least 1")
#: Of a run's description: path -> (what fits, in words what that is). One that may be null is missing where it is.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "run_id": (lambda v: isinstance(v, str) and v.isascii() and 0 < len(v) <= 64, "a text of 1 to 64 letters"),
    "created": _TEXT,
    "entry": _TEXT,
    "versions": (_are_texts, "an object of texts"),
    "git_commit": _TEXT,
    "cwd": _TEXT,
    "made_by": (_are_texts, "an object of texts"),
    "experiment": _OBJECT,
    "experiment.name": _TEXT,
    "experiment.task": _OBJECT,
    "experiment.space": _OBJECT,
    "experiment.space.parameters": (_are_parameters, "an object of parameters, each with its kind"),
    "experiment.space.constants": _OBJECT,
    "experiment.metric": _TEXT,
    "experiment.mode": (lambda v: v in ("min", "max"), "min or max"),
    "experiment.searcher": _OBJECT,
    "experiment.searcher.name": _TEXT,
    "experiment.searcher.class": _TEXT,
    "experiment.scheduler": _OBJECT,
    "experiment.scheduler.name": _TEXT,
    "experiment.scheduler.class": _TEXT,
    "experiment.num_samples": _COUNT,
    "experiment.max_epochs": _COUNT,
    "experiment.seed": (_is_seed, "an integer"),
    "experiment.executor": _TEXT,
    "experiment.resources": _OBJECT,
    "experiment.resources.cpus": (_is_number, "a number"),
    "experiment.resources.gpus": (_is_number, "a number"),
    "experiment.storage": _TEXT,
    "experiment.start_points": (_are_objects, "a list of configs"),
    "experiment.warm_start": (_is_list_of_texts, "a list of texts"),
    "experiment.listeners": (_is_list, "a list"),
}
_NEEDED = (
    *("run_id", "experiment.metric", "experiment.mode", "experiment.task", "experiment.seed"),
    *("experiment.space.parameters", "experiment.space.constants"),
    *("experiment.searcher.name", "experiment.scheduler.name", "experiment.name"),
    *("experiment.num_samples", "experiment.max_epochs", "experiment.resources.cpus", "experiment.resources.gpus"),
)
