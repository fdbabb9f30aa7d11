"""A layout: where the weights and the activations of many chains lie. No torch is needed for it.

    lanes, padded --sorted--> cells (of one width, batch and inputs) --> pages of weights, stages of rows

The last hidden block of every lane is stage S, the one before S - 1, and so on. Lanes of a cell lie by depth, the
deepest first: those that have a stage are the first `having[s]`, and those whose first block it is the last of them.
Convolutions are stages of their own: every lane's first one is of the first, the next of the second. Of a stage
everything lies in one piece, cell after cell: what works on elements is one operation for all lanes, and only products
are one a cell.

Notations
    L        lanes, in the layout's order
    S        stages of hidden linear blocks, of the deepest lane, counted from 1
    W, n     a lane's padded width, of its hidden blocks, and its padded mini-batch
    page     256 numbers of a matrix, or 16 of a vector, all of one lane
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from raytune_hpo.training.lanes.mixed.chain import Chain
from raytune_hpo.training.lanes.mixed.stages import VECTOR_PAGE, Index, Member, Stage

MATRIX_PAGE = 256
#: The vectors of a block that the optimizer moves, and its running statistics.
TRAINED, RUNNING = ("bias", "gamma", "beta"), ("mean", "var")


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
    """The lanes from start to stop, of one batch, width and number of inputs. having: of stage s, how many of them have
    it; of 0 none."""

    number: int
    batch: int
    width: int
    inputs: int  # of the first linear block
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
    """lanes: in any order; `order` says which of them is where. shape: of a sample. outputs: of the last block.
    launches: as of `Template`."""

    def __init__(self, lanes: Sequence[Padded], shape: Sequence[int], outputs: int, *, launches: bool = False) -> None:
        self.launches = launches
        self.shape, self.inputs, self.outputs = tuple(shape), math.prod(shape), outputs
        self.order = sorted(range(len(lanes)), key=lambda i: _place(lanes[i]))
        self.lanes = [lanes[i] for i in self.order]
        self.stages = max((lane.chain.depth for lane in self.lanes), default=0)
        self.cells = tuple(self._cells())
        self.cell_of = [cell for cell in self.cells for _ in range(len(cell))]
        self.batches = tuple(self._batches())
        self._place_activations()
        self._place_matrices()
        self._place_vectors()

    def _cells(self) -> Iterator[Cell]:
        start = 0
        groups = itertools.groupby(self.lanes, key=lambda lane: (lane.batch, lane.width, lane.chain.features))
        for number, ((batch, width, inputs), members) in enumerate(groups):
            depths = [lane.chain.depth for lane in members]
            having = tuple(sum(d > self.stages - s for d in depths) for s in range(self.stages + 1))
            yield Cell(number, batch, width, inputs, start, start + len(depths), having)
            start += len(depths)

    def _batches(self) -> Iterator[Batch]:
        for size, found in itertools.groupby(self.cells, key=lambda cell: cell.batch):
            cells = tuple(found)
            yield Batch(size, cells[0].start, cells[-1].stop, cells)

    # Activations --------------------------------------------------------------------------------------

    def _place_activations(self) -> None:
        """hidden, convolved: the stages, of hidden linear blocks by number from 1, of convolutions in order. elements,
        kept: how many there are. features: where a cell's begin of what its first linear blocks take, where that are
        images. samples: of all lanes, each padded; where a cell's begin, and the lane and the number in the batch of
        each."""
        self.elements = self.kept = 0
        self.hidden: dict[int, Stage] = {}
        self.convolved: list[Stage] = []
        for s in range(1, self.stages + 1):  # first, so that they begin alike among elements and among what is kept
            members = []
            for cell in self.cells:
                for lane in range(cell.start, cell.start + cell.having[s]):
                    chain = self.lanes[lane].chain
                    block = chain.convolutions + s - 1 - (self.stages - chain.depth)
                    members.append(Member(lane, block, chain.blocks[block], cell.width, cell.batch))
            self.hidden[s] = self._stage(members)
        sizes = [lane.chain.sizes(self.shape) for lane in self.lanes]
        for i in range(max((lane.chain.convolutions for lane in self.lanes), default=0)):
            members = []
            for lane, own in enumerate(self.lanes):
                if i < own.chain.convolutions:
                    kernels = own.chain.blocks[i]
                    members.append(Member(lane, i, kernels, kernels.outputs, own.batch, *sizes[lane][i]))
            self.convolved.append(self._stage(members))
        self.cell_samples: list[int] = []
        self.cell_features: list[int] = []
        self.samples = self.features = 0
        for cell in self.cells:
            self.cell_samples.append(self.samples)
            self.cell_features.append(self.features)
            self.samples += len(cell) * cell.batch
            self.features += len(cell) * cell.batch * cell.inputs
        batches = [lane.batch for lane in self.lanes]
        self.sample_lanes: Index = np.repeat(np.arange(len(batches)), batches)
        self.sample_numbers: Index = np.concatenate([np.arange(n) for n in batches] or [np.zeros(0, np.int64)])

    def _stage(self, members: Sequence[Member]) -> Stage:
        stage = Stage(len(self.hidden) + len(self.convolved) + 1, members, self.elements, self.kept)
        self.elements, self.kept = stage.elements.stop, stage.kept_elements.stop
        return stage

    @property
    def all_stages(self) -> list[Stage]:
        return [*self.hidden.values(), *self.convolved]

    @property
    def pools(self) -> bool:
        """Whether any lane pools images."""
        return any(block.pool is not None for lane in self.lanes for block in lane.chain.blocks)

    def member_of(self, lane: int, block: int) -> Member:
        """Of a block that is not the last."""
        return self._stage_of(lane, block).by_lane[lane]

    def _stage_of(self, lane: int, block: int) -> Stage:
        chain = self.lanes[lane].chain
        if block < chain.convolutions:
            return self.convolved[block]
        return self.hidden[self.stages - chain.depth + block - chain.convolutions + 1]

    # Weights ------------------------------------------------------------------------------------------

    def _place_matrices(self) -> None:
        """Of each cell: the first matrices of lanes that have hidden blocks, each stage's others, the last ones, and
        those of lanes that have no other. Then the convolutions', stage by stage, lane by lane."""
        self.matrices: dict[tuple[int, str, int], Matrices] = {}
        self.kernels: dict[tuple[int, int], Matrices] = {}  # by lane and block
        self.matrix_pages = 0
        for cell in self.cells:
            self.matrices[cell.number, "first", 1] = self._matrices(cell.deep, cell.width, cell.inputs)
            for s in range(2, self.stages + 1):
                self.matrices[cell.number, "hidden", s] = self._matrices(cell.having[s - 1], cell.width, cell.width)
            self.matrices[cell.number, "last", 0] = self._matrices(cell.deep, self.outputs, cell.width)
            self.matrices[cell.number, "only", 0] = self._matrices(len(cell) - cell.deep, self.outputs, cell.inputs)
        for stage in self.convolved:
            for member in stage.members:
                outputs, *inputs = member.block.weight_shape
                self.kernels[member.lane, member.number] = self._matrices(1, outputs, math.prod(inputs))

    def _matrices(self, lanes: int, outputs: int, inputs: int) -> Matrices:
        pages = -(-outputs * inputs // MATRIX_PAGE)
        first = self.matrix_pages
        self.matrix_pages += lanes * pages
        return Matrices(first, lanes, pages, outputs, inputs)

    def matrix_pages_of(self, lane: int, block: int) -> slice:
        """The pages of a block's matrix."""
        cell, chain = self.cell_of[lane], self.lanes[lane].chain
        place = lane - cell.start
        if block < chain.convolutions:
            among, place = self.kernels[lane, block], 0
        elif chain.depth == 0:
            among, place = self.matrices[cell.number, "only", 0], place - cell.deep
        elif block == len(chain.blocks) - 1:
            among = self.matrices[cell.number, "last", 0]
        elif block == chain.convolutions:
            among = self.matrices[cell.number, "first", 1]
        else:
            s = self.stages - chain.depth + block - chain.convolutions + 1
            among = self.matrices[cell.number, "hidden", s]
        first = among.page + place * among.pages
        return slice(first, first + among.pages)

    def _place_vectors(self) -> None:
        self.vectors: dict[tuple[str, int], slice] = {}  # pages, by kind and stage; of 0 the outputs' biases
        self.vector_pages = self.running_pages = 0
        for stage in self.all_stages:
            pages = stage.slots // VECTOR_PAGE
            for kind in TRAINED:
                self.vectors[kind, stage.number] = slice(self.vector_pages, self.vector_pages + pages)
                self.vector_pages += pages
            for kind in RUNNING:
                self.vectors[kind, stage.number] = slice(self.running_pages, self.running_pages + pages)
                self.running_pages += pages
        self.output_pages = -(-self.outputs // VECTOR_PAGE)  # of a lane
        first_page = self.vector_pages
        self.vector_pages += len(self.lanes) * self.output_pages
        self.vectors["bias", 0] = slice(first_page, self.vector_pages)

    def vector_pages_of(self, lane: int, block: int, kind: str) -> slice:
        """The pages of a vector of a lane's block."""
        if block == len(self.lanes[lane].chain.blocks) - 1:
            first = self.vectors["bias", 0].start + lane * self.output_pages
            return slice(first, first + self.output_pages)
        stage = self._stage_of(lane, block)
        member = stage.by_lane[lane]
        first = self.vectors[kind, stage.number].start + member.slot // VECTOR_PAGE
        return slice(first, first + member.slots // VECTOR_PAGE)

    def pages_of(self, lane: int) -> LanePages:
        matrices, vectors, running = [], [], []
        last = len(self.lanes[lane].chain.blocks) - 1
        for block in range(last + 1):
            matrices.append(_range(self.matrix_pages_of(lane, block)))
            for kind in TRAINED if block < last else ("bias",):
                vectors.append(_range(self.vector_pages_of(lane, block, kind)))
            for kind in RUNNING if block < last else ():
                running.append(_range(self.vector_pages_of(lane, block, kind)))
        none = [np.zeros(0, np.int64)]
        return LanePages(*(np.concatenate(found + none) for found in (matrices, vectors, running)))


def _place(lane: Padded) -> tuple[object, ...]:
    """What lanes are sorted by: like ones lie next to each other."""
    chain = lane.chain
    kinds = [repr(block.activation) for block in chain.blocks[:-1]]
    images = [
        (block.outputs, block.norm is not None, repr((block.convolution, block.groups, block.pool)))
        for block in chain.blocks[: chain.convolutions]
    ]
    return lane.batch, lane.width, chain.features, -chain.depth, images, lane.rule, kinds


def _range(pages: slice) -> Index:
    return np.arange(pages.start, pages.stop)
