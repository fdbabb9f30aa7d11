"""What was learned elsewhere, as the mean that a model of this run's trials begins from.

    Evidence -> by source, a History of its own -> its ConfigModel -> a column of predictions
             -> targets of this run = level + weight * column of each source + what the surrogate learns

- Losses of different sources are never compared: each has a scale of its own, mostly the share of the space that it
  says is worse. So it points to a region and says little of what is best there: what leads on one task by a little need
  not lead on another. Its level here is free.
- Its weight is a regression's, drawn towards 1, of all sources together, as if little were known. A source with less
  than TRUST of its share after this run's trials is left out: what is wrong here costs a few trials.

After the linear mean functions of Rasmussen & Williams 2006, section 2.7; Golovin et al., "Google Vizier" 2017, section
3.3, stacks models in the same way, without the regression. That only a region is taken is the way of Perrone, Shen,
Seeger, Archambeau & Jenatton, "Learning search spaces for Bayesian optimization", 2019, arXiv:1909.12552.

Notations: as in `config_model`, with
    B   sources
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from raytune_hpo.search.config_model import Belief, ConfigModel, Mean
from raytune_hpo.search.evidence import Evidence, by_source, extent, history_of
from raytune_hpo.search.history import Suggestion
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace, Vector

# Chosen on the recorded tasks of benchmarks/warm_start.py, in few steps: TRUST 0.2 and TAIL 0.1 to 1 do nearly as well.
SPREAD = 1.0  # deviation of a weight about 1 / B, before anything is known
NOISE = 1.0  # deviation of a target about the sources' mean, in the targets' own units
LEVEL = 10.0  # deviation of the level
TRUST = 0.4
TAIL = 0.3  # of the normal scores, beside the share of the space: what it weighs to lead by far
#: One of so many suggestions is random until enough are known: by these a source is tested.
LOOK_ROUND = 3
POINTS = 512  # of the space, by which its shares are told


class SourceModels:
    """The `Prior` of one search. surrogate, limit: as for ConfigModel."""

    def __init__(self, space: SearchSpace, surrogate: str, seed: int, limit: int | None) -> None:
        self._space, self._surrogate, self._seed, self._limit = space, surrogate, seed, limit
        self._beliefs: list[Belief] = []
        self._scales: list[Vector] = []  # [POINTS] of each, rising
        self.version = 0  # so much evidence is in it

    def learn(self, evidence: Sequence[Evidence]) -> None:
        """All that there is: nothing is done where nothing has come since."""
        if self.version == extent(evidence):
            return
        self._beliefs, self._scales, self.version = [], [], extent(evidence)
        for own in by_source(evidence):
            history = history_of(self._space, own)
            model = ConfigModel(self._space, history.levels, self._surrogate, self._seed, self._limit)
            belief = model.belief(history, (), generator(self._seed, "source", len(own)))
            units = generator(self._seed, "source scale").random((POINTS, len(self._space)))
            anywhere = model.encoding.encode(model.encoding.snap(units))
            self._beliefs.append(belief)
            self._scales.append(np.sort(_mean_of(belief, anywhere)))

    def predictions(self, codes: Vector) -> Vector:
        """[m, B] what each source says of codes [m, E] at its last epoch, to be maximized."""
        shares = (np.arange(POINTS) + 0.5) / POINTS
        found = []
        for belief, scale in zip(self._beliefs, self._scales, strict=True):
            scores = _mean_of(belief, codes)
            worse = np.interp(scores, scale, shares)
            found.append(math.sqrt(12.0) * (worse - 0.5) + TAIL * scores)  # of unit variance, and a little
        return np.column_stack(found)

    def best(self, count: int) -> list[Suggestion]:
        """The best `count` configs of each source, as tried there."""
        return [one for belief in self._beliefs for one in belief.tried[:count]]

    def mean(self, codes: Vector, targets: Vector) -> Mean | None:
        """None where no source is borne out."""
        kept, weights = self._borne_out(codes, targets)
        if not kept:
            return None
        return lambda rows: weights[0] + self.predictions(rows)[:, kept] @ weights[1:]

    def borne_out(self, codes: Vector, targets: Vector) -> list[int]:
        """The numbers of the sources that targets [n] of codes [n, E] bear out."""
        return self._borne_out(codes, targets)[0]

    def _borne_out(self, codes: Vector, targets: Vector) -> tuple[list[int], Vector]:
        """With the level and their weights."""
        columns = self.predictions(codes)
        kept = list(range(columns.shape[1]))
        weights = np.zeros(1)
        while kept:
            weights = _regression(columns[:, kept], targets)
            left = [i for i, weight in zip(kept, weights[1:], strict=True) if weight > TRUST / len(kept)]
            if left == kept:
                break
            kept = left
        return kept, weights

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_beliefs": [], "_scales": [], "version": 0}


def _mean_of(belief: Belief, codes: Vector) -> Vector:
    found: Vector = belief.moments(codes)[0].mean(axis=0)
    return found


def _regression(columns: Vector, targets: Vector) -> Vector:
    """[1 + B]: the level, and the weight of each of the columns [n, B], of targets [n]."""
    sources = columns.shape[1]
    design = np.column_stack([np.ones(len(targets)), columns])
    before = np.array([0.0, *[1.0 / sources] * sources])
    precision = np.array([LEVEL**-2, *[SPREAD**-2] * sources])
    known = design.T @ design / NOISE**2 + np.diag(precision)
    found: Vector = np.linalg.solve(known, design.T @ targets / NOISE**2 + precision * before)
    return found
