"""Stages: like blocks of many lanes, of which everything that works on elements is one operation.

Notations
    element  a number of the activations; a lane's in a stage are [rows, samples], of images [samples, rows, pixels],
             as convolutions take them
    row      a feature of a lane, or a channel
    slot     a number of a vector of a lane: 16 of them to a page, the last page padded
    kept     what is left after max-pooling
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from raytune_hpo.training.lanes.mixed.chain import Block, Pair

VECTOR_PAGE = 16

Index = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Member:
    """A lane's block in a stage. rows: its features, padded; samples: its mini-batch, padded. size, kept_size: of its
    images, (1, 1) where there are none. element, kept, slot: where its own begin."""

    lane: int
    number: int  # of the block
    block: Block
    rows: int
    samples: int
    size: Pair = (1, 1)
    kept_size: Pair = (1, 1)
    element: int = 0
    kept: int = 0
    slot: int = 0

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def of_images(self) -> bool:
        return self.block.convolution is not None

    @property
    def slots(self) -> int:
        return -(-self.rows // VECTOR_PAGE) * VECTOR_PAGE

    @property
    def elements(self) -> slice:
        return slice(self.element, self.element + self.rows * self.samples * self.pixels)

    @property
    def kept_elements(self) -> slice:
        pixels = self.kept_size[0] * self.kept_size[1]
        return slice(self.kept, self.kept + self.rows * self.samples * pixels)


@dataclass(frozen=True)
class Strip:
    """Neighbouring rows of one length from an element on, [count, features, samples], or of images [count, samples,
    features, pixels]. Their vectors are [count, features] from a slot on, `apart` slots from one to the next. lanes:
    [count * features], of each row; of images [count]."""

    count: int
    features: int
    samples: int
    pixels: int
    of_images: bool
    element: int
    slot: int
    apart: int
    lanes: Index

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.count, self.features, self.samples, self.pixels

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Of [count, features, samples, pixels]."""
        _, f, n, p = self.shape
        return (f * n * p, p, f * p, 1) if self.of_images else (f * n * p, n * p, p, 1)


class Stage:
    """members: in the order of their lanes. element, kept: where they begin. number: of all stages, from 1."""

    def __init__(self, number: int, members: Sequence[Member], element: int, kept: int) -> None:
        self.number = number
        self.members: list[Member] = []
        first, first_kept, slot = element, kept, 0
        for member in members:
            own = Member(
                *(member.lane, member.number, member.block, member.rows, member.samples),
                *(member.size, member.kept_size, element, kept, slot),
            )
            self.members.append(own)
            element, kept, slot = own.elements.stop, own.kept_elements.stop, slot + own.slots
        self.elements, self.kept_elements = slice(first, element), slice(first_kept, kept)
        self.slots = slot
        lanes = [np.full(member.slots, member.lane) for member in self.members]
        #: [slots]: the lane of each.
        self.slot_lanes: Index = np.concatenate([*lanes, np.zeros(0, np.int64)])
        self.strips = tuple(self._strips())
        self.of_images = bool(self.members) and self.members[0].of_images
        self.by_lane = {member.lane: member for member in self.members}

    def _strips(self) -> Iterator[Strip]:
        """Of all lanes' linear blocks, whatever their widths, one a batch size; of images one a kind."""

        def kind(member: Member) -> tuple[int, ...]:
            if not member.of_images:
                return (member.samples,)
            return member.samples, member.pixels, member.rows, member.block.norm is not None

        for _, found in itertools.groupby(self.members, key=kind):
            members = list(found)
            one, rows = members[0], [member.rows for member in members]
            lanes = np.array([member.lane for member in members])
            if one.of_images:
                sizes = (len(members), one.rows, one.samples, one.pixels)
                yield Strip(*sizes, True, one.element, one.slot, one.slots, lanes)
            else:
                sizes = (1, sum(rows), one.samples, 1)
                yield Strip(*sizes, False, one.element, one.slot, sum(rows), np.repeat(lanes, rows))
