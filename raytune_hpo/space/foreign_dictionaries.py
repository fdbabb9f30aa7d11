"""Parameters that other tuners write as dictionaries: each is refused by name, with ours beside it.

They are known by their exact keys, since a dictionary of other names is a part of the config, nested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from raytune_hpo.checks import is_number
from raytune_hpo.space.our_words import (
    NO_EQUAL,
    Foreign,
    choice,
    float_,
    int_,
    listed,
    normal,
    refuse,
    said,
)


def refuse_dictionary(where: str, value: Mapping[str, Any]) -> None:
    """Raise ExperimentError for a dictionary that is another tuner's parameter."""
    for read in (_grid_search, _nni, _ax, _wandb):
        refuse(where, read(value))


def _grid_search(value: Mapping[str, Any]) -> Foreign | None:
    if set(value) != {"grid_search"} or not isinstance(value["grid_search"], list | tuple):
        return None
    ours = f'{choice(value["grid_search"])}, with searcher="grid"'
    return Foreign("Ray Tune's", f"grid_search({list(value['grid_search'])})", ours)


def _nni(value: Mapping[str, Any]) -> Foreign | None:
    if set(value) != {"_type", "_value"} or not isinstance(value["_type"], str):
        return None
    kind, given = value["_type"], value["_value"]
    read: dict[str, Callable[..., str]] = {
        "choice": lambda *options: choice(options),
        "randint": lambda low, high: int_(low, high - 1),
        "uniform": float_,
        "quniform": lambda low, high, step: float_(low, high, step=step),
        "loguniform": lambda low, high: float_(low, high, log=True),
        "qloguniform": lambda low, high, step: float_(low, high, log=True, step=step),
        "normal": normal,
        "qnormal": lambda mean, deviation, _: normal(mean, deviation),
    }
    return Foreign("NNI's", f"{kind}({listed(given)})", said(read.get(kind), given))


def _ax(value: Mapping[str, Any]) -> Foreign | None:
    if value.get("type") not in ("range", "choice") or not {"bounds", "values"} & set(value):
        return None
    shown = repr(dict(value))
    if value["type"] == "choice":
        return Foreign("Ax's", shown, said(lambda *options: choice(options), value.get("values", ())))
    log, whole = bool(value.get("log_scale")), value.get("value_type") == "int"

    def read(low: Any, high: Any) -> str:
        whole_ends = isinstance(low, int) and isinstance(high, int) and "value_type" not in value
        return int_(low, high, log=log) if whole or whole_ends else float_(low, high, log=log)

    return Foreign("Ax's", shown, said(read, value.get("bounds", ())))


#: W&B's keys of a parameter, and its distributions that have an equal here.
_WANDB_KEYS = {"values", "min", "max", "distribution", "q", "mu", "sigma", "probabilities", "value"}
_WANDB: dict[str, Callable[..., str]] = {
    "uniform": float_,
    "int_uniform": int_,
    "q_uniform": float_,
    "log_uniform": lambda low, high: float_(math.exp(low), math.exp(high), log=True),
    "log_uniform_values": lambda low, high: float_(low, high, log=True),
    "q_log_uniform_values": lambda low, high, step=1: float_(low, high, log=True, step=step),
}
_WANDB_OTHERS = {
    *("categorical", "categorical_w_probabilities", "constant", "normal", "q_normal", "log_normal", "q_log_normal"),
    *("inv_log_uniform", "inv_log_uniform_values", "q_log_uniform"),
}


def _wandb(value: Mapping[str, Any]) -> Foreign | None:
    kind, options = value.get("distribution"), value.get("values")
    ends = is_number(value.get("min")) and is_number(value.get("max"))
    known = isinstance(kind, str) and kind in {*_WANDB, *_WANDB_OTHERS}
    searched = known if "distribution" in value else ends or isinstance(options, list | tuple)
    if not searched or not set(value) <= _WANDB_KEYS:
        return None
    return Foreign("Weights & Biases'", repr(dict(value)), _of_wandb(value, str(kind)))


def _of_wandb(value: Mapping[str, Any], kind: str) -> str:
    ends = value.get("min"), value.get("max")
    if "values" in value:
        return said(lambda *options: choice(options), value["values"])
    if kind in ("normal", "q_normal"):
        return said(normal, (value.get("mu", 0), value.get("sigma", 1)))
    if "distribution" in value:
        step = {"step": value.get("q", 1)} if kind in ("q_uniform", "q_log_uniform_values") else {}
        read = _WANDB.get(kind)
        return NO_EQUAL if read is None else said(lambda low, high: read(low, high, **step), ends)
    whole = all(isinstance(end, int) for end in ends)
    return f"{said(int_ if whole else float_, ends)} (a constant of these keys needs other names)"
