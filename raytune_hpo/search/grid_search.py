"""GridSearch: every combination of the parameters' values, in the order of `SearchSpace.grid`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.options import option
from raytune_hpo.search.algorithm import SearchAlgorithm, SearchOptions
from raytune_hpo.space.configs import Config, config_key
from raytune_hpo.space.grid import grid, grid_size

MAX_POINTS = 100_000


class GridSearch(SearchAlgorithm):
    """The start points come first; the grid follows without them. Raises ExperimentError when the grid
    has more than MAX_POINTS points.
    """

    @dataclass(frozen=True)
    class Options(SearchOptions):
        points: int = option(
            5, low=1, high=MAX_POINTS, doc="how many values a Float or Int of more values than that contributes"
        )

    name = "grid"
    learns = False
    options: Options

    def prepare(self) -> None:
        self._given = {config_key(c) for c in self.start_points}
        if self._size() > MAX_POINTS:
            expected = (
                f"the grid would have over {MAX_POINTS:,} points; use fewer values per parameter or another search"
            )
            raise ExperimentError("searcher.points", self.options.points, expected)
        self._total: int | None = None
        self._rest: Iterator[Config] = iter(())
        self._next = -1  # the index in the grid (without the start points) of what `_rest` yields next

    def total(self) -> int:
        """The number of suggestions from the first to the last, start points included."""
        if self._total is None:
            left = sum(1 for _ in self._grid()) if self._given else self._size()
            self._total = len(self.start_points) + left
        return self._total

    def _size(self) -> int:
        return grid_size(self.space, self.options.points, MAX_POINTS)

    def _grid(self) -> Iterator[Config]:
        return (c for c in grid(self.space, self.options.points) if not self._given or config_key(c) not in self._given)

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config | None:
        # `attempt` counts configs that the history holds although this grid did not suggest them.
        index = number - len(self.start_points) + attempt
        if index != self._next:
            self._rest = islice(self._grid(), index, None)
        self._next = index + 1
        return next(self._rest, None)

    def __getstate__(self) -> dict[str, Any]:
        # An iterator cannot be pickled; it is rebuilt from the length of the history.
        return {**self.__dict__, "_rest": iter(()), "_next": -1}
