"""RepeatSearch: the given configs, each trained several times, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.options import option
from raytune_hpo.search.algorithm import Plan, SearchAlgorithm, SearchOptions
from raytune_hpo.space.configs import Config


class RepeatSearch(SearchAlgorithm):
    """All start points come for the first time, then all for the second, and so on: cut short, it has repeated each
    equally often. The same repetition of two configs has the same training seed and the same split of the data
    (`algorithm.Plan.repeat`), so that their difference is paired.
    """

    @dataclass(frozen=True)
    class Options(SearchOptions):
        repeats: int = option(5, low=1, high=1000, doc="how often each of the start points is trained")

    name = "repeat"
    learns = False
    avoids_duplicates = False
    options: Options

    def total(self) -> int:
        """Raises ExperimentError where there is nothing to repeat."""
        if not self.start_points:
            raise ExperimentError("start_points", [], "searcher 'repeat' trains these configs: give at least one")
        return len(self.start_points) * self.options.repeats

    def plan_of(self, number: int) -> Plan:
        return Plan(repeat=number // max(1, len(self.start_points)))

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config | None:
        if number >= len(self.start_points) * self.options.repeats:
            return None
        return self.start_points[number % len(self.start_points)]
