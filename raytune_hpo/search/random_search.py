"""RandomSearch: independent uniform draws, or a scrambled Sobol sequence, in every parameter's own scale.

Sobol: Owen-scrambled (LMS + shift) points of Joe & Kuo (2008) from scipy.stats.qmc: they fill the cube
more evenly than independent draws do, which pays in few effective dimensions (Bergstra & Bengio, 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.options import option
from raytune_hpo.search.algorithm import SearchAlgorithm, SearchOptions
from raytune_hpo.seeding import derive_seed
from raytune_hpo.space.configs import Config

MOST_SOBOL = 21_201  # direction numbers that SciPy has


class RandomSearch(SearchAlgorithm):
    """Config number i depends on the seed and on i alone. A Sobol sequence has MOST_SOBOL parameters at most."""

    @dataclass(frozen=True)
    class Options(SearchOptions):
        sampler: str = option("uniform", choices=("uniform", "sobol"), doc="independent draws, or a Sobol sequence")

    name = "random"
    learns = False
    options: Options

    def prepare(self) -> None:
        if self.options.sampler == "sobol" and len(self.space) > MOST_SOBOL:
            expected = f"has {MOST_SOBOL:,} parameters at most, and this space has {len(self.space):,}: take uniform"
            raise ExperimentError("searcher.sampler", "sobol", expected)
        self._sobol: Any = None

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config:
        # A Sobol point that repeats a config (finite spaces) is replaced by a uniform one.
        if self.options.sampler == "uniform" or attempt > 0:
            return self.space.sample(rng)
        return self.space.from_unit(self._sobol_point(number + self.passed_over))

    def _sobol_point(self, number: int) -> list[float]:
        if self._sobol is None:
            from scipy.stats import qmc

            self._sobol = qmc.Sobol(len(self.space), scramble=True, seed=derive_seed(self.seed, "sobol"))
        if self._sobol.num_generated > number:
            self._sobol.reset()
        if self._sobol.num_generated < number:
            self._sobol.fast_forward(number - self._sobol.num_generated)
        return [float(u) for u in self._sobol.random(1)[0]]
