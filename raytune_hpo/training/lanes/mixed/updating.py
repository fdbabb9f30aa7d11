"""The update of all lanes, whatever their optimizers, as one formula over pages:

    g = gradient + decay w                 an L2 penalty
    first = keep1 first + new1 g
    second = keep2 second + new2 g^2
    w = shrink w - (ahead first + now g) / (root sqrt(second) + rest)

SGD with a momentum, Nesterov's, Adam and AdamW differ in the numbers alone (`Rule.moments`), each one of a lane's group
of parameters. What no lane has takes no operation. Other rules have operations of their own.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from raytune_hpo.training.lanes.layers import Tensor, runs_of
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.lane_updates import LaneUpdates
from raytune_hpo.training.lanes.mixed.operations import Operations
from raytune_hpo.training.lanes.mixed.stages import Index
from raytune_hpo.training.lanes.mixed.steps import OTHERS, Steps
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.rules.rule import Rows

Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

#: Numbers of weights that an update takes at a time on a CPU, so that they stay near it; and of neighbouring ones with
#: rules of one kind, from which on they have operations of their own.
CPU_NUMBERS, OWN_NUMBERS = 1 << 19, 1 << 17

#: Kinds of pieces, besides the rules that are no such update.
DESCENT, MOMENTS = "descent", "moments"
_KINDS = {"sgd": DESCENT, "adam": MOMENTS, "adamw": MOMENTS}


class Update:
    """matrix_slots, vector_slots: of each page, `lane * groups + group`. used: what any lane has of "decay", "shrink",
    "nesterov", "clip"."""

    def __init__(
        self, arena: Arena, steps: Steps, matrix_slots: Index, vector_slots: Index, used: Collection[str]
    ) -> None:
        self._arena, self._steps, self._used = arena, steps, used
        device = arena.matrices.device
        self._parts = [
            (arena.matrices, arena.matrix_gradients, torch.from_numpy(matrix_slots).to(device)),
            (arena.vectors, arena.vector_gradients, torch.from_numpy(vector_slots).to(device)),
        ]

    def add_to(self, ops: Operations) -> None:
        if "clip" in self._used:
            self._clip(ops)
        numbers, names = self._steps.of_groups(), self._steps.names
        flat = torch.zeros(self._steps.lanes * self._steps.groups, len(names)).to(numbers)
        ops.add(flat.view(numbers.shape).copy_, numbers)
        for number, ((weights, first, second), gradient, slots) in enumerate(self._parts):
            if not len(slots):
                continue
            taken = np.zeros(len(slots), bool)
            if number == 0 and not self._arena.layout.launches and weights.device.type == "cpu":
                own = LaneUpdates(self._arena, self._steps, slots.numpy())
                ops.add(own.run)
                taken = own.taken
            columns = torch.zeros(len(names), len(slots)).to(numbers)
            ops.add(torch.index_select, flat.t(), 1, slots, out=columns)
            pieces = self._pieces(slots, weights, taken)
            if not pieces:
                continue
            one, two = torch.zeros(2, max(len(at) for _, at in pieces), weights.shape[1]).to(weights).unbind(0)
            for kind, pages in pieces:
                at = slice(pages.start, pages.stop)
                c = dict(zip(names, columns[:, at, None].unbind(0), strict=True))
                rows = Rows(weights[at], gradient[at], first[at], second[at])
                if kind in RULES:
                    ops.add(RULES[kind].update_rows, {name: c[f"other {name}"] for name in OTHERS}, rows)
                else:
                    self._step(ops, c, rows, one[: len(pages)], two[: len(pages)], descent=kind == DESCENT)

    def _rules(self, slots: Tensor) -> list[str]:
        """The rule of each page."""
        lanes = (slots // self._steps.groups).tolist()
        return [self._arena.layout.lanes[lane].rule for lane in lanes]

    def _pieces(self, slots: Tensor, weights: Tensor, taken: Mask) -> list[tuple[str, range]]:
        """The pages in pieces, but those that are taken: of descent without second moments, of any moments, or of a
        rule of its own. All of them round alike. On a CPU small enough to stay near it."""
        pieces = not self._arena.layout.launches
        most, own = (n // weights.shape[1] if pieces else len(slots) + 1 for n in (CPU_NUMBERS, OWN_NUMBERS))
        found: list[tuple[str, range]] = []
        open_since = 0  # pages that are in no piece yet
        kinds: set[str] = set()

        def close(stop: int) -> None:
            if stop > open_since:
                found.append((DESCENT if kinds == {DESCENT} else MOMENTS, range(open_since, stop)))
            kinds.clear()

        rules = zip(self._rules(slots), taken.tolist(), strict=True)
        for kind, start, stop in runs_of(["" if own else _KINDS.get(rule, rule) for rule, own in rules]):
            if not kind:
                close(start)
                open_since = stop
                continue
            if stop - start >= own or kind in RULES:
                close(start)
                found += [(kind, range(at, min(at + most, stop))) for at in range(start, stop, most)]
                open_since = stop
                continue
            if stop - open_since > most:
                close(start)
                open_since = start
            kinds.add(kind)
        close(len(slots))
        return found

    def _step(self, ops: Operations, c: dict[str, Tensor], r: Rows, one: Tensor, two: Tensor, *, descent: bool) -> None:
        w, g, first, second = r.weights, r.gradient, r.first, r.second
        if "decay" in self._used:
            ops.add(torch.addcmul, g, w, c["decay"], out=g)
        ops.add(first.mul_, c["keep1"])
        ops.add(torch.addcmul, first, g, c["new1"], out=first)
        below = c["rest"]
        if not descent:
            ops.add(torch.mul, g, c["new2"], out=one)  # before the square, which may be too large
            ops.add(second.mul_, c["keep2"])
            ops.add(torch.addcmul, second, g, one, out=second)
            ops.add(torch.sqrt, second, out=two)
            below = two
            ops.add(torch.addcmul, c["rest"], two, c["root"], out=two)
        change = first
        if "nesterov" in self._used:
            change = one
            ops.add(torch.mul, first, c["ahead"], out=one)
            ops.add(torch.addcmul, one, g, c["now"], out=one)
        if "shrink" in self._used:
            ops.add(w.mul_, c["shrink"])
        ops.add(torch.addcdiv, w, change, below, value=-1, out=w)

    def _clip(self, ops: Operations) -> None:
        """Scale each lane's gradient down to its norm; 0 leaves it. As torch's clip_grad_norm_."""
        lanes, groups = self._steps.lanes, self._steps.groups
        largest = self._steps.of_lane("clip")
        total = torch.zeros(lanes, dtype=largest.dtype, device=largest.device)
        ops.add(total.zero_)
        for _, gradient, slots in self._parts:
            squares, of_pages = torch.zeros_like(gradient), torch.zeros_like(gradient[:, 0])
            ops.add(torch.mul, gradient, gradient, out=squares)
            ops.add(torch.sum, squares, 1, out=of_pages)
            ops.add(total.index_add_, 0, slots // groups, of_pages)
        factor, none = torch.zeros_like(total), torch.zeros(lanes, dtype=torch.bool, device=total.device)
        ops.add(torch.sqrt, total, out=factor)
        ops.add(factor.add_, 1e-6)
        ops.add(torch.div, largest, factor, out=factor)
        ops.add(factor.clamp_, max=1.0)
        ops.add(torch.le, largest, 0, out=none)
        ops.add(factor.masked_fill_, none, 1.0)
        for _, gradient, slots in self._parts:
            own = torch.zeros(len(slots), dtype=factor.dtype, device=factor.device)
            ops.add(torch.index_select, factor, 0, slots // groups, out=own)
            ops.add(gradient.mul_, own[:, None])
