"""PED-ANOVA (Watanabe, Bansal & Hutter 2023, IJCAI): which hyperparameters tell the best trials from all others.

Optuna's, where it is installed. A random forest's shares (`importance`) are of the variance over all the space; these
compare the values of the best tenth of the trials with those of all, so that they speak of the region where it matters.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from raytune_hpo.results.importance import MIN_TRIALS, cost, ranks, telling, told_config
from raytune_hpo.results.results import Results
from raytune_hpo.results.text_table import plural
from raytune_hpo.space import SearchSpace

#: The share of the trials that are the best, in Optuna's evaluator; and of all, how many may be level with them.
TARGET, TIED = 0.1, 0.5
INSTALL = 'pip install "raytune-hpo[optuna]"'


def ped_anova(results: Results) -> dict[str, Any]:
    """parameters: name -> its part of the sum over all, largest first, of those that all trials have; empty with a
    `missing` that says why."""
    space = SearchSpace.from_json(results.experiment["space"])
    trials = telling(results)
    paths = [path for path, parameter in space.parameters.items() if not parameter.conditions]
    if len(trials) < MIN_TRIALS:
        return {
            "parameters": {},
            "missing": f"{plural(len(trials), 'finished trial')}, and below {MIN_TRIALS} it cannot tell",
        }
    costs = np.array([cost(trial, results.mode) for trial in trials])
    if np.all(costs == costs[0]) or len(paths) < 2:
        return {"parameters": {}, "missing": "nothing to tell apart"}
    try:
        import optuna
        from optuna.importance import PedAnovaImportanceEvaluator
    except ImportError:
        return {"parameters": {}, "missing": f"PED-ANOVA needs Optuna: {INSTALL}"}
    from raytune_hpo.search.optuna_search import quiet

    made = _trials(space, paths, [space.values(told_config(trial)) for trial in trials], ranks(costs))
    if len(made) < MIN_TRIALS:
        return {
            "parameters": {},
            "missing": f"{plural(len(made), 'trial')} within the space, and PED-ANOVA cannot tell",
        }
    ordered = np.sort([trial.value for trial in made])
    if np.mean(ordered <= ordered[math.ceil(TARGET * len(made)) - 1]) > TIED:
        return {"parameters": {}, "missing": "too many trials did as well as the best tenth for PED-ANOVA to tell"}
    with quiet():
        study = optuna.create_study()
        study.add_trials(made)
        found = PedAnovaImportanceEvaluator(target_quantile=TARGET).evaluate(study)
    whole = sum(found.values())
    shares = {path: value / whole for path, value in found.items() if whole > 0 and math.isfinite(value)}
    return {"parameters": dict(sorted(shares.items(), key=lambda item: -item[1])), "missing": None}


def _trials(space: SearchSpace, paths: list[str], values: list[dict[str, Any]], costs: Any) -> list[Any]:
    """In the parameters' own scales, as the search sees them: units of [0, 1], and options by their number."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import create_trial

    of_options = {path for path in paths if space.parameters[path].categories}
    distributions = {
        path: CategoricalDistribution(list(range(space.parameters[path].n or 1)))
        if path in of_options
        else FloatDistribution(0.0, 1.0)
        for path in paths
    }
    made = []
    for own, value in zip(values, costs, strict=True):
        if not all(path in own and space.parameters[path].accepts(own[path]) for path in paths):
            continue
        params = {
            path: space.parameters[path].index_of(own[path])
            if path in of_options
            else space.parameters[path].to_unit(own[path])
            for path in paths
        }
        made.append(create_trial(value=float(value), params=params, distributions=distributions))
    return made
