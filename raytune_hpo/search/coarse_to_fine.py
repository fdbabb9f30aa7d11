"""CoarseToFine: rounds of random samples, each in a smaller box round the best of the round before, trained longer.

The handbook's way, which Andrew Ng teaches (Deep Learning Specialization, course 2, week 3): a coarse pass over
the whole space with few epochs, then zoom in on the region of the best and sample more densely there. In addition
the best configs of a round are carried over into the next one and trained on from their checkpoints, as
successive halving does (Jamieson & Talwalkar, 2016, arXiv:1502.07943). How a box is shrunk: search/box.py.

A round begins when every trial of the one before has ended; until then the search waits. Only the trials of one round,
carried ones included, are compared with one another: they are trained equally long. So the suggestions depend
on the results alone, not on the order or the number of workers that they came in with.

Notations
    round     0-based; holds `samples` suggestions, start points first in round 0, carried ones first in the others
    share     of max_epochs that a round trains, growth ** (round - rounds + 1): the last one all
    elite     the best share `quantile` of a round's trials that did not fail
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.options import option
from raytune_hpo.search.algorithm import WAIT, Plan, SearchAlgorithm, SearchOptions, Signal
from raytune_hpo.search.box import Box
from raytune_hpo.search.history import Suggestion
from raytune_hpo.seeding import derive_seed
from raytune_hpo.space import Vector
from raytune_hpo.space.configs import Config
from raytune_hpo.space.grid import number_of_configs

MOST_COUNTED = 10_000  # a space with more configs than this is not expected to be used up


def share(number: int, rounds: int, growth: float) -> float:
    """The share of max_epochs that round `number` trains."""
    return float(growth ** (number - rounds + 1))


@dataclass(frozen=True)
class Round:
    """A round that has begun: suggestions first..end-1, `carried` trained on and the rest drawn from `box`.

    unseen: how many configs of the space are new after it.
    """

    number: int
    first: int
    end: int
    carried: list[Suggestion]
    box: Box
    unseen: float


class CoarseToFine(SearchAlgorithm):
    """A random search whose box shrinks from round to round, while its trials grow longer. Trials of a round that a
    scheduler has stopped are ranked by what is expected of them at its end (`fidelity`)."""

    @dataclass(frozen=True)
    class Options(SearchOptions):
        rounds: int = option(5, low=1, high=100, doc="of `samples` suggestions each")
        samples: int = option(20, low=1, high=100_000, doc="suggestions of a round")
        quantile: float = option(
            0.25, low=0.0, high=1.0, open_low=True, doc="the share of a round that the next box is put round"
        )
        shrink: float = option(
            0.5, low=0.0, high=1.0, open_low=True, doc="the smallest share of a side that is left by a round"
        )
        growth: float = option(
            2.0, low=1.0, high=1000.0, doc="how many times longer a round trains than the one before"
        )
        carry: float = option(
            0.125,
            low=0.0,
            high=1.0,
            open_high=True,
            doc="the share of `samples` that are the best configs of the round before, trained on (none with growth 1, "
            "where there is nothing to train on)",
        )
        sampler: str = option("uniform", choices=("uniform", "sobol"), doc="independent draws, or a Sobol sequence")

    name = "coarse_to_fine"
    uses_evidence = "starts"
    learns = False  # within a round; and from round to round it waits by itself
    plans_budgets = True
    options: Options

    def prepare(self) -> None:
        o = self.options
        self.carried = min(math.ceil(o.carry * o.samples), o.samples - 1) if o.growth > 1 else 0
        self._begun: list[Round] = []  # derived from the history, and made again when that is replaced
        self._sobol: tuple[int, Any] = (-1, None)  # the round, its sequence

    @classmethod
    def check_epochs(cls, options: SearchOptions, max_epochs: int) -> None:
        """Each round must train longer than the one before, or what is carried over has nothing to train."""
        assert isinstance(options, cls.Options)
        rounds, growth = options.rounds, options.growth
        epochs = [math.ceil(share(r, rounds, growth) * max_epochs) for r in range(rounds)]
        if growth > 1 and options.carry > 0 and len(set(epochs)) < rounds:
            listed = ", ".join(map(str, epochs))
            expected = (
                f"with max_epochs = {max_epochs}, the rounds would train {listed} epochs, and each must train longer "
                "than the one before; use fewer rounds, another growth, or carry=0"
            )
            raise ExperimentError("searcher.rounds", rounds, expected)

    @classmethod
    def expected_share(cls, options: SearchOptions) -> float:
        assert isinstance(options, cls.Options)
        rounds = options.rounds
        return sum(share(number, rounds, options.growth) for number in range(rounds)) / rounds

    def total(self) -> int:
        """The number of suggestions, if in every round enough trials succeed to be carried over."""
        ends = size = self._size_of_first()
        unseen = self._configs - size
        for _ in range(self.options.rounds - 1):
            carried = min(self.carried, size)
            new = self._new(carried, unseen)
            size, unseen = carried + new, unseen - new
            ends += size
        return ends

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config | Signal | None:
        found = self._round(number)
        if not isinstance(found, Round):
            return found
        index = number - found.first - len(found.carried)
        if index < 0:
            return found.carried[index].config
        # A Sobol point that repeats a config (finite spaces) is replaced by a uniform one.
        if self.options.sampler == "uniform" or attempt > 0:
            return found.box.config(rng.random(len(self.space)))
        return found.box.config(self._sobol_point(found.number, index))

    def plan_of(self, number: int) -> Plan:
        """The first plan of a round notes what the round is."""
        found = self._round(number)
        if not isinstance(found, Round):
            return Plan()
        index, note = number - found.first, None
        epochs_share = share(found.number, self.options.rounds, self.options.growth)
        parent = found.carried[index].trial_id if index < len(found.carried) else None
        if index == 0:
            carried = [s.trial_id for s in found.carried]
            note = {"round": found.number, "epochs_share": epochs_share, "carried": carried, "box": found.box.values()}
        return Plan(epochs_share, parent, note=note)

    def begins(self, number: int) -> bool:
        return number < self._size_of_first()

    def corrected(self) -> None:
        self._begun.clear()

    # Rounds -------------------------------------------------------------------------------------------

    @cached_property
    def _configs(self) -> float:
        """The number of configs, if there are so few that the rounds may use them up."""
        size = number_of_configs(self.space, limit=min(self.options.rounds * self.options.samples, MOST_COUNTED))
        return math.inf if size is None else size

    def _size_of_first(self) -> int:
        return max(int(min(self.options.samples, self._configs)), len(self.start_points))

    def _new(self, carried: int, unseen: float) -> int:
        """How many configs are drawn in a round beside the carried ones."""
        return int(max(min(self.options.samples - carried, unseen), 0))

    def _round(self, number: int) -> Round | Signal | None:
        """The round of suggestion `number`; WAIT while the one before it runs, None after the last."""
        begun = self._begun
        if not begun:
            size = self._size_of_first()
            begun.append(Round(0, 0, size, [], Box.whole(self.space), self._configs - size))
        while number >= begun[-1].end:
            if len(begun) == self.options.rounds:
                return None
            if any(s.pending for s in self.history[begun[-1].first : begun[-1].end]):
                return WAIT
            begun.append(self._after(begun[-1]))
        return next(r for r in reversed(begun) if r.first <= number)

    def _after(self, last: Round) -> Round:
        """The round after one whose trials have all ended."""
        trials = self.history[last.first : last.end]
        ranked = self.ranked(trials)
        successes = sum(not s.failed for s in trials)
        units = np.array([self.space.to_unit(s.config, inactive=math.nan) for s in ranked])
        box = last.box.shrunk(
            units, min(math.ceil(self.options.quantile * len(trials)), successes), self.options.shrink
        )
        carried = ranked[: min(self.carried, successes)]
        new = self._new(len(carried), last.unseen)
        return Round(last.number + 1, last.end, last.end + len(carried) + new, carried, box, last.unseen - new)

    def _sobol_point(self, number: int, index: int) -> Vector:
        """Point `index` of round `number`: each has an Owen-scrambled sequence of its own."""
        if self._sobol[0] != number:
            from scipy.stats import qmc

            seed = derive_seed(self.seed, "coarse-to-fine-sobol", number)
            self._sobol = number, qmc.Sobol(len(self.space), scramble=True, seed=seed)
        sequence = self._sobol[1]
        if sequence.num_generated > index:
            sequence.reset()
        if sequence.num_generated < index:
            sequence.fast_forward(index - sequence.num_generated)
        point: Vector = sequence.random(1)[0]
        return point
