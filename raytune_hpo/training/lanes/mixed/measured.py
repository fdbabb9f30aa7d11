"""What lanes come to on the validation data: a forward pass of those that have ended an epoch, as one program."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from raytune_hpo.training.lanes.lane_data import LaneData
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.layout import Layout, Padded
from raytune_hpo.training.lanes.mixed.operations import Operations
from raytune_hpo.training.lanes.mixed.passes import Passes
from raytune_hpo.training.lanes.mixed.stages import VECTOR_PAGE
from raytune_hpo.training.outputs import check_outputs
from raytune_hpo.training.scores import Scores

#: Samples of a pass, whoever is measured: a lane's numbers do not depend on its neighbours.
SAMPLES, IMAGES = 512, 128
#: Numbers of a stage's activations at a time.
MOST = 1 << 24


def measured(arena: Arena, lanes: Sequence[int], data: LaneData) -> list[dict[str, float]]:
    """The metrics of these lanes of an arena, by name, in their order."""
    stages = arena.layout.all_stages
    size = min(IMAGES if arena.layout.convolved else SAMPLES, len(data.validation))
    widest = max((m.rows * m.pixels for stage in stages for m in stage.members), default=1)
    at_a_time = max(1, MOST // (size * widest))
    out: list[dict[str, float]] = []
    for start in range(0, len(lanes), at_a_time):
        out += _measured(arena, lanes[start : start + at_a_time], data, size)
    return out


def _measured(arena: Arena, lanes: Sequence[int], data: LaneData, size: int) -> list[dict[str, float]]:
    source = data.validation
    scores = Scores(data.criterion.measured, len(lanes))
    passes: dict[int, tuple[Operations, Passes, torch.Tensor]] = {}
    for start in range(0, len(source), size):
        batch = source.part(start, start + size)
        count = len(batch.y)
        if count not in passes:
            passes[count] = _pass(arena, lanes, count, batch.x)
        operations, found, x = passes[count]
        x[:count] = batch.x.flatten(1)
        operations.run()
        outputs = found.outputs.view(len(lanes), len(x), -1)[:, :count]
        check_outputs(outputs, batch.y, data.criterion.highest, lanes=True)
        scores.add(outputs, batch.y, slice(0, len(lanes)), samples=count)
    order = next(iter(passes.values()))[1].layout.order
    by_lane = dict(zip(order, scores.results(), strict=True))
    return [by_lane[i] for i in range(len(lanes))]


def _pass(
    arena: Arena, lanes: Sequence[int], count: int, like: torch.Tensor
) -> tuple[Operations, Passes, torch.Tensor]:
    own = [arena.layout.lanes[lane] for lane in lanes]
    if arena.layout.convolved:
        count = -(-count // VECTOR_PAGE) * VECTOR_PAGE  # whose rows have whole vectors, as those of training
    layout = Layout(
        [Padded(lane.chain, lane.width, count) for lane in own],
        arena.layout.shape,
        arena.layout.outputs,
        launches=arena.layout.launches,
    )
    pages = [arena.pages[lanes[i]] for i in layout.order]
    mine = Arena(layout, pages, like.device, arena, weights_only=True)
    x = torch.zeros(count, arena.layout.inputs, dtype=like.dtype, device=like.device)
    passes = Passes(layout, mine, x, None, masked=False, shared=True)
    operations = Operations()
    passes.forward(operations)
    return operations, passes, x
