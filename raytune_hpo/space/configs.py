"""Configs: what a trial is trained with, a plain nested dictionary; "a.b" is the path of a value in one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError

Config = dict[str, Any]


def copied(value: Any) -> Any:
    """A copy of JSON data that shares nothing with it which could be changed."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def plain(where: str, value: Any) -> Any:
    """`value` as plain JSON data: numpy scalars and arrays become Python's.

    Raises ExperimentError naming the place of anything else, such as a search-space object left unresolved.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(f"{where}.{k}", v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(f"{where}[{i}]", v) for i, v in enumerate(value)]
    if isinstance(value, np.generic | np.ndarray):
        return plain(where, value.tolist())
    if value is None or isinstance(value, bool | str | int | float):
        return value
    raise ExperimentError(where, value, "the searcher suggested something that is no plain value")


def nest(flat: Mapping[str, Any]) -> Config:
    """{"a.b": 1} -> {"a": {"b": 1}}"""
    out: Config = {}
    for path, value in flat.items():
        *parents, leaf = path.split(".")
        node = out
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return out


def flatten(config: Mapping[str, Any], leaves: set[str] | None = None, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; a path in `leaves` is kept whole even if it is a dictionary."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and path not in (leaves or ()):
            out.update(flatten(value, leaves, path + "."))
        else:
            out[path] = value
    return out


def with_values(config: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """A copy of `config` with the values at some paths changed."""
    return nest({**flatten(config, set(changes)), **changes})


def config_key(config: Mapping[str, Any]) -> str:
    """A text that is equal exactly for equal configs."""
    return json.dumps(config, sort_keys=True)
