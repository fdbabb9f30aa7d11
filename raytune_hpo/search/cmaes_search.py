"""CmaEsSearch: CMA-ES, the covariance matrix adaptation evolution strategy, on the library `cmaes`.

Hansen, "The CMA Evolution Strategy: A Tutorial" (2016), arXiv:1604.00772. The library's normal distribution
lives on the coordinates of the numbers (Float, Int, ordered Choice) in the unit cube, each in its own scale.
What is ours, and why:

- No generation is waited for. Suggestions are drawn from the newest distribution at any time, and every
  `population` finished trials, in the order in which they finished and whichever distribution they come
  from, are one update. So the distribution is a function of the history alone.
- A late trial, a start point or a random config may lie far outside of the distribution: for the update it is
  drawn nearer to the mean (Hansen, "Injecting External Solutions Into CMA-ES", 2011, arXiv:1110.4181).
- What a config does not say is drawn at random for the update: the place within the cell of an Int or
  ordered Choice, so that the distribution never shrinks to a point inside a cell, from where it could not leave;
  and an inactive number, from the distribution itself, so that the selection is neutral to it.
- Unordered choices are copied, all together, from one of the best trials; in `mutation` of the suggestions
  one of them is drawn anew.
- Only the order of losses counts. A failed trial is the last; a generation of failed trials is no update. Trials that
  were stopped stand where they are expected to at max_epochs (`fidelity`), as it looks when their generation is full;
  paused and running ones are in none.
- A distribution that has shrunk to a point starts again elsewhere with twice the population
  (IPOP, Auger & Hansen, 2005).

Notations
    D        the number of numbers
    point    [D] coordinates in [0, 1]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.options import option
from raytune_hpo.search.algorithm import SearchAlgorithm, SearchOptions
from raytune_hpo.search.history import Suggestion
from raytune_hpo.search.limits import check_size
from raytune_hpo.seeding import derive_seed, generator
from raytune_hpo.space import Vector
from raytune_hpo.space.configs import Config

POINT = 1e-5  # a distribution whose standard deviations are all smaller has shrunk to a point
MOST_TRIES, MULTIPLICATIONS = 100, 2 * 10**8  # to draw a point within the cube
MOST_NUMBERS = 500
MODEL_ATTEMPTS = 8  # a config that was suggested before is drawn again from the distribution, then at random


class CmaEsSearch(SearchAlgorithm):
    """The distribution of the numbers, and the unordered choices of the best. MOST_NUMBERS numbers at most."""

    @dataclass(frozen=True)
    class Options(SearchOptions):
        n_initial: int = option(
            10,
            low=1,
            high=100_000,
            doc="random configs until so many trials are finished, the best of which is the first mean",
        )
        sigma: float = option(
            0.15,
            low=0.0,
            high=10.0,
            open_low=True,
            doc="the first standard deviation, as a share of the side of the cube",
        )
        population: int | None = option(
            None, low=4, high=100_000, doc="finished trials per update, 4 + floor(3 ln D) unless given"
        )
        mutation: float = option(
            0.2, low=0.0, high=1.0, doc="the share of suggestions with an unordered choice drawn anew"
        )

    name = "cmaes"
    uses_evidence = "starts"
    options: Options

    def prepare(self) -> None:
        parameters = [self.space.parameters[path] for path in self.space.paths]
        self._unordered = [i for i, p in enumerate(parameters) if p.categories]
        self._numbers = [i for i in range(len(parameters)) if i not in self._unordered]
        check_size(self.name, len(self._numbers), MOST_NUMBERS, "numbers")
        self._floats = [d for d, i in enumerate(self._numbers) if parameters[i].n is None]
        self._reached: tuple[int, Any] = (0, None)  # (finished trials told, the library's optimizer): a cache

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config:
        if len(self.order) < self.options.n_initial or attempt >= MODEL_ATTEMPTS:
            return self.space.sample(rng)
        units = self._choices(rng)
        if self._numbers:
            units[self._numbers] = draw(self._optimizer(), int(rng.integers(2**32)))
        return self.space.from_unit(units)

    # The unordered choices ------------------------------------------------------------------------

    def _choices(self, rng: np.random.Generator) -> Vector:
        """[parameters] unit coordinates, with the unordered choices of one of the best trials."""
        units = rng.random(len(self.space))
        if self._unordered:
            finished = self.ranked(self.observed())
            donor = finished[int(rng.integers(math.ceil(math.sqrt(len(finished)))))]
            active = self.space.values(donor.config)
            fixed = [i for i in self._unordered if self.space.paths[i] in active]
            if fixed and rng.random() < self.options.mutation:
                del fixed[int(rng.integers(len(fixed)))]
            units[fixed] = donor.unit[fixed]
        return units

    # The distribution of the numbers --------------------------------------------------------------

    def _optimizer(self) -> Any:
        """The library's optimizer after all whole generations of finished trials."""
        told, optimizer = self._reached
        finished = self.observed()
        if optimizer is None:
            told = self.options.n_initial
            best = self.ranked(finished[:told])[0]
            optimizer = self._start(self._point(best, generator(self.seed, "cmaes-start")), self.options.population)
        while len(finished) - told >= optimizer.population_size:
            positions = self.order[told : told + optimizer.population_size]
            told += optimizer.population_size
            if all(self.history[i].failed for i in positions):
                continue
            # By those that have finished so far, so that a generation looks the same at any later time.
            scores = self.expected(finished[:told])[-len(positions) :]
            with np.errstate(all="ignore"):  # a failed trial's infinite loss, less another's
                optimizer.tell([(self._told(i, optimizer), float(v)) for i, v in zip(positions, scores, strict=True)])
                if self._shrunk(optimizer) or optimizer.should_stop():
                    mean = generator(self.seed, "cmaes-restart", told).random(optimizer.dim)
                    optimizer = self._start(mean, 2 * optimizer.population_size)
        self._reached = (told, optimizer)
        return optimizer

    def _start(self, mean: Vector, population: int | None) -> Any:
        from cmaes import CMA

        return CMA(
            mean=mean.clip(0.0, 1.0),
            sigma=self.options.sigma,
            bounds=np.tile([0.0, 1.0], (len(mean), 1)),
            population_size=population,
            # Every try multiplies two matrices; in so many dimensions hardly one of them lies in the cube.
            n_max_resampling=max(1, min(MOST_TRIES, MULTIPLICATIONS // len(mean) ** 3)),
            seed=0,
        )

    def _shrunk(self, optimizer: Any) -> bool:
        deviations = np.sqrt(np.diag(covariance(optimizer)))[self._floats]
        return len(deviations) > 0 and bool((deviations < POINT).all())

    def _point(self, suggestion: Suggestion, rng: np.random.Generator, inactive: Vector | None = None) -> Vector:
        """The point [D] of a config, with what the config does not say drawn at random, or taken from `inactive`."""
        point = rng.random(len(self._numbers)) if inactive is None else inactive
        values = self.space.values(suggestion.config)
        for d, i in enumerate(self._numbers):
            path = self.space.paths[i]
            if path in values:
                low, high = self.space.parameters[path].cell(values[path])
                point[d] = low + rng.random() * (high - low)
        return point

    def _told(self, position: int, optimizer: Any) -> Vector:
        """The point [D] for the trial at `position` in the history, not too far from the mean."""
        inactive = optimizer.mean.copy()
        if len(self.space.values(self.history[position].config)) < len(self.space):
            inactive = draw(optimizer, derive_seed(self.seed, "cmaes-inactive", position))
        point = self._point(self.history[position], generator(self.seed, "cmaes-point", position), inactive)
        away, dimensions = point - optimizer.mean, len(point)
        distance = math.sqrt(away @ np.linalg.solve(covariance(optimizer), away))
        limit = math.sqrt(dimensions) + 2 * dimensions / (dimensions + 2)
        told: Vector = optimizer.mean + away * min(1.0, limit / max(distance, limit))
        return told

    # The cache --------------------------------------------------------------------------------------

    def corrected(self) -> None:
        self._reached = (0, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reached": (0, None)}


def draw(optimizer: Any, seed: int) -> Vector:
    """A point [D] from the optimizer's distribution within the cube."""
    optimizer.reseed_rng(seed)
    point: Vector = optimizer.ask()
    return point


def covariance(optimizer: Any) -> Vector:
    """The covariance matrix [D, D]: of what the library keeps to itself, this is all that is read."""
    result: Vector = optimizer._sigma**2 * optimizer._C
    return result
