"""A parameter as it is written in Python, `Float(1e-5, 1e-2, scale="log")`, read from text: parsed, never evaluated."""

from __future__ import annotations

import ast
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.space.parameter import Parameter
from raytune_hpo.space.parameters import KINDS

_KINDS = {cls.__name__: cls for cls in KINDS.values()}
_EXPECTED = f"must be {', '.join(_KINDS)} with plain values in its brackets"


def is_spelled(text: str) -> bool:
    """Whether it means to be one."""
    return text.lstrip().startswith(tuple(f"{name}(" for name in _KINDS))


def spelled(where: str, text: str) -> Parameter:
    """The parameter. Raises ExperimentError naming `where` for any other text."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExperimentError(where, text, _EXPECTED) from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in _KINDS:
        raise ExperimentError(where, text, _EXPECTED)
    try:
        given = [ast.literal_eval(value) for value in call.args]
        named: dict[str, Any] = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        return _KINDS[call.func.id](*given, **named)
    except ExperimentError as error:
        raise ExperimentError(where, text, str(error)) from None
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise ExperimentError(where, text, _EXPECTED) from None
