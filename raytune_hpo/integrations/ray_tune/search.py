"""Ray Tune's searchers and schedulers as ours: by name and options where there is an equal, else as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.integrations.ray_tune.spaces import SpaceOfRay, choice_of, is_of_ray, parameter_of
from raytune_hpo.space.parameters import Float, Int, Parameter

Fields = dict[str, Any]

_UNIT = "training_iteration"


def searcher_of(given: Any, space: SpaceOfRay) -> Fields:
    """Fields of Experiment that a TuneConfig's `search_alg` becomes."""
    kind = type(given).__name__
    if given is None:
        return {"searcher": "random"}
    if kind == "ConcurrencyLimiter":
        return {**searcher_of(given.searcher, space), "max_concurrent": given.max_concurrent}
    if kind == "Repeater":
        expected = "trains each config several times: replicate=k does so for the best, raytune-hpo confirm afterwards"
        raise ExperimentError("search_alg", kind, expected)
    if kind in _SEARCHERS:
        _check_own_space(given, kind)
        return _SEARCHERS[kind](given)
    return {"searcher": given}


def _check_own_space(given: Any, kind: str) -> None:
    own = getattr(given, "_space", None)
    if callable(own):
        expected = "has a define-by-run space: raytune_hpo.from_optuna(objective) takes such functions"
        raise ExperimentError("search_alg", kind, expected)
    if own:
        expected = "has a space of its own: give it as param_space, or as Experiment(space=...)"
        raise ExperimentError("search_alg", kind, expected)


def _random(given: Any) -> Fields:
    found: Fields = {"searcher": "random", "start_points": list(getattr(given, "_points_to_evaluate", None) or ())}
    limit = getattr(given, "max_concurrent", None)
    return {**found, "max_concurrent": limit} if limit else found


def _hyperopt(given: Any) -> Fields:
    options = {"n_startup_jobs": "n_initial"}
    set_ = {options[n]: v for n, v in (getattr(given.algo, "keywords", None) or {}).items() if n in options}
    points = getattr(given, "_points_to_evaluate", None)
    return {"searcher": {"name": "hyperopt", **set_}, "start_points": list(points or ())}


def _optuna(given: Any) -> Fields:
    sampler = getattr(given, "_sampler", None)
    if getattr(given, "_evaluated_rewards", None):
        raise ExperimentError("search_alg", "OptunaSearch", "evaluated_rewards have no equal here: leave them out")
    points = [p for p in getattr(given, "_points_to_evaluate", None) or () if isinstance(p, dict)]
    return {"searcher": "optuna" if sampler is None else sampler, "start_points": points}


def _bayesopt(given: Any) -> Fields:
    steps = max(2, int(getattr(given, "random_search_trials", 10)))
    points = getattr(given, "_points_to_evaluate", None)
    return {"searcher": {"name": "bayesopt", "n_initial": steps}, "start_points": list(points or ())}


_SEARCHERS: dict[str, Callable[[Any], Fields]] = {
    "BasicVariantGenerator": _random,
    "HyperOptSearch": _hyperopt,
    "OptunaSearch": _optuna,
    "BayesOptSearch": _bayesopt,
    "TuneBOHB": lambda given: {"searcher": "bohb"},
}


def scheduler_of(given: Any, space: SpaceOfRay) -> Fields:
    """Fields of Experiment that a TuneConfig's `scheduler` becomes; `max_epochs` where it says how long a trial runs.
    What a population explores is made a parameter of the space; `starts`: what stood there as a constant."""
    kind = type(given).__name__
    if given is None or kind == "FIFOScheduler":
        return {"scheduler": "fifo"}
    if not str(type(given).__module__).startswith("ray.tune.schedulers"):
        return {"scheduler": given}  # a subclass of the user's
    unit = getattr(given, "_time_attr", _UNIT)
    if unit != _UNIT:
        expected = f"the time of a scheduler is the epoch here, a report of the function: {_UNIT!r}"
        raise ExperimentError("scheduler.time_attr", unit, expected)
    if kind not in _SCHEDULERS:
        raise ExperimentError("scheduler", kind, "has no equal here")
    return _SCHEDULERS[kind](given, space)


def _asha(given: Any, space: SpaceOfRay) -> Fields:
    first = min(rung[0] for bracket in given._brackets for rung in bracket._rungs)
    options = {"reduction_factor": given._reduction_factor, "brackets": len(given._brackets)}
    found = {"scheduler": {"name": "asha", "grace_period": int(first), **options}}
    return {**found, "max_epochs": int(given._max_t)}


def _hyperband(given: Any, space: SpaceOfRay) -> Fields:
    options = {"reduction_factor": given._eta}
    return {"scheduler": {"name": "hyperband", **options}, "max_epochs": int(given._max_t_attr)}


def _median(given: Any, space: SpaceOfRay) -> Fields:
    if not given._hard_stop:
        raise ExperimentError("scheduler.hard_stop", False, "has no equal here: what is behind is stopped")
    options = {"grace_period": max(1, int(given._grace_period)), "min_samples": given._min_samples_required}
    return {"scheduler": {"name": "median", **options}}


#: Of PopulationBasedTraining's options those that ours has not, with what they are unless given.
_UNREAD: tuple[tuple[str, Any, str], ...] = (
    ("custom_explore_fn", None, "compute what depends on others in the trainable, or by tune.sample_from"),
    ("synch", False, "its members wait for nobody"),
    ("burn_in_period", 0, "leave it out"),
    ("perturbation_factors", (1.2, 0.8), "scheduler.perturbation says how far explore moves, in a parameter's scale"),
)


def _population(given: Any, space: SpaceOfRay) -> Fields:
    for name, usual, instead in _UNREAD:
        found = getattr(given, f"_{name}", usual)
        if found != usual:
            raise ExperimentError(f"scheduler.{name}", found, f"has no equal here: {instead}")
    bounds = type(given).__name__ == "PB2"
    explored = (given._hyperparam_bounds if bounds else given._hyperparam_mutations) or {}
    starts = {}
    for path, domain in explored.items():
        if isinstance(domain, dict):
            raise ExperimentError(f"hyperparam_mutations.{path}", domain, "nested: name the parameter in param_space")
        if isinstance(space.values.get(path), Parameter):
            continue
        if path in space.values:
            starts[path] = space.values[path]
        space.values[path] = _bounds(path, domain) if bounds else _explored(path, domain)
    options = {
        "interval": max(1, int(given._perturbation_interval)),
        "quantile": given._quantile_fraction,
        "resample_probability": given._resample_probability,
        "mutate": list(explored),
    }
    return {"scheduler": {"name": "pb2" if bounds else "pbt", **options}, "starts": starts}


def _bounds(path: str, domain: Any) -> Any:
    """PB2's [low, high], of which whole numbers are whole."""
    low, high = domain
    return (Int if all(isinstance(end, int) for end in domain) else Float)(low, high)


def _explored(path: str, domain: Any) -> Any:
    if is_of_ray(domain):
        return parameter_of(path, domain)
    if isinstance(domain, list | tuple):
        return choice_of(path, list(domain))
    expected = "a function says no range: give the parameter one in param_space, as tune.uniform or tune.choice"
    raise ExperimentError(f"hyperparam_mutations.{path}", "a function", expected)


_SCHEDULERS: dict[str, Callable[[Any, SpaceOfRay], Fields]] = {
    "AsyncHyperBandScheduler": _asha,
    "HyperBandScheduler": _hyperband,
    "HyperBandForBOHB": _hyperband,
    "MedianStoppingRule": _median,
    "PopulationBasedTraining": _population,
    "PB2": _population,
}
