"""Activations of many lanes: each kind once over all of a stage, or over the runs of lanes that have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.lanes.layers import Tensor, runs_of
from raytune_hpo.training.lanes.mixed.buffers import Buffers
from raytune_hpo.training.lanes.mixed.operations import Operations
from raytune_hpo.training.lanes.mixed.stages import Stage

Kind = tuple[str, Any]
aten = torch.ops.aten

#: Activation -> writes it of x, with the module's own number.
FORWARD: dict[str, Callable[[Tensor, Any, Tensor], Any]] = {
    "relu": lambda x, _, out: aten.relu.out(x, out=out),
    "leaky_relu": lambda x, slope, out: aten.leaky_relu.out(x, slope, out=out),
    "tanh": lambda x, _, out: aten.tanh.out(x, out=out),
    "sigmoid": lambda x, _, out: aten.sigmoid.out(x, out=out),
    "elu": lambda x, alpha, out: aten.elu.out(x, alpha, out=out),
    "gelu": lambda x, approximate, out: aten.gelu.out(x, approximate=approximate, out=out),
    "silu": lambda x, _, out: aten.silu.out(x, out=out),
    "linear": lambda x, _, out: out.copy_(x),
}
#: Activation -> writes the gradient of x, of the gradient d of its y.
BACKWARD: dict[str, Callable[[Tensor, Tensor, Tensor, Any, Tensor], Any]] = {
    "relu": lambda d, x, y, _, out: aten.threshold_backward.grad_input(d, y, 0, grad_input=out),
    "leaky_relu": lambda d, x, y, a, out: aten.leaky_relu_backward.grad_input(d, x, a, False, grad_input=out),
    "tanh": lambda d, x, y, _, out: aten.tanh_backward.grad_input(d, y, grad_input=out),
    "sigmoid": lambda d, x, y, _, out: aten.sigmoid_backward.grad_input(d, y, grad_input=out),
    "elu": lambda d, x, y, a, out: aten.elu_backward.grad_input(d, a, 1, 1, False, x, grad_input=out),
    "gelu": lambda d, x, y, a, out: aten.gelu_backward.grad_input(d, x, approximate=a, grad_input=out),
    "silu": lambda d, x, y, _, out: aten.silu_backward.grad_input(d, x, grad_input=out),
    "linear": lambda d, x, y, _, out: None if out is d else out.copy_(d),
}


#: What a CPU takes to dispatch an operation, and for an element of an activation.
OPERATION_S, ELEMENT_S = 2e-6, 0.5e-9


class Activations:
    """Of a stage. Elements of padded features stay 0: also of a sigmoid, which is not 0 at 0. launches: as of
    `Template`."""

    def __init__(self, stage: Stage, device: torch.device, *, launches: bool) -> None:
        self.stage = stage
        members, first = stage.members, stage.elements.start
        self._runs: list[tuple[Kind, slice]] = []
        for kind, start, stop in runs_of([member.block.activation for member in members]):
            own = slice(members[start].elements.start - first, members[stop - 1].elements.stop - first)
            self._runs.append((kind, own))
        kinds = list(dict.fromkeys(kind for kind, _ in self._runs))
        self._sigmoids = [at for kind, at in self._runs if kind[0] == "sigmoid"]
        there = None
        if self._sigmoids and any(member.block.outputs < member.rows for member in members):
            of_each = [(np.arange(m.rows) < m.block.outputs, m.samples * m.pixels) for m in members]
            there = np.concatenate([np.repeat(rows, count) for rows, count in of_each])
        #: [elements] of the stage: which are of a lane's own features; None where it does not matter.
        self._own = None if there is None else torch.from_numpy(there).to(device)
        self._chosen: list[tuple[Kind, Tensor | None]] = []
        if self._over_all(len(kinds), launches=launches):
            for kind in kinds:
                where = np.zeros(len(self), bool)
                for other, at in self._runs:
                    where[at] = other == kind
                self._chosen.append((kind, torch.from_numpy(where).to(device) if self._chosen else None))

    def _over_all(self, kinds: int, *, launches: bool) -> bool:
        """Whether to compute each kind over all elements, and to choose, rather than over its runs: launches are saved,
        and elements computed for nothing."""
        runs, operations = len(self._runs), 2 * kinds - 1
        if launches or runs <= operations:
            return runs > operations
        elements = len(self) * ELEMENT_S
        return runs * OPERATION_S > operations * OPERATION_S + 1.5 * (kinds - 1) * elements

    def __len__(self) -> int:
        return int(self._runs[-1][1].stop)

    @property
    def lifts(self) -> bool:
        """Whether any is not 0 at 0, as padding is."""
        return bool(self._sigmoids)

    def forward(self, ops: Operations, buffers: Buffers) -> None:
        x, y = buffers.stage(buffers.before, self.stage), buffers.stage(buffers.after, self.stage)
        if not self._chosen:
            for (name, number), at in self._runs:
                ops.add(FORWARD[name], x[at], number, y[at])
        else:
            other = buffers.stage(buffers.one, self.stage)
            for (name, number), where in self._chosen:
                ops.add(FORWARD[name], x, number, y if where is None else other)
                if where is not None:
                    ops.add(torch.where, where, other, y, out=y)
        if self._own is not None:
            for at in self._sigmoids:
                ops.add(torch.mul, y[at], self._own[at], out=y[at])

    def backward(self, ops: Operations, buffers: Buffers) -> None:
        x, y = buffers.stage(buffers.before, self.stage), buffers.stage(buffers.after, self.stage)
        d = buffers.stage(buffers.slopes, self.stage)
        if not self._chosen:
            for (name, number), at in self._runs:
                ops.add(BACKWARD[name], own := d[at], x[at], y[at], number, own)
            return
        found, other = buffers.stage(buffers.one, self.stage), buffers.stage(buffers.two, self.stage)
        last = len(self._chosen) - 1
        for i, ((name, number), where) in enumerate(self._chosen):
            ops.add(BACKWARD[name], d, x, y, number, found if where is None else other)
            if where is not None:
                ops.add(torch.where, where, other, found, out=d if i == last else found)
