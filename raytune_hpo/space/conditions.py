"""Conditions: when a parameter is part of a config, by the value of another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from raytune_hpo.checks import is_number
from raytune_hpo.errors import ExperimentError


def same(a: object, b: object) -> bool:
    """Equality that keeps True apart from 1, and "1" apart from 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": same,
    "!=": lambda a, b: not same(a, b),
    "in": lambda a, b: any(same(a, x) for x in b),
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


@dataclass(frozen=True)
class Condition:
    """Holds when the parameter `parent` (a dotted path) is active and `value(parent) op operand`."""

    parent: str
    op: str
    operand: Any

    def __post_init__(self) -> None:
        if self.op not in OPERATORS:
            raise ExperimentError("when", self.op, f"an operator must be one of {', '.join(OPERATORS)}")
        if self.op == "in" and not isinstance(self.operand, list | tuple):
            raise ExperimentError("when", self.operand, "'in' takes a list of values")
        if self.op == "in" and not self.operand:
            raise ExperimentError("when", self.operand, "'in' needs one or more values")
        if self.op in (">=", "<=", ">", "<") and not is_number(self.operand):
            raise ExperimentError("when", self.operand, f"'{self.op}' takes a number")

    def named(self, text_of: Callable[[Any], Any]) -> Condition:
        """The same with every value in its operand as configs hold it."""
        many = self.op == "in"
        return replace(self, operand=list(map(text_of, self.operand)) if many else text_of(self.operand))

    def holds(self, value: Any) -> bool:
        if self.op in (">=", "<=", ">", "<") and not is_number(value):
            return False
        return bool(OPERATORS[self.op](value, self.operand))
