"""EvolutionarySearch: an asynchronous steady-state genetic algorithm in the unit cube.

Every suggestion is one child of known trials; there are no generations, so nothing waits for the
slowest trial of one. What is taken from where:

- The population. Half are the best known trials, the other half the most recent of the rest: a good
  trial stays a parent for as long as it is among the best, all others age and die (ageing: Real, Aggarwal,
  Huang & Le, "Regularized Evolution for Image Classifier Architecture Search", 2019, arXiv:1802.01548,
  whose populations of hundreds can do without an elite).
- Parents win tournaments (Goldberg & Deb, 1991): the best of `tournament` members drawn at random.
- Crossover. A child of two parents takes each coordinate from one of them, or a number of a parameter with
  an order from the interval between both and a quarter beyond (BLX, Eshelman & Schaffer, 1993).
- Mutation. One coordinate in D on average, at least one of a child of one parent, moves by a normal
  step whose size is drawn log-uniformly between STEPS (as in the breeder genetic algorithm, Muhlenbein &
  Schlierkamp-Voosen, 1993: large and small steps at any time, and no step size to adapt), reflected at the
  ends of the cube. An Int or ordered Choice moves by a cell at least; an unordered Choice is drawn anew
  from its other options.
- Conditions. A parameter that is active in the child but in none of its parents is drawn at random.
- A trial that was stopped, is paused or runs is a parent like any other, ranked by what is expected of it at
  max_epochs (`fidelity`), as soon as it has shown something. A failed trial ranks behind every other.

Notations
    D      the number of parameters
    genes  [D] unit coordinates, in the order of `space.paths`; NaN where inactive
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from raytune_hpo.options import option
from raytune_hpo.search.algorithm import SearchAlgorithm, SearchOptions
from raytune_hpo.search.history import Suggestion
from raytune_hpo.space import Vector
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import BELOW_ONE, Parameter

STEPS = (0.003, 0.3)  # of the side of the cube, from the finest step of a mutation to the coarsest
BEYOND = 0.25  # how far a blend reaches beyond its parents, as a share of their distance


class EvolutionarySearch(SearchAlgorithm):
    """Every suggestion is one child of the population."""

    @dataclass(frozen=True)
    class Options(SearchOptions):
        n_initial: int = option(10, low=1, high=100_000, doc="random configs until so many trials have shown something")
        population: int = option(10, low=2, high=100_000, doc="trials that can be parents")
        tournament: int = option(5, low=1, high=100_000, doc="of so many the best becomes a parent (more is greedier)")
        crossover: float = option(0.5, low=0.0, high=1.0, doc="the share of children with two parents")
        mutation: float = option(1.0, low=0.0, high=1000.0, doc="the expected number of mutated parameters of a child")

    name = "evolutionary"
    uses_evidence = "starts"
    options: Options

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config:
        if len(self.known()) < self.options.n_initial:
            return self.space.sample(rng)
        members = self.members()
        genes = self._parent(members, rng)
        crossed = len(members) > 1 and rng.random() < self.options.crossover
        if crossed:
            genes = self._cross(genes, self._parent(members, rng), rng)
        genes = self._mutated(genes, rng, at_least_one=not crossed)
        return self.space.from_unit(np.where(np.isnan(genes), rng.random(len(genes)), genes))

    def members(self) -> list[Suggestion]:
        """The population, the best first: the better half, and the most recently suggested of the others."""
        known, size = self.known(), self.options.population
        ranked = self.ranked(known)
        best = ranked[: math.ceil(size / 2)]
        chosen = {s.trial_id for s in best}
        others = [s for s in known if s.trial_id not in chosen]
        chosen.update(s.trial_id for s in others[len(best) - size :] if size > len(best))
        return [s for s in ranked if s.trial_id in chosen]

    def _parent(self, members: list[Suggestion], rng: np.random.Generator) -> Vector:
        """The genes of a tournament's winner."""
        return self.space.to_unit(self._winner(members, rng).config, inactive=math.nan)

    def _winner(self, members: list[Suggestion], rng: np.random.Generator) -> Suggestion:
        drawn = rng.choice(len(members), size=min(self.options.tournament, len(members)), replace=False)
        return members[int(drawn.min())]

    def _cross(self, one: Vector, other: Vector, rng: np.random.Generator) -> Vector:
        """Genes of both parents; where only one of them has any, that one's."""
        picked = np.where(rng.random(len(one)) < 0.5, one, other)
        blended = one + rng.uniform(-BEYOND, 1 + BEYOND, size=len(one)) * (other - one)
        ordered = np.array([not self.space.parameters[p].categories for p in self.space.paths])
        blends = ordered & (rng.random(len(one)) < 0.5)
        child = np.where(blends, reflected(blended), picked)
        return np.where(np.isnan(one), other, np.where(np.isnan(other), one, child))

    def _mutated(self, genes: Vector, rng: np.random.Generator, *, at_least_one: bool) -> Vector:
        active = np.flatnonzero(~np.isnan(genes))
        chosen = active[rng.random(len(active)) < self.options.mutation / len(active)]
        if not len(chosen) and at_least_one:
            chosen = active[[int(rng.integers(len(active)))]]
        genes = genes.copy()
        low, high = np.log(STEPS)
        for i in chosen:
            step = math.exp(rng.uniform(low, high)) * rng.standard_normal()
            genes[i] = mutated(self.space.parameters[self.space.paths[i]], float(genes[i]), step, rng)
        return genes


def mutated(parameter: Parameter, unit: float, step: float, rng: np.random.Generator) -> float:
    """`unit` moved by `step`, to another value wherever the parameter has a finite number of them."""
    if parameter.n is None:
        return float(reflected(np.array(unit + step)))
    if parameter.categories:
        index, shift = int(unit * parameter.n), int(rng.integers(1, parameter.n))
        return ((index + shift) % parameter.n + 0.5) / parameter.n
    value = parameter.from_unit(unit)
    moved = parameter.from_unit(float(reflected(np.array(unit + step))))
    if moved == value:
        index, way = parameter.index_of(value), 1 if step > 0 else -1
        moved = parameter.value_at(index + way if 0 <= index + way < parameter.n else index - way)
    return parameter.to_unit(moved)


def reflected(units: Vector) -> Vector:
    """Coordinates beyond an end of [0, 1) thrown back into it."""
    folded: Vector = np.abs((units + 1) % 2 - 1)
    return np.minimum(folded, BELOW_ONE)
