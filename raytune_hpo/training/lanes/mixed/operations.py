"""Operations: what a tick does, in order, on tensors that stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.layout import Batch, Cell, Layout


class Operations:
    """A list of calls. They answer nothing: each writes to tensors that were made with the list, so that it can be run
    again and again, and captured as a CUDA graph."""

    def __init__(self) -> None:
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def add(self, function: Callable[..., Any], *given: Any, **named: Any) -> None:
        self._calls.append((function, given, named))

    def run(self) -> None:
        for function, given, named in self._calls:
            function(*given, **named)

    def __len__(self) -> int:
        return len(self._calls)


class Buffers:
    """The activations of a layout.

    linear: what a linear layer gives, without its mean where a batch norm follows. before: what the activation takes,
    after: what it gives, kept: what dropout leaves of it. slopes: the gradient. one, two: at hand.
    """

    def __init__(self, layout: Layout, device: torch.device, *, training: bool, normed: bool, masked: bool) -> None:
        self.layout = layout

        def flat() -> Tensor:
            return torch.zeros(layout.elements, device=device)

        self.linear, self.after = flat(), flat()
        self.before = flat() if normed and training else self.linear
        self.kept = flat() if masked else self.after
        self.masks = flat() if masked else None
        if training:
            self.slopes, self.one, self.two = flat(), flat(), flat()
        else:
            self.one = flat()

        self._views: dict[
            tuple[Any, ...], tuple[Tensor, Tensor]
        ] = {}  # by what they are of and where: most are asked for twice

    def stage(self, flat: Tensor, stage: int) -> Tensor:
        own = self.layout.stage_elements[stage]
        return self._view(flat, (own.stop - own.start,), (1,), own.start)

    def _view(self, flat: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], first: int) -> Tensor:
        key = (id(flat), shape, strides, first)
        if key not in self._views:  # kept with what it is of: another tensor may get the id of one that is gone
            self._views[key] = flat, flat.as_strided(shape, strides, first)
        return self._views[key][1]

    def rows(self, flat: Tensor, batch: Batch, stage: int) -> Tensor:
        """[rows, n] of a batch size's lanes."""
        own = self.layout.batch_elements[batch.size, stage]
        return self._view(flat, ((own.stop - own.start) // batch.size, batch.size), (batch.size, 1), own.start)

    def cell(self, flat: Tensor, cell: Cell, stage: int, start: int = 0, stop: int | None = None) -> Tensor:
        """[lanes, W, n] of a cell's lanes that have the stage, those from start to stop."""
        lanes = slice(start, stop).indices(cell.having[stage])
        size = cell.width * cell.batch
        first = self.layout.cell_elements[cell.number, stage] + lanes[0] * size
        return self._view(flat, (lanes[1] - lanes[0], cell.width, cell.batch), (size, cell.batch, 1), first)

    def turned(self, flat: Tensor, cell: Cell, stage: int, start: int = 0, stop: int | None = None) -> Tensor:
        """[lanes, n, W] of the same."""
        lanes = slice(start, stop).indices(cell.having[stage])
        size = cell.width * cell.batch
        first = self.layout.cell_elements[cell.number, stage] + lanes[0] * size
        return self._view(flat, (lanes[1] - lanes[0], cell.batch, cell.width), (size, 1, cell.batch), first)

    def samples(self, flat: Tensor, cell: Cell, start: int = 0, stop: int | None = None) -> Tensor:
        """[lanes, n, k] of a cell's lanes from start to stop. flat: [samples, k]"""
        lanes = slice(start, stop).indices(len(cell))
        return self._samples(flat, self.layout.cell_samples[cell.number], lanes[0], lanes[1], cell.batch)

    def batch_samples(self, flat: Tensor, batch: Batch) -> Tensor:
        """[lanes, n, ...] of a batch size's lanes. flat: [samples, ...]"""
        first = self.layout.cell_samples[batch.cells[0].number]
        return self._samples(flat, first, 0, batch.stop - batch.start, batch.size)

    def _samples(self, flat: Tensor, first: int, start: int, stop: int, size: int) -> Tensor:
        inner, strides = flat.shape[1:], flat.stride()
        at = (first + start * size) * strides[0]
        return self._view(flat, (stop - start, size, *inner), (size * strides[0], *strides), at)
