"""The search algorithms by name. Importing this package or building an algorithm imports no search library."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from raytune_hpo import checks
from raytune_hpo.configs import Config
from raytune_hpo.options import options_of
from raytune_hpo.search.algorithm import Mode, SearchAlgorithm, SearchOptions, Suggestion
from raytune_hpo.space import SearchSpace

__all__ = [
    "ALGORITHMS",
    "Mode",
    "SearchAlgorithm",
    "SearchOptions",
    "Suggestion",
    "algorithm_class",
    "build",
    "check_options",
]

#: name -> "module:Class". A new algorithm costs its file, this line, and one in the contract suite's list.
ALGORITHMS: dict[str, str] = {
    "random": "raytune_hpo.search.random_search:RandomSearch",
    "grid": "raytune_hpo.search.grid_search:GridSearch",
    "hyperopt": "raytune_hpo.search.hyperopt_search:HyperOptSearch",
    "bayesopt": "raytune_hpo.search.bayesopt_search:BayesOptSearch",
    "bohb": "raytune_hpo.search.bohb_search:BohbSearch",
    "cmaes": "raytune_hpo.search.cmaes_search:CmaEsSearch",
    "evolutionary": "raytune_hpo.search.evolutionary_search:EvolutionarySearch",
    "optuna": "raytune_hpo.search.optuna_search:OptunaSearch",
    "coarse_to_fine": "raytune_hpo.search.coarse_to_fine:CoarseToFine",
    "repeat": "raytune_hpo.search.repeat_search:RepeatSearch",
}


def algorithm_class(name: str) -> type[SearchAlgorithm]:
    """The class called `name`. Raises ExperimentError naming the field `searcher`."""
    module, _, attribute = ALGORITHMS[checks.one_of("searcher", name, ALGORITHMS)].partition(":")
    found: type[SearchAlgorithm] = getattr(importlib.import_module(module), attribute)
    return found


def check_options(name: str, options: Any) -> SearchOptions:
    """The record of the `options` given to the algorithm `name`, with its defaults filled in.

    Raises ExperimentError naming `searcher` or `searcher.<option>`.
    """
    return options_of(algorithm_class(name).Options, name, options)


def build(
    name: str,
    options: Mapping[str, Any],
    space: SearchSpace,
    *,
    mode: Mode,
    seed: int,
    start_points: Sequence[Config] = (),
) -> SearchAlgorithm:
    """The algorithm `name` with its options checked.

    start_points: complete configs inside the space (`space.complete`), suggested first.
    Raises ExperimentError as `check_options` does, and where the algorithm refuses the space.
    """
    checked = check_options(name, options)
    return algorithm_class(name)(space, mode=mode, seed=seed, start_points=start_points, options=checked)
