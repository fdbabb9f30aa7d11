"""Digits that can change behind a run's back. A module of its own, since workers import it."""

from __future__ import annotations

from dataclasses import dataclass

from raytune_hpo import Split, Splits
from raytune_hpo.seeding import generator
from raytune_hpo.tasks import Digits


@dataclass(frozen=True)
class ChangingDigits(Digits):
    """gain: the images' values are that much larger. shuffled: the labels mean nothing."""

    gain: float = 1.0
    shuffled: bool = False

    def load(self, seed: int) -> Splits:
        splits = super().load(seed)
        parts = {name: self._changed(getattr(splits, name), name) for name in ("train", "validation", "test")}
        return Splits(**parts)

    def _changed(self, split: Split, name: str) -> Split:
        y = generator(0, "shuffled", name).permutation(split.y) if self.shuffled else split.y
        return Split(split.x * self.gain, y)
