"""BohbSearch: BOHB's model, to go with the schedulers "hyperband" and "asha".

Falkner, Klein & Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale" (2018,
arXiv:1807.01774). A share of the configs is random; the others come from two kernel density estimates
over the unit cube, one of the good configs and one of the bad: of some draws near good configs, the one
with the largest ratio of the densities is suggested.

- Trials are ranked by what is expected of them at max_epochs (`fidelity`): those that were stopped, are paused or run
  as soon as they have shown something. As many are good as would be of those at the largest budget with enough trials.
- Failed trials are bad ones.
- Parameters that are inactive in a config are filled in from other configs of the same estimate (as the
  authors' HpBandSter does), and left out of the density of a candidate in which they are inactive.
- Running trials without a report yet count as bad (the constant liar of Ginsbourger et al., 2010), and
  candidates beside a running trial come after all others: suggestions made in parallel keep apart.

Ours, where the paper is silent: Gaussian kernels lose nothing at the cube's walls (they are cut there and
normalized), whole numbers and ordered choices have a bandwidth of half a cell at least, and the bandwidth
of an unordered choice is the same rule's for the deviation of its indicators.

Ours, against the paper, which models the largest budget with enough trials and asks no other: all of them at what is
expected of each were better (after 50 trainings' time with asha, a random share of 0.2, on the problems of
benchmarks/search_quality.py: 0.53 of random search's regret, by budgets 0.76). Fewer configs are random, 0.2 for 1/3.
And the deviations behind the bandwidths count one more point that is spread over the cube. Without it the few good
configs that a model starts from, once they lie close together, give a density that is too narrow to leave their place
again. After 60 trials of the contract's functions the log10 regret was -0.4, -0.2, -0.6 without it (random: -0.2,
-0.2, -0.3) and is -1.3, -0.9, -0.7 with it.

Notations: as in `unit_cube`, with
    m   the number of candidates
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raytune_hpo.options import option
from raytune_hpo.search.algorithm import SearchAlgorithm, SearchOptions
from raytune_hpo.search.history import Suggestion
from raytune_hpo.search.limits import check_size
from raytune_hpo.search.unit_cube import CubeEncoding, Mask, indices
from raytune_hpo.space import Vector
from raytune_hpo.space.configs import Config, config_key

MOST_PARAMETERS = 1000
MODEL_ATTEMPTS = 4  # where every candidate was suggested before, others are drawn so often, then random ones
PRIOR = 1.0  # points spread over the cube that the bandwidths count besides the configs
MOST_KERNELS = 300  # of either density: of more configs, ones at even distances in their order
SPARE = 2  # observations beyond min_points that the paper asks for before it builds a model


class BohbSearch(SearchAlgorithm):
    """MOST_PARAMETERS parameters at most."""

    @dataclass(frozen=True)
    class Options(SearchOptions):
        min_points: int | None = option(
            None,
            low=2,
            high=100_000,
            doc="the least size of either set of configs, unless given the number of parameters + 1; there is a model "
            "from min_points + 2 trials on",
        )
        quantile: float = option(0.15, low=0.0, high=0.5, open_low=True, doc="the share of good configs")
        candidates: int = option(64, low=1, high=10_000, doc="draws from the good density per suggestion")
        random_fraction: float = option(0.2, low=0.0, high=1.0, doc="the share of suggestions that are random")
        bandwidth_factor: float = option(
            3.0, low=0.1, high=100.0, doc="by which the draws are wider than the good density"
        )
        min_bandwidth: float = option(1e-3, low=1e-6, high=1.0, doc="of a kernel, in units of the cube")

    name = "bohb"
    uses_evidence = "starts"
    options: Options

    def prepare(self) -> None:
        check_size(self.name, len(self.space), MOST_PARAMETERS, "parameters")
        self._encoding = CubeEncoding(self.space)
        #: [D] the number of options of an unordered Choice, else 0
        self._options = [self.space.parameters[path].categories for path in self.space.paths]

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config:
        if attempt >= MODEL_ATTEMPTS or rng.random() < self.options.random_fraction:
            return self.space.sample(rng)
        sets = self.split()
        if sets is None:
            return self.space.sample(rng)
        good, bad = (self._density(suggestions, rng) for suggestions in sets)
        units = self._encoding.snap(good.sample(self.options.candidates, self.options.bandwidth_factor, rng))
        active = self._active(units)
        ratio = good.log_density(units, active) - bad.log_density(units, active)
        last = self._beside_pending(units, good.widths)
        order = np.lexsort((-ratio, last))
        configs = (self.space.from_unit(units[i]) for i in order)
        return next((c for c in configs if config_key(c) not in self._seen), self.space.from_unit(units[order[0]]))

    # The two sets -------------------------------------------------------------------------------------

    def split(self) -> tuple[list[Suggestion], list[Suggestion]] | None:
        """The good and the bad trials; None as long as there are too few. They overlap where there are few."""
        least = self.options.min_points or len(self.space) + 1
        ranked = self.ranked(self.known())
        passed = sorted((len(s.marks) for s in ranked if not s.failed), reverse=True)
        if len(ranked) < least + SPARE or len(passed) < least:
            return None
        # Those that have passed the highest level that enough have: of the others little is known.
        furthest = sum(n >= passed[least - 1] for n in passed)
        n_good = max(least, int(self.options.quantile * furthest))
        n_bad = max(least, len(ranked) - n_good)
        waiting = [s for s in self.pending() if not s.marks]
        return _thinned(ranked[:n_good]), _thinned(ranked[-n_bad:]) + waiting

    # Their densities ----------------------------------------------------------------------------------

    def _active(self, units: Vector) -> Mask:
        """units [n, D] -> [n, D], whether the parameter is active."""
        active = np.ones(units.shape, dtype=bool)
        for path, mask in self._encoding.active(units).items():
            active[:, self.space.paths.index(path)] = mask
        return active

    def _beside_pending(self, units: Vector, widths: Vector) -> Mask:
        """units [m, D] -> [m], whether a pending trial is within half a kernel's width [D] in every parameter."""
        pending = self.pending()
        if not pending:
            return np.zeros(len(units), dtype=bool)
        others = self._encoding.snap(np.array([s.unit for s in pending]))
        reach = np.where(np.array(self._options) > 0, 1e-9, widths / 2)
        near: Mask = np.any(np.all(np.abs(units[:, None, :] - others) < reach, axis=2), axis=1)
        return near

    def _density(self, suggestions: Sequence[Suggestion], rng: np.random.Generator) -> Density:
        units = self._encoding.snap(np.array([s.unit for s in suggestions]))
        active = self._active(units)
        for column in np.flatnonzero(~active.all(axis=0)):
            absent, present = ~active[:, column], units[active[:, column], column]
            # Where no config has the parameter, any value is as good; of a Choice, the middle of its cell.
            drawn = rng.choice(present, absent.sum()) if len(present) else rng.random(absent.sum())
            units[absent, column] = drawn
        return Density.fit(units, self._options, np.maximum(self.options.min_bandwidth, self._encoding.cells / 2))


def _thinned(trials: list[Suggestion]) -> list[Suggestion]:
    if len(trials) <= MOST_KERNELS:
        return trials
    return [trials[i] for i in np.linspace(0, len(trials) - 1, MOST_KERNELS).round().astype(int)]


@dataclass(frozen=True)
class Density:
    """A kernel density estimate over the unit cube, with a product of kernels at each of n points.

    units [n, D]; options [D]: the number of options of an unordered Choice, else 0; widths [D]: of a number
    the standard deviation of its Gaussian kernel, of an unordered Choice the probability of another option
    (Aitchison & Aitken, 1976).
    """

    units: Vector
    options: Sequence[int]
    widths: Vector

    @classmethod
    def fit(cls, units: Vector, options: Sequence[int], least: Vector) -> Density:
        """With the normal reference rule's widths (1.06 deviations), each at least `least` [D].

        The deviations are those of the n points and PRIOR points spread evenly over the cube.
        """
        n, dimensions = units.shape
        widths = np.empty(dimensions)
        for column, k in enumerate(options):
            if k:
                counts = np.bincount(indices(units[:, column], k), minlength=k) + PRIOR / k
                shares = counts / counts.sum()
                deviation, low, high = math.sqrt((1 - shares @ shares) / 2), 0.0, (k - 1) / k
            else:
                variance = (n * units[:, column].var() + PRIOR / 12) / (n + PRIOR)
                deviation, low, high = math.sqrt(variance), least[column], math.inf
            widths[column] = min(max(1.06 * deviation * n ** (-1 / (4 + dimensions)), low), high)
        return cls(units, options, widths)

    def sample(self, m: int, factor: float, rng: np.random.Generator) -> Vector:
        """[m, D] draws; those of numbers from kernels `factor` times as wide."""
        from scipy.special import ndtr, ndtri

        drawn = self.units[rng.integers(len(self.units), size=m)]
        uniform, other = rng.random(drawn.shape), rng.random(drawn.shape)
        for column, k in enumerate(self.options):
            centre, width = drawn[:, column], self.widths[column]
            if k:
                drawn[:, column] = np.where(other[:, column] < width, uniform[:, column], centre)
            else:
                low, high = ndtr(-centre / (factor * width)), ndtr((1 - centre) / (factor * width))
                drawn[:, column] = centre + factor * width * ndtri(low + (high - low) * uniform[:, column])
        result: Vector = drawn.clip(0.0, math.nextafter(1.0, 0.0))
        return result

    def log_density(self, units: Vector, active: Mask) -> Vector:
        """[m] the logarithm of the density at units [m, D], of the coordinates that are active [m, D] alone."""
        from scipy.special import logsumexp, ndtr

        total = np.zeros((len(units), len(self.units)))
        for column, k in enumerate(self.options):
            x, centre, width = units[:, column, None], self.units[:, column], self.widths[column]
            if k:
                same = indices(x, k) == indices(centre, k)
                kernel = np.where(same, math.log1p(-width), math.log(width / (k - 1)))
            else:
                inside = np.log(ndtr((1 - centre) / width) - ndtr(-centre / width))
                kernel = -0.5 * ((x - centre) / width) ** 2 - math.log(width * math.sqrt(2 * math.pi)) - inside
            total += np.where(active[:, column, None], kernel, 0.0)
        result: Vector = logsumexp(total, axis=1) - math.log(len(self.units))
        return result
