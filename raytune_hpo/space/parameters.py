"""The parameters of a search space: Float, Int and Choice, each with a map to the unit interval.

Notations
    value   what the trainer gets: a Python float, int, or one of a Choice's options
    unit    its coordinate u in [0, 1), in the parameter's own scale
    n       the number of distinct values of an Int, a Choice or a Float with a step; None for any other Float
    cell    the interval of units that one value of those comes from

`from_unit` maps [0, 1) onto the values so that a uniform u is a draw in the parameter's scale;
`to_unit` is its inverse: `from_unit(to_unit(v)) == v` exactly where n is a number and to within
floating-point rounding (4e-15 relative) for other Floats. The idea is Keras Tuner's (`prob_to_value`,
`value_to_prob`): each algorithm works in one cube and no scale gets lost.
"""

from __future__ import annotations

from typing import Any

from raytune_hpo.space.choice import Choice
from raytune_hpo.space.parameter import BELOW_ONE, Parameter, Vector, json_value
from raytune_hpo.space.ranges import Float, Int

__all__ = ["BELOW_ONE", "Choice", "Float", "Int", "Parameter", "Vector", "json_value", "parameter_from_json"]

KINDS: dict[str, type[Parameter]] = {cls.KIND: cls for cls in (Float, Int, Choice)}


def parameter_from_json(data: dict[str, Any]) -> Parameter:
    """The inverse of `Parameter.to_json`."""
    fields = {k: v for k, v in data.items() if k not in ("kind", "when")}
    parameter = KINDS[data["kind"]](**fields)
    for parent, op, operand in data.get("when", []):
        parameter = parameter.when(parent, op, operand)
    return parameter
