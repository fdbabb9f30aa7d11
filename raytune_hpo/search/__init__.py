"""The search algorithms by name. Importing this package or building an algorithm imports no search library.

What this folder may not do: import torch, or know a trial besides its config and its values.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Objective
from raytune_hpo.options import options_of
from raytune_hpo.search.algorithm import Plan, Search, SearchAlgorithm, SearchOptions
from raytune_hpo.search.history import Suggestion
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config

__all__ = [
    "SEARCHERS",
    "Plan",
    "Search",
    "SearchAlgorithm",
    "SearchOptions",
    "Suggestion",
    "build",
    "check_options",
    "searcher_class",
]

#: name -> "module:Class". A new algorithm costs its file, this line, and one in the contract suite's list.
SEARCHERS: dict[str, str] = {
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


def searcher_class(searcher: str | type[SearchAlgorithm]) -> type[SearchAlgorithm]:
    """The class of that name; a class of one's own stands for itself.

    Raises ExperimentError naming the field `searcher`.
    """
    if isinstance(searcher, type):
        if not issubclass(searcher, SearchAlgorithm):
            raise ExperimentError("searcher", searcher, "a class must be one of SearchAlgorithm's subclasses")
        return searcher
    module, _, attribute = SEARCHERS[checks.one_of("searcher", searcher, SEARCHERS)].partition(":")
    found: type[SearchAlgorithm] = getattr(importlib.import_module(module), attribute)
    return found


def check_options(searcher: str | type[SearchAlgorithm], given: Mapping[str, Any] | SearchOptions) -> SearchOptions:
    """The record of the options given to a searcher, with its defaults filled in.

    Raises ExperimentError naming `searcher` or `searcher.<option>`.
    """
    cls = searcher_class(searcher)
    if not isinstance(given, SearchOptions):
        return options_of(cls.Options, cls.name, given)
    if type(given) is not cls.Options:
        raise ExperimentError("searcher", given, f"are not the options of {cls.name!r}")
    return given


def build(
    searcher: str | type[SearchAlgorithm],
    options: Mapping[str, Any] | SearchOptions,
    space: SearchSpace,
    objective: Objective,
    *,
    max_epochs: int,
    seed: int,
    start_points: Sequence[Config] = (),
) -> SearchAlgorithm:
    """A fresh algorithm with its options checked.

    start_points: complete configs inside the space (`space.complete`), suggested first.
    Raises ExperimentError as `check_options` does, and where the algorithm refuses the space.
    """
    checked = check_options(searcher, options)
    return searcher_class(searcher)(
        space, objective, max_epochs=max_epochs, seed=seed, start_points=start_points, options=checked
    )
