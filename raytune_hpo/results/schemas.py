"""JSON Schemas of the documents that commands print and take, and of what a run directory holds.

Fields are added and never renamed or removed within a major version, so that every schema allows more than it names.
The notation of `_document`: name -> type, "?" for what may be null, a name with "*" for a field that may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.schema import journal_schema
from raytune_hpo.states import RunStatus, Status

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
Fields = Mapping[str, Any]

_TYPES = {"text": "string", "number": "number", "integer": "integer", "boolean": "boolean", "object": "object"}
_RUN_STATUS = {"enum": [*(status.value for status in RunStatus), "killed", "damaged"]}
_STATUS = {"enum": [status.value for status in Status]}
_NUMBERS = {"type": "object", "additionalProperties": {"type": ["number", "string", "boolean", "null"]}}
_INTERVAL = {"estimate": "number?", "low": "number?", "high": "number?"}

_BEST = {
    "trial_id": "text",
    "config": "object",
    "metric": "number?",
    "epoch": "integer",
    "validation": _NUMBERS,
    "test": "object?",
    "checkpoint": "text?",
    "checkpoint_epoch": "integer?",
    "replicates": "object?",
}
_TRIAL = {
    "trial_id": "text",
    "config": "object",
    "status": _STATUS,
    "reason": "text?",
    "epochs": "integer",
    "best": "number?",
    "best_epoch": "integer?",
    "last": "number?",
    "seconds": "number",
    "failures": "integer",
    "error": "text?",
    "error_file": "text?",
    "generation": "integer",
    "code": ["integer"],
}
_OF_RUN = {
    "run_dir": "text",
    "status": _RUN_STATUS,
    "stop_reason": "text?",
    "close_reason": "text?",
    "metric": "text",
    "mode": {"enum": ["min", "max"]},
    "seconds": "number",
    "counts": "object",
    "best": (_BEST, None),
}
_LISTED = {
    "run_dir": "text",
    "status": _RUN_STATUS,
    "created*": "text?",
    "trials*": "integer?",
    "metric*": "text?",
    "best*": "number?",
    "last*": "number?",
    "reason*": "text?",
}
_ASKED = {"trial": "text", "config": "object", "epoch": "integer", "checkpoint": "text?", "seed": "integer"}
_REPEATED = {
    "trial": "text",
    "config": "object",
    "search": "object",
    "mean": (_INTERVAL, None),
    "behind": (_INTERVAL, None),
    "repetitions": ["object"],
    "failures": ["object"],
}

#: name -> (what it is, its fields).
DOCUMENTS: dict[str, tuple[str, Fields]] = {
    "run": ("run, panda, resume and retry --json", _OF_RUN),
    "list": ("list --json", {"storage": "text", "runs": [_LISTED]}),
    "trials": (
        "trials --json",
        {"run_dir": "text", "status": _RUN_STATUS, "trials": [_TRIAL], "rounds*": ["object"]},
    ),
    "best": (
        "best --json",
        {"run_dir": "text", "status": _RUN_STATUS, "metric": "text", "best": (_BEST, None), "advice": "any"},
    ),
    "report": ("report --json", {"runs": [{"format": "integer", "run": "object", "trials": "any", "space": "any"}]}),
    "validate": (
        "validate --json",
        {"valid": {"const": True}, "experiment": "object", "first_configs": ["object"], "remarks": ["text"]},
    ),
    "confirm": (
        "confirm --json; of one that was interrupted run_dir and status alone",
        {
            "run_dir": "text",
            "status": "text",
            "folder*": "text",
            "metric*": "text",
            "mode*": "text",
            "k*": "integer",
            "seeds*": "integer",
            "verdict*": {"enum": ["winner", "tie", "none"]},
            "reason*": "text",
            "winner*": "text?",
            "tied*": ["text"],
            "configs*": [_REPEATED],
            "naive*": "number?",
            "above_naive*": (_INTERVAL, None),
            "searched_best*": "text?",
            "optimism*": (_INTERVAL, None),
            "test*": "object?",
            "sealed*": "text?",
            "notices*": ["text"],
        },
    ),
    "retest": (
        "retest --json; of one that was interrupted run_dir and status alone",
        {
            "run_dir": "text",
            "status": "text",
            "number*": "integer",
            "date*": "text",
            "metric*": "text",
            "seeds*": "integer",
            "verdict*": {"enum": ["still best", "drifted", "stale", "none"]},
            "reason*": "text",
            "notices*": ["text"],
            "level*": "object?",
            "configs*": ["object"],
            "changes*": ["text"],
            "history*": ["object"],
        },
    ),
    "importance": (
        "importance --json",
        {
            "run_dir": "text",
            "metric": "text",
            "trials": "integer",
            "diverged_or_failed": "integer",
            "can_tell": "boolean",
            "verdict": "text",
            "r2_out_of_bag": "number?",
            "r2_needed": "number?",
            "parameters": [{"name": "text", "share": "number", "deviation": "number?", "handbook": "integer?"}],
            "pairs*": ["object"],
            "rest": "number?",
        },
    ),
    "ensemble": (
        "ensemble --json",
        {
            "run_dir": "text",
            "method": "text",
            "metric": "text",
            "notices": ["text"],
            "looked_at": "integer",
            "members": ["object"],
            "validation": _NUMBERS,
            "single": "object",
            "test": "object?",
        },
    ),
    "lr-range": (
        "lr-range --json",
        {
            "experiment": "text",
            "config": "object",
            "low": "number",
            "high": "number",
            "point": "number?",
            "falls": "boolean",
            "exploded_at": "number?",
            "lrs": ["number"],
            "losses": ["number?"],
            "smoothed": ["number?"],
        },
    ),
    "max-batch": (
        "max-batch --json",
        {
            "batch_size": "integer",
            "bound": {"enum": ["memory", "data", "limit"]},
            "device": "text",
            "free_bytes": "integer?",
            "config": "object",
            "parameters": "integer",
            "tried": [{"batch_size": "integer", "bytes": "integer?"}],
        },
    ),
    "ask": ("what ask prints", _ASKED),
    "tell": ("what tell prints", {"decision": {"enum": ["continue", "stop"]}}),
    "notice": (
        "what on_finish and on_failure are given on their standard input",
        {
            "run_dir": "text",
            "event": {"enum": ["finish", "failure"]},
            "status*": "text?",
            "reason*": "text?",
            "metric*": "text?",
            "best*": "any",
            "counts*": "object?",
            "seconds*": "number?",
        },
    ),
}
NAMES = (*DOCUMENTS, "journal")


def schema(name: str) -> Schema:
    """The JSON Schema of a document. Raises ExperimentError for a name that is none of NAMES."""
    if name == "journal":
        return {"$schema": DIALECT, "title": name, **journal_schema()}
    if name not in DOCUMENTS:
        raise ExperimentError("schema", name, f"must be one of {', '.join(NAMES)}")
    what, fields = DOCUMENTS[name]
    return {"$schema": DIALECT, "title": name, "description": what, **_document(fields)}


def _document(fields: Fields) -> Schema:
    properties = {name.removesuffix("*"): _type(kind) for name, kind in fields.items()}
    return {"type": "object", "properties": properties, "required": [n for n in fields if not n.endswith("*")]}


def _type(kind: Any) -> Schema:
    if isinstance(kind, tuple):  # (a document, None): or null
        return {"anyOf": [_document(kind[0]), {"type": "null"}]}
    if isinstance(kind, list):
        return {"type": "array", "items": _type(kind[0])}
    if isinstance(kind, Mapping):
        is_schema = {"type", "enum", "const", "anyOf"} & kind.keys() and not isinstance(kind.get("type"), Mapping)
        return dict(kind) if is_schema else _document(kind)
    if kind == "any":
        return {}
    found: Any = _TYPES[kind.removesuffix("?")]
    return {"type": [found, "null"] if kind.endswith("?") else found}
