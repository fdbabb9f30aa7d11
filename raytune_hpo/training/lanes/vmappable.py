"""Whether lanes can be run as one: tried with two of them, of weights that are 0, on two samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from raytune_hpo.training.drawing import drawing
from raytune_hpo.training.lanes.layers import LaneView
from raytune_hpo.training.lanes.program import Program
from raytune_hpo.training.lanes.reading import OwnValues
from raytune_hpo.training.lanes.structure import Described
from raytune_hpo.training.trees import mapped


@dataclass(frozen=True)
class _Tried:
    """What a program reads of a lane."""

    described: Described
    config: Mapping[str, Any]
    own: OwnValues
    view: LaneView


def refusal(
    program: Program,
    described: Described,
    config: Mapping[str, Any],
    own: OwnValues,
    two: Any,
    autocast: torch.dtype | None = None,
) -> str | None:
    """What keeps lanes of this structure from being run as one; None if nothing does. two: a batch of two samples.

    autocast: of training, as some operations take what vmap's rules of them refuse under it.
    """
    device = next(iter(_tensors_of(two))).device
    view = LaneView(described.variants, described.structure.counting)
    other = {**config, **{name: config[name] * 1.001 + 1e-6 for name in own.moving}}
    lanes = [_Tried(described, values, own, view) for values in (config, other)]
    batch = mapped(lambda t: torch.stack([t, t]), two)
    try:
        weights = {
            shape.name: torch.zeros(2, *shape.shape, dtype=shape.dtype, device=device)
            for shape in described.structure.shapes
        }
        keys = torch.zeros(2, dtype=torch.int64)
        with torch.no_grad():
            for _ in range(2):  # again, for what a forward keeps for the next one
                with drawing(keys, 0, counting=True):
                    program.losses(weights, batch, lanes, autocast, None)  # type: ignore[arg-type]  # stand for lanes
                measured = mapped(torch.clone, two)
                with drawing(keys, 0, counting=True):
                    program.measured_losses(weights, measured, lanes)  # type: ignore[arg-type]
                with drawing(keys, 0, counting=True):
                    program.measured(weights, measured, lanes)  # type: ignore[arg-type]
    except Exception as error:  # vmap raises many unrelated types
        return f"{_innermost(error, program)} is not vmappable"
    return None


def _tensors_of(tree: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    mapped(found.append, tree)
    return found


def _innermost(error: BaseException, program: Program) -> str:
    """The class of the module in whose forward an error was raised, or the task's method."""
    name, trace = "the model", error.__traceback__
    while trace is not None:
        found = trace.tb_frame.f_locals.get("self")
        if isinstance(found, torch.nn.Module) and not type(found).__module__.startswith("raytune_hpo."):
            name = type(found).__name__
        elif found is program.task and trace.tb_frame.f_code.co_name in ("loss", "predict", "targets"):
            name = f"{type(found).__name__}.{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    return name
