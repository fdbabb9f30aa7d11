"""Parameter: what Float, Int and Choice have in common, and the plain values that a config holds."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.space.conditions import Condition
from raytune_hpo.space.foreign_objects import refuse_object

BELOW_ONE = math.nextafter(1.0, 0.0)
Vector = np.ndarray[Any, np.dtype[np.float64]]


def json_value(where: str, value: Any, others: list[Any] | None = None) -> Any:
    """`value` as plain JSON data (tuples become lists). Raises ExperimentError naming `where`.

    others: takes what is no JSON value, instead of it being refused.
    """
    refuse_object(where, value)
    if isinstance(value, Parameter):
        raise ExperimentError(where, value, "a parameter cannot stand inside a value; use .when(...) conditions")
    if isinstance(value, list | tuple):
        return [json_value(where, v, others) for v in value]
    if isinstance(value, dict):
        if not all(isinstance(k, str) for k in value):
            raise ExperimentError(where, value, "the keys of a dictionary must be strings")
        return {k: json_value(where, v, others) for k, v in value.items()}
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if others is not None and not isinstance(value, float):
        others.append(value)
        return None
    raise ExperimentError(
        where, value, "must be a plain JSON value (text, finite number, true, false, none, list, dictionary)"
    )


@dataclass(frozen=True)
class Parameter:
    """Base of Float, Int and Choice. `conditions` must all hold for the parameter to be active."""

    KIND: ClassVar[str]
    conditions: tuple[Condition, ...] = field(default=(), kw_only=True)

    def when(self, parent: str, op: str, operand: Any) -> Self:
        """The same parameter, active only where the condition holds; several `when` must all hold.

        `Float(0.5, 0.99).when("optimizer", "==", "sgd")`
        """
        condition = Condition(parent, op, list(operand) if isinstance(operand, tuple) else operand)
        return dataclasses.replace(self, conditions=(*self.conditions, condition))

    @property
    def n(self) -> int | None:
        raise NotImplementedError

    @property
    def categories(self) -> int:
        """The number of options where they have no order, as in a Choice that is not `ordered`; else 0."""
        return 0

    @property
    def even(self) -> bool:
        """Whether all cells have the same width."""
        return True

    def value_at(self, index: int) -> Any:
        """The value number `index`, 0 <= index < n: of numbers in ascending order."""
        raise NotImplementedError

    def index_of(self, value: Any) -> int:
        raise NotImplementedError

    def recorded(self, value: Any) -> Any:
        """A value as a person may write it, as configs hold it: what is none of the parameter's comes back as it is."""
        return value

    def from_unit(self, u: float) -> Any:
        raise NotImplementedError

    def to_unit(self, value: Any) -> float:
        raise NotImplementedError

    def cell(self, value: Any) -> tuple[float, float]:
        """The ends of the value's cell; of a Float without a step, its one unit twice."""
        unit, half = self.to_unit(value), 0.5 / self.n if self.n else 0.0
        return unit - half, unit + half

    def cell_length(self, value: Any) -> float:
        """0 for a Float without a step."""
        return 1 / self.n if self.n else 0.0

    def snap(self, units: Vector) -> Vector:
        """units [m], each in the middle of the cell that it lies in: `to_unit(from_unit(u))` of many at once."""
        if self.n is None:
            return units
        snapped: Vector = (np.floor(units * self.n).clip(0, self.n - 1) + 0.5) / self.n
        return snapped

    def accepts(self, value: Any) -> bool:
        """Whether `value` is one of the parameter's values, type included."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"kind": self.KIND}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.name != "conditions":
                out[f.name] = list(value) if isinstance(value, tuple) else value
        if self.conditions:
            out["when"] = [[c.parent, c.op, c.operand] for c in self.conditions]
        return out
