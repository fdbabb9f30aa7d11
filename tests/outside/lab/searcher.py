"""A searcher: the best config so far with one coordinate drawn anew."""

from dataclasses import dataclass

import numpy as np

from raytune_hpo import SearchAlgorithm, SearchOptions, option


@dataclass(frozen=True)
class HillOptions(SearchOptions):
    n_initial: int = option(3, low=1, doc="random configs until so many trials are finished")


class HillClimb(SearchAlgorithm):
    name = "hill_climb"
    Options = HillOptions

    def propose(self, number: int, attempt: int, rng: np.random.Generator):
        sound = [s for s in self.observed() if not s.failed]
        if len(sound) < self.options.n_initial or attempt > 3:
            return self.space.sample(rng)
        best = min(sound, key=lambda s: s.value)
        unit = best.unit.copy()
        unit[rng.integers(len(unit))] = rng.random()
        return self.space.from_unit(unit)
