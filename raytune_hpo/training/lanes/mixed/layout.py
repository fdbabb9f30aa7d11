"""A layout: where the weights and the activations of many chains lie. No torch is needed for it.

    lanes, padded --sorted--> cells (of one width and batch) --> pages of weights, rows of features, rows of samples

The last hidden block of every lane is stage S, the one before S - 1, and so on. Lanes of a cell lie by depth, the
deepest first: those that have a stage are the first `having[s]`, and those whose first block it is the last of them.
Of a stage everything lies in one piece, cell after cell: what works on elements is one operation for all lanes, and
only matrix products are one a cell.

Notations
    L        lanes, in the layout's order
    S        stages: the hidden blocks of the deepest lane; stages are counted from 1
    W, n     a lane's padded width, of its hidden blocks, and its padded mini-batch
    page     256 numbers of a matrix, or 16 of a vector, all of one lane
    row      a feature of a lane in a stage: its activations are [n]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from raytune_hpo.training.lanes.mixed.chain import Chain

MATRIX_PAGE, VECTOR_PAGE = 256, 16
#: The vectors of a block that the optimizer moves, and its running statistics.
TRAINED, RUNNING = ("bias", "gamma", "beta"), ("mean", "var")

Index = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Padded:
    """A lane's chain, the width that its hidden blocks and the batch that its mini-batches are padded to. rule: its
    optimizer."""

    chain: Chain
    width: int
    batch: int
    rule: str = ""


@dataclass(frozen=True)
class Cell:
    """The lanes from start to stop, of one batch and width. having: of stage s, how many of them have it; of 0 none."""

    number: int
    batch: int
    width: int
    start: int
    stop: int
    having: tuple[int, ...]

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def deep(self) -> int:
        """Those that have hidden blocks at all."""
        return self.having[-1]


@dataclass(frozen=True)
class Batch:
    """The cells of one batch size: the lanes from start to stop."""

    size: int
    start: int
    stop: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrices:
    """[lanes, outputs, inputs] from a page on, each on so many whole pages."""

    page: int
    lanes: int
    pages: int
    outputs: int
    inputs: int


@dataclass(frozen=True)
class LanePages:
    """Where a lane's numbers are: the pages of its matrices, vectors and running statistics, block after block."""

    matrices: Index
    vectors: Index
    running: Index


class Layout:
    """lanes: in any order; `order` says which of them is where. inputs: of a sample. outputs: of the last block."""

    def __init__(self, lanes: Sequence[Padded], inputs: int, outputs: int) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.order = sorted(range(len(lanes)), key=lambda i: _place(lanes[i]))
        self.lanes = [lanes[i] for i in self.order]
        self.stages = max((lane.chain.depth for lane in self.lanes), default=0)
        self.cells = tuple(self._cells())
        self.cell_of = [cell for cell in self.cells for _ in range(len(cell))]
        self.batches = tuple(self._batches())
        self._place_matrices()
        self._place_vectors()
        self._place_activations()

    def _cells(self) -> Iterator[Cell]:
        start = 0
        groups = itertools.groupby(self.lanes, key=lambda lane: (lane.batch, lane.width))
        for number, ((batch, width), members) in enumerate(groups):
            depths = [lane.chain.depth for lane in members]
            having = tuple(sum(d > self.stages - s for d in depths) for s in range(self.stages + 1))
            yield Cell(number, batch, width, start, start + len(depths), having)
            start += len(depths)

    def _batches(self) -> Iterator[Batch]:
        for size, found in itertools.groupby(self.cells, key=lambda cell: cell.batch):
            cells = tuple(found)
            yield Batch(size, cells[0].start, cells[-1].stop, cells)

    def stage_of(self, lane: int, block: int) -> int:
        """The stage that a hidden block of a lane is."""
        return self.stages - self.lanes[lane].chain.depth + block + 1

    # Weights ------------------------------------------------------------------------------------------

    def _place_matrices(self) -> None:
        """Of each cell: the first matrices of lanes that have hidden blocks, each stage's others, the last ones, and
        those of lanes that have no other."""
        self.matrices: dict[tuple[int, str, int], Matrices] = {}
        self.matrix_pages = 0
        for cell in self.cells:
            self._add(cell, "first", 1, cell.deep, cell.width, self.inputs)
            for s in range(2, self.stages + 1):
                self._add(cell, "hidden", s, cell.having[s - 1], cell.width, cell.width)
            self._add(cell, "last", 0, cell.deep, self.outputs, cell.width)
            self._add(cell, "only", 0, len(cell) - cell.deep, self.outputs, self.inputs)

    def _add(self, cell: Cell, kind: str, stage: int, lanes: int, outputs: int, inputs: int) -> None:
        pages = -(-outputs * inputs // MATRIX_PAGE)
        self.matrices[cell.number, kind, stage] = Matrices(self.matrix_pages, lanes, pages, outputs, inputs)
        self.matrix_pages += lanes * pages

    def matrix_of(self, lane: int, block: int) -> tuple[Matrices, int]:
        """(the matrices among which a block's is, which of them it is)."""
        cell, depth = self.cell_of[lane], self.lanes[lane].chain.depth
        place = lane - cell.start
        if depth == 0:
            return self.matrices[cell.number, "only", 0], place - cell.deep
        if block == depth:
            return self.matrices[cell.number, "last", 0], place
        if block == 0:
            return self.matrices[cell.number, "first", 1], place
        return self.matrices[cell.number, "hidden", self.stage_of(lane, block)], place

    def _place_vectors(self) -> None:
        """rows: of each stage, how many there are; which are a batch's; the first of a cell; the lane of each."""
        self.rows = [0] * (self.stages + 1)
        self.batch_rows: dict[tuple[int, int], slice] = {}
        self.cell_rows: dict[tuple[int, int], int] = {}
        self.row_lanes: list[Index] = [np.zeros(0, np.int64)]
        self.vectors: dict[tuple[str, int], slice] = {}  # pages, by kind and stage; of stage 0 the outputs' biases
        self.vector_pages = self.running_pages = 0
        for s in range(1, self.stages + 1):
            lanes = []
            for batch in self.batches:
                first = self.rows[s]
                for cell in batch.cells:
                    self.cell_rows[cell.number, s] = self.rows[s]
                    lanes.append(np.repeat(np.arange(cell.start, cell.start + cell.having[s]), cell.width))
                    self.rows[s] += cell.having[s] * cell.width
                self.batch_rows[batch.size, s] = slice(first, self.rows[s])
            self.row_lanes.append(np.concatenate(lanes))
            pages = self.rows[s] // VECTOR_PAGE
            for kind in TRAINED:
                self.vectors[kind, s] = slice(self.vector_pages, self.vector_pages + pages)
                self.vector_pages += pages
            for kind in RUNNING:
                self.vectors[kind, s] = slice(self.running_pages, self.running_pages + pages)
                self.running_pages += pages
        self.output_pages = -(-self.outputs // VECTOR_PAGE)  # of a lane
        first_page = self.vector_pages
        self.vector_pages += len(self.lanes) * self.output_pages
        self.vectors["bias", 0] = slice(first_page, self.vector_pages)

    def vector_of(self, lane: int, block: int, kind: str) -> slice:
        """The pages of a vector of a lane's block."""
        depth = self.lanes[lane].chain.depth
        if block == depth:
            first = self.vectors["bias", 0].start + lane * self.output_pages
            return slice(first, first + self.output_pages)
        s, cell = self.stage_of(lane, block), self.cell_of[lane]
        row = self.cell_rows[cell.number, s] + (lane - cell.start) * cell.width
        first = self.vectors[kind, s].start + row // VECTOR_PAGE
        return slice(first, first + cell.width // VECTOR_PAGE)

    def pages_of(self, lane: int) -> LanePages:
        matrices, vectors, running = [], [], []
        depth = self.lanes[lane].chain.depth
        for block in range(depth + 1):
            among, place = self.matrix_of(lane, block)
            first = among.page + place * among.pages
            matrices.append(np.arange(first, first + among.pages))
            for kind in TRAINED if block < depth else ("bias",):
                vectors.append(_range(self.vector_of(lane, block, kind)))
            for kind in RUNNING if block < depth else ():
                running.append(_range(self.vector_of(lane, block, kind)))
        none = [np.zeros(0, np.int64)]
        return LanePages(*(np.concatenate(found + none) for found in (matrices, vectors, running)))

    # Activations --------------------------------------------------------------------------------------

    def _place_activations(self) -> None:
        """elements: of all stages; where a stage's are, a batch's in it, a cell's first. samples: of all lanes, each
        padded; a cell's first, and the lane and the number in the batch of each."""
        self.elements = 0
        self.stage_elements: dict[int, slice] = {}
        self.batch_elements: dict[tuple[int, int], slice] = {}
        self.cell_elements: dict[tuple[int, int], int] = {}
        for s in range(1, self.stages + 1):
            first = self.elements
            for batch in self.batches:
                start = self.elements
                for cell in batch.cells:
                    self.cell_elements[cell.number, s] = self.elements
                    self.elements += cell.having[s] * cell.width * cell.batch
                self.batch_elements[batch.size, s] = slice(start, self.elements)
            self.stage_elements[s] = slice(first, self.elements)
        self.cell_samples: list[int] = []
        self.samples = 0
        for cell in self.cells:
            self.cell_samples.append(self.samples)
            self.samples += len(cell) * cell.batch
        sizes = [lane.batch for lane in self.lanes]
        self.sample_lanes: Index = np.repeat(np.arange(len(sizes)), sizes)
        self.sample_numbers: Index = np.concatenate([np.arange(n) for n in sizes] or [np.zeros(0, np.int64)])

    def lane_elements(self, lane: int, stage: int) -> slice:
        """Of a lane that has the stage."""
        cell = self.cell_of[lane]
        size = cell.width * cell.batch
        first = self.cell_elements[cell.number, stage] + (lane - cell.start) * size
        return slice(first, first + size)


def _place(lane: Padded) -> tuple[object, ...]:
    """What lanes are sorted by: like ones lie next to each other."""
    kinds = [repr(block.activation) for block in lane.chain.blocks[:-1]]
    return lane.batch, lane.width, -lane.chain.depth, lane.rule, kinds


def _range(pages: slice) -> Index:
    return np.arange(pages.start, pages.stop)
