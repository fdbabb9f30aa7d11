"""The problems of benchmarks/search_quality.py: what any config's learning curve would be, and the best there is.

Four are recordings (benchmarks/recordings.py): a full grid of about 1,000 configurations over a user's space. An
Int's values, and a Choice's, are all in the grid. Between the grid's values of a Float the curve is interpolated
linearly in the Float's own scale, so that the space is the one a user would write. At a grid point the lookup is exact;
elsewhere a curve is a weighted mean of recorded ones and can't be better than the best of them, so the optimum is
known. (Syne Tune's blackbox repository looks up a grid, or puts a nearest-neighbour model over it; HPOBench keeps to
the grid; YAHPO Gym fits a network, and has to search for its optimum.)

Four are synthetic, two of them at fidelity z = epoch / max_epochs: Branin as BoTorch's AugmentedBranin has it, and the
Hartmann function of Kandasamy, Dasarathy, Schneider & Poczos, "Multi-fidelity Bayesian Optimisation with Continuous
Approximations" (2017, arXiv:1703.06240; also in HPOBench). Ours add a transient that is the same for every config,
as training brings all losses down, and let the two highest hills of Hartmann come late, so that early ranks mislead:
of 2,000 random configs, the 20 that are best in the end have median ranks 51 (Branin) and 119 (Hartmann) at epoch 1.
`Drifting` and `Decays` are ours: an optimum that moves, and noisy curves that cross.

Notations
    E       max_epochs
    value   the metric as it is reported: minimized or maximized, as `mode` says
    worth   of a config: its best value over all E epochs, what a full training with the best epoch's
            checkpoint kept would give
    regret  how much worse a worth is than the best there is, >= 0
"""

from __future__ import annotations

import itertools
import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from recordings import FOLDER, RECORDINGS, SOLO

from raytune_hpo.objective import Mode
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice, Float, Int

Array = np.ndarray[Any, np.dtype[np.float64]]
ON_GRID = 1e-4  # in grid steps: the grid's values are rounded to 6 digits


@dataclass(frozen=True)
class Curve:
    """values: [E], NaN from the epoch at which the training diverges; seconds: [E] of each epoch."""

    values: Array
    seconds: Array


class Problem(ABC):
    """space, metric, mode, max_epochs: as in an Experiment. best: the best worth, that of the config `optimum`. full_s:
    the mean seconds of a full training, over the space. resolution: regrets below it are as good as none."""

    name: str
    space: SearchSpace
    metric: str
    mode: Mode
    max_epochs: int
    best: float
    optimum: Config
    full_s: float
    resolution: float

    def __init__(self) -> None:
        self._curves: dict[str, Curve] = {}

    def curve(self, config: Config, seed: int = 0) -> Curve:
        """What a training from this seed shows."""
        key = f"{seed} {json.dumps(config, sort_keys=True)}"
        if key not in self._curves:
            self._curves[key] = self._make(config, seed)
        return self._curves[key]

    @abstractmethod
    def _make(self, config: Config, seed: int) -> Curve: ...

    def worth(self, config: Config) -> float:
        """Worst of all, infinitely, for a config that has no finite value."""
        return self._best(self.curve(config).values)

    def _best(self, values: Array) -> float:
        finite = values[np.isfinite(values)]
        if not len(finite):
            return math.inf if self.mode == "min" else -math.inf
        return float(finite.min() if self.mode == "min" else finite.max())

    def regret(self, config: Config) -> float:
        return abs(self.worth(config) - self.best)


class Recorded(Problem):
    """A recorded grid. A search sees the curves of one of its seeds; the worth of a config is the mean over them.

    Raises FileNotFoundError where it is not recorded."""

    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        super().__init__()
        from pyarrow import parquet

        self.recording = recording = RECORDINGS[name]
        self.name, self.metric, self.mode = name, recording.metric, "min" if recording.mode == "min" else "max"
        self.space, self.max_epochs = SearchSpace(recording.space), recording.epochs
        self.axes, self.configs = recording.axes(), recording.configs()
        self._row = {json.dumps(c, sort_keys=True): i for i, c in enumerate(self.configs)}
        shape = (recording.seeds, len(self.configs), recording.epochs)
        table = parquet.read_table(folder / f"{name}.parquet")
        self._check_order(table)
        self._values = table[self.metric].to_numpy().astype(np.float64).reshape(shape)
        self._seconds = table["seconds"].to_numpy().astype(np.float64).reshape(shape)[0]
        sign = 1.0 if self.mode == "min" else -1.0
        worths = np.where(np.isfinite(self._values), sign * self._values, math.inf).min(axis=2).mean(axis=0)
        self.best, self.optimum = float(sign * worths.min()), self.configs[int(worths.argmin())]
        trained = self._seconds[np.isfinite(self._seconds).all(axis=-1) & np.isfinite(self._values[0]).all(axis=-1)]
        self.full_s = float(trained.sum(axis=-1).mean())
        self.resolution = 1e-3

    def _check_order(self, table: Any) -> None:
        """The rows must be the grid in the order of `Recording.configs`, and its epochs."""
        found = json.loads(table.schema.metadata.get(b"configs", b"null"))
        if self.name in SOLO:
            columns = [table[name].to_pylist() for name in (*self.axes, "epoch")]
            epochs = range(1, self.max_epochs + 1)
            same = list(zip(*columns, strict=True)) == list(itertools.product(*self.axes.values(), epochs))
        else:
            same = found == self.configs and table["epoch"].to_pylist()[-1] == self.max_epochs
        if not same:
            raise ValueError(f"the recording of {self.name} is not of this grid: record it again")

    def _make(self, config: Config, seed: int) -> Curve:
        active = [path for path in self.axes if path in config]
        index, weight = zip(*(self._neighbours(path, config[path]) for path in active), strict=True)
        rows = []
        for corner in itertools.product(*index):
            point = {path: self.axes[path][i] for path, i in zip(active, corner, strict=True)}
            rows.append(self._row[json.dumps(point, sort_keys=True)])
        weights = np.array([math.prod(w) for w in itertools.product(*weight)])[:, None]
        values = self._values[seed % self.recording.seeds][rows]
        mean = weighted_mean(values, weights)
        # Next to a config that diverges, one does as its nearest recorded neighbour does.
        mean[np.isnan(values[int(weights.argmax())])] = math.nan
        return Curve(mean, weighted_mean(self._seconds[rows], weights))

    def worth(self, config: Config) -> float:
        found = [self._best(self.curve(config, seed).values) for seed in range(self.recording.seeds)]
        return float(np.mean(found))

    def _neighbours(self, path: str, value: Any) -> tuple[list[int], list[float]]:
        """The grid's values round `value`, and their weights."""
        parameter = self.space.parameters[path]
        if not isinstance(parameter, Float):
            return [self.axes[path].index(value)], [1.0]
        position = parameter.to_unit(value) * (len(self.axes[path]) - 1)
        if abs(position - round(position)) < ON_GRID:
            return [round(position)], [1.0]
        below = math.floor(position)
        return [below, below + 1], [below + 1 - position, position - below]


def weighted_mean(rows: Array, weights: Array) -> Array:
    """rows: [n, E], weights: [n, 1] -> [E], over the finite ones; NaN where none is."""
    finite = np.isfinite(rows)
    total = (weights * finite).sum(axis=0)
    mean: Array = np.where(finite, weights * np.nan_to_num(rows), 0.0).sum(axis=0)
    result: Array = np.divide(mean, total, out=np.full(rows.shape[1], math.nan), where=total > 0)
    return result


class Synthetic(Problem):
    """value(x, epoch) = f(x, z) + TRANSIENT * (1 - z)^2 with z = epoch / E. An epoch takes a second."""

    TRANSIENT: float
    metric, mode, max_epochs = "value", "min", 27
    full_s = 27.0
    resolution = 1e-3

    def _make(self, config: Config, seed: int) -> Curve:
        z = np.arange(1, self.max_epochs + 1) / self.max_epochs
        values = self.function(np.array(list(config.values())), z) + self.TRANSIENT * (1 - z) ** 2
        return Curve(values, np.ones(self.max_epochs))

    @abstractmethod
    def function(self, x: Array, z: Array) -> Array:
        """x: [D], z: [E] -> [E]."""


class Branin(Synthetic):
    """Three equal optima at z = 1. Before, the valley is bent elsewhere. A fifth of the configs get worse again, as
    trainings do that overfit. No value at any z is below the optimum."""

    name, best, TRANSIENT = "branin", 0.397887, 20.0
    space = SearchSpace({"x1": Float(-5.0, 10.0), "x2": Float(0.0, 15.0)})
    optimum: Config = {"x1": math.pi, "x2": 2.275}  # noqa: RUF012

    def function(self, x: Array, z: Array) -> Array:
        b = 5.1 / (4 * math.pi**2) - 0.1 * (1 - z)
        valley = x[1] - b * x[0] ** 2 + 5 / math.pi * x[0] - 6
        result: Array = valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x[0]) + 10
        return result


class Hartmann6(Synthetic):
    """Four hills in six dimensions. Kandasamy et al. take 0.1 * (1 - z) from every hill's height; here the two highest
    lose more than the others, and are not the highest in the first epochs."""

    name, best, TRANSIENT = "hartmann6", -3.322368, 1.0
    space = SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(1, 7)})
    optimum: Config = dict(zip(space.paths, (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573), strict=True))  # noqa: RUF012
    HEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
    LATE = np.array([0.0, 0.0, 2.5, 3.0])
    A = np.array(
        [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    )
    P = 1e-4 * np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )

    def function(self, x: Array, z: Array) -> Array:
        hills = np.exp(-(self.A * (x - self.P) ** 2).sum(axis=1))
        heights = self.HEIGHTS - self.LATE * (1 - z)[:, None]
        result: Array = -heights @ hills
        return result


class Drifting(Synthetic):
    """Where a config must lie to be good moves with the epochs, by a third of the cube and more: the leaders of the
    first epochs are far from the optimum in the end. Two basins, of which the lesser is the wider."""

    name, best, TRANSIENT = "drifting", 0.0, 2.0
    space = SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(1, 4)})
    optimum: Config = {"x1": 0.25, "x2": 0.7, "x3": 0.4}  # noqa: RUF012
    DRIFT = np.array([0.4, -0.35, 0.3])

    def function(self, x: Array, z: Array) -> Array:
        at = np.array(list(self.optimum.values())) + self.DRIFT * (1 - z)[:, None] ** 1.5
        deep = ((x - at) ** 2).sum(axis=1) * 12
        wide = ((x - np.array([0.8, 0.2, 0.8])) ** 2).sum() * 4 + 0.3
        result: Array = np.minimum(deep, wide)
        return result


class Decays(Problem):
    """Exponential decays with noise, over five hyperparameters, one of them conditional. A higher `rate` learns faster
    and, beyond 0.01, ends worse, so that curves cross; the highest rates diverge. The larger `size`, the dearer. A
    search sees the noise; the worth of a config is without."""

    name, metric, mode, max_epochs, resolution = "decays", "loss", "min", 52, 1e-3
    space = SearchSpace(
        {
            "kind": Choice(["a", "b", "c"]),
            "rate": Float(1e-4, 1.0, scale="log"),
            "size": Int(8, 512, scale="log"),
            "mix": Float(0.0, 1.0),
            "drag": Float(0.0, 1.0).when("kind", "==", "b"),
        }
    )
    best = 0.05
    optimum: Config = {"kind": "b", "rate": 0.01, "size": 64, "mix": 0.35, "drag": 0.6}  # noqa: RUF012
    full_s = 52.0

    def __init__(self) -> None:
        super().__init__()
        self._target = {path: self.space.parameters[path].to_unit(value) for path, value in self.optimum.items()}

    def _away(self, config: Config, path: str) -> float:
        return float(self.space.parameters[path].to_unit(config[path]) - self._target[path])

    def asymptote(self, config: Config) -> float:
        rate, size, mix = (self._away(config, path) for path in ("rate", "size", "mix"))
        drag = self._away(config, "drag") if "drag" in config else 0.0
        steep = {"a": 9.0, "b": 12.0, "c": 5.0}[config["kind"]]
        bowl = steep * (rate + 0.4 * size) ** 2 + 3.0 * size**2 + 2.0 * (mix - 0.3 * rate) ** 2 + 2.0 * drag**2
        return self.best + {"a": 0.04, "b": 0.0, "c": 0.08}[config["kind"]] + 0.9 * (1 - math.exp(-bowl))

    def _make(self, config: Config, seed: int) -> Curve:
        epochs, unit = np.arange(1, self.max_epochs + 1), self.space.parameters["rate"].to_unit(config["rate"])
        speed = math.exp(-1.5 + 4.0 * unit)
        left = np.exp(-speed * epochs / self.max_epochs * 3)
        left = (left - left[-1]) / (1 - left[-1])
        end = self.asymptote(config)
        rng = generator(seed, "decays", json.dumps(config, sort_keys=True))
        noise = 0.03 * rng.standard_normal(self.max_epochs) * (0.2 + left)
        values = end + (1.6 - end) * left + noise
        if unit > 0.92:
            values[2:] = math.nan
        share = math.log(config["size"] / 8) / math.log(64)
        return Curve(values, np.full(self.max_epochs, 0.5 + share))

    def worth(self, config: Config) -> float:
        unit = self.space.parameters["rate"].to_unit(config["rate"])
        return math.inf if unit > 0.92 else self.asymptote(config)


PROBLEMS = ("digits", "mnist", "digits_mlp", "mnist_mlp", "branin", "hartmann6", "drifting", "decays")


def problem(name: str) -> Problem:
    if name in RECORDINGS:
        return Recorded(name)
    return {cls.name: cls for cls in (Branin, Hartmann6, Drifting, Decays)}[name]()
