"""Some of a run's trials, in an order: conditions and fields as people type them. They are parsed, never evaluated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.results.results import Results
from raytune_hpo.space.configs import flatten
from raytune_hpo.states import Status

#: What is known of a trial besides its config, in the order in which tables have it.
FIELDS = ("trial_id", "status", "reason", "epochs", "best", "best_epoch", "last", "seconds", "failures", "generation")
OPERATORS = ("<=", ">=", "!=", "==", "=", "<", ">")
_CONDITION = re.compile(rf"\s*([^<>=!\s]+)\s*({'|'.join(OPERATORS)})\s*(.*?)\s*")

Row = dict[str, Any]


@dataclass(frozen=True)
class Condition:
    """field operator value, as in `lr<0.01`. Numbers are compared as numbers; anything else is the same or not, by its
    text; what a trial has not is `none`."""

    field: str
    operator: str
    value: str

    @classmethod
    def parsed(cls, text: str) -> Condition:
        found = _CONDITION.fullmatch(text)
        if found is None or not found[3]:
            raise ExperimentError("--where", text, f"FIELD OPERATOR VALUE, with one of {' '.join(OPERATORS)}")
        field, operator, value = found.groups()
        if operator in ("<", ">", "<=", ">=") and _number(value) is None:
            raise ExperimentError("--where", text, f"a number after {operator}")
        return cls(field, operator, value)

    def holds(self, value: Any) -> bool:
        number, own = _number(self.value), value if _is_number(value) else None
        if self.operator in ("=", "==", "!="):
            same = own == number if number is not None and own is not None else _text(value) == self.value.lower()
            return same == (self.operator != "!=")
        if own is None or number is None:
            return False
        compared = {"<": own < number, ">": own > number, "<=": own <= number, ">=": own >= number}
        return bool(compared[self.operator])


def selected(results: Results, where: Sequence[str], sort: str | None) -> list[Row]:
    """The rows of `Results.rows` for which all conditions hold, by a field (-FIELD: the largest first; what a trial has
    not comes last), or in the order of suggestion. Raises ExperimentError for what cannot be read, and for a field that
    no trial has."""
    rows = results.rows()
    conditions = [Condition.parsed(text) for text in where]
    known = fields_of(results)
    for condition, text in zip(conditions, where, strict=True):
        _check(condition.field, "--where", text, known)
        if condition.field == "status" and condition.value not in [*Status]:
            raise ExperimentError("--where", text, f"a status: {', '.join(Status)}")
    found = [row for row in rows if all(c.holds(value_of(row, c.field)) for c in conditions)]
    if sort is None:
        return found
    field = sort.removeprefix("-")
    _check(field, "--sort", sort, known)
    having = [row for row in found if _is_there(value_of(row, field))]
    without = [row for row in found if not _is_there(value_of(row, field))]
    return sorted(having, key=lambda row: _key(value_of(row, field)), reverse=sort.startswith("-")) + without


def check_columns(results: Results, columns: Sequence[str]) -> None:
    known = [*fields_of(results), "config"]
    for column in columns:
        _check(column, "--columns", column, known)


def fields_of(results: Results) -> list[str]:
    """FIELDS, and the paths of the space."""
    space = results.experiment["space"]
    return [*FIELDS, *space["parameters"], *space["constants"]]


def value_of(row: Mapping[str, Any], field: str) -> Any:
    """Of a row of `Results.rows`: a field, or a value of its config; None where it has none."""
    if field in FIELDS or field == "config":
        return row[field]
    config: dict[str, Any] = row["config"]
    return config.get(field, flatten(config).get(field))


def _check(field: str, option: str, text: str, known: Sequence[str]) -> None:
    if field not in known:
        raise ExperimentError(option, text, f"a field: {', '.join(known)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return None if math.isnan(found) else found


def _text(value: Any) -> str:
    return str(value).lower()


def _key(value: Any) -> tuple[bool, float, str]:
    """Numbers first, then texts."""
    return (False, float(value), "") if _is_number(value) else (True, 0.0, _text(value))
