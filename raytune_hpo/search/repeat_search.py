"""RepeatSearch: the given configs, each trained several times, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from raytune_hpo.checks import Option
from raytune_hpo.configs import Config
from raytune_hpo.errors import ExperimentError
from raytune_hpo.search.algorithm import Mode, Plan, SearchAlgorithm
from raytune_hpo.space import SearchSpace


class RepeatSearch(SearchAlgorithm):
    """repeats: how often each of the start points is trained.

    All of them come for the first time, then all for the second, and so on: cut short, it has repeated each equally
    often. The same repetition of two configs has the same training seed and the same split of the data
    (`algorithm.Plan.repeat`), so that their difference is paired.
    """

    name = "repeat"
    learns = False
    OPTIONS: ClassVar[Mapping[str, Option]] = {"repeats": Option(int, 5, low=1, high=1000)}
    avoids_duplicates = False

    def __init__(
        self, space: SearchSpace, *, mode: Mode, seed: int, start_points: Sequence[Config] = (), repeats: int = 5
    ) -> None:
        super().__init__(space, mode=mode, seed=seed, start_points=start_points)
        self.repeats = repeats

    def total(self) -> int:
        """Raises ExperimentError where there is nothing to repeat."""
        if not self.start_points:
            raise ExperimentError("start_points", [], "searcher 'repeat' trains these configs: give at least one")
        return len(self.start_points) * self.repeats

    def plan(self, number: int) -> Plan:
        return Plan(repeat=number // max(1, len(self.start_points)))

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config | None:
        if number >= len(self.start_points) * self.repeats:
            return None
        return self.start_points[number % len(self.start_points)]
