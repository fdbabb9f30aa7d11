"""The parts of a Tuner as an Experiment."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.checking import wished_resources
from raytune_hpo.integrations.ray_tune.search import scheduler_of, searcher_of
from raytune_hpo.integrations.ray_tune.spaces import SpaceOfRay, space_of
from raytune_hpo.integrations.ray_tune.task import Ends, Threshold, task_of

ENDLESS = 1_000_000  # trials, where only the time is limited
_LEFT = {
    "tune_config": ("trial_name_creator", "trial_dirname_creator"),
    "run_config": ("storage_filesystem", "log_to_file"),
}


def from_ray(
    trainable: Any,
    *,
    param_space: Mapping[str, Any] | None = None,
    tune_config: Any = None,
    run_config: Any = None,
    **changes: Any,
) -> Experiment:
    """The Experiment that a Tuner describes: from_ray(tuner), or from_ray(train, param_space=..., tune_config=...,
    run_config=...), as the Tuner would have been given them.

    changes: fields of Experiment that stand in for what was found, such as `max_epochs`, which Ray Tune may leave to
    the function. What has no meaning here is left out and named in one warning. Raises ExperimentError for what would
    be another search without it, with what to write.
    """
    if type(trainable).__name__ == "Tuner" and str(type(trainable).__module__).startswith("ray.tune"):
        if param_space is not None or tune_config is not None or run_config is not None:
            raise ExperimentError("from_ray", "a Tuner", "brings its own param_space, tune_config and run_config")
        trainable, param_space, tune_config, run_config = _parts(trainable)
    space = space_of(param_space or {})
    given = {"tune_config": tune_config, "run_config": run_config}
    left = [f"{name}.{f}" for name, of in _LEFT.items() for f in of if getattr(given[name], f, None)]
    fields = {**_searched(tune_config, space), **_run(run_config, left)}
    ends = fields.pop("ends")
    lengths = [n for n in (fields.pop("max_epochs", None), fields.pop("stopped_at", None)) if n is not None]
    if lengths:
        fields["max_epochs"] = min(lengths)
    elif "max_epochs" not in changes:
        expected = "says nowhere how long a trial may run: from_ray(..., max_epochs=N), in reports of the function"
        raise ExperimentError("from_ray", "the Tuner", expected)
    fields.setdefault("name", name_of(getattr(trainable, "__name__", type(trainable).__name__)))
    wished = wished_resources(trainable)
    if wished is not None:
        fields["resources"] = wished
    fields.update(task=task_of(trainable, space, ends), space=space.values)
    _fill(fields, space, changes)
    _fit(fields["scheduler"], changes.get("max_epochs", fields.get("max_epochs")))
    if left:
        warnings.warn(f"left out, for it has no meaning here: {', '.join(left)}", stacklevel=2)
    return Experiment(**{**fields, **changes})


def _parts(tuner: Any) -> tuple[Any, Any, Any, Any]:
    """What a Tuner was made of, which it keeps to itself."""
    inner = getattr(tuner, "_local_tuner", None)
    if inner is None:
        expected = "belongs to a Ray client: give from_ray what the Tuner was made of"
        raise ExperimentError("from_ray", "the Tuner", expected)
    return inner.trainable, inner.param_space, inner._tune_config, inner._run_config


def _searched(config: Any, space: SpaceOfRay) -> dict[str, Any]:
    """Of a TuneConfig."""
    scheduler, searcher = getattr(config, "scheduler", None), getattr(config, "search_alg", None)
    fields = {**searcher_of(searcher, space), **scheduler_of(scheduler, space)}
    for name, private in (("metric", "_metric"), ("mode", "_mode")):
        own = [getattr(config, name, None), getattr(scheduler, private, None), getattr(searcher, private, None)]
        fields[name] = next((value for value in own if isinstance(value, str)), None)
    if fields["metric"] in (None, "_metric"):
        raise ExperimentError("from_ray", None, 'names no metric: from_ray(..., metric="loss", mode="min")')
    samples = getattr(config, "num_samples", 1)
    fields["num_samples"] = ENDLESS if samples == -1 else samples
    if getattr(config, "max_concurrent_trials", None):
        fields["max_concurrent"] = config.max_concurrent_trials
    budget = getattr(config, "time_budget_s", None)
    if budget is not None:
        fields["time_budget_s"] = float(budget.total_seconds() if isinstance(budget, timedelta) else budget)
    return fields


def _run(config: Any, left: list[str]) -> dict[str, Any]:
    """Of a RunConfig."""
    fields: dict[str, Any] = {}
    if getattr(config, "name", None):
        fields["name"] = name_of(config.name)
    if getattr(config, "storage_path", None):
        fields["storage"] = str(config.storage_path)
    failure, saving = getattr(config, "failure_config", None), getattr(config, "checkpoint_config", None)
    retries = getattr(failure, "max_failures", 0)
    fields["max_failures"] = ENDLESS if retries < 0 else retries
    if getattr(failure, "fail_fast", False):
        fields["fail_fast"] = 1
    every, keep = getattr(saving, "checkpoint_frequency", 0), getattr(saving, "num_to_keep", None)
    fields["checkpoint"] = {**({"every": every} if every else {}), **({"keep": keep} if keep else {})}
    if getattr(saving, "checkpoint_score_attribute", None):
        left.append("checkpoint_config.checkpoint_score_attribute (the best by the objective is kept)")
    fields["listeners"] = list(getattr(config, "callbacks", None) or ())
    return {**fields, **_stop(getattr(config, "stop", None))}


def _stop(stop: Any) -> dict[str, Any]:
    """Of RunConfig(stop=...): a dictionary, a function or a Stopper."""
    found: dict[str, Any] = {"ends": []}
    kind = type(stop).__name__
    if isinstance(stop, Mapping):
        for name, value in stop.items():
            if name == "training_iteration":
                found["stopped_at"] = int(value)
            elif name == "time_total_s":
                raise ExperimentError(f"stop.{name}", value, "of a trial has no equal here: time_budget_s is the run's")
            else:
                found["ends"].append(Threshold(name, value))
    elif kind == "MaximumIterationStopper":
        found["stopped_at"] = int(stop._max_iter)
    elif kind == "TimeoutStopper":
        found["time_budget_s"] = float(stop._timeout_seconds)
    elif kind == "CombinedStopper":
        for one in stop._stoppers:
            inner = _stop(one)
            found = {**found, **inner, "ends": [*found["ends"], *inner["ends"]]}
    elif stop is not None:
        found["ends"].append(_asked(stop))
    return found


def _asked(stop: Any) -> Ends:
    ends: Ends = stop
    return ends


def _fill(fields: dict[str, Any], space: SpaceOfRay, changes: Mapping[str, Any]) -> None:
    """The start points that grids and a population's constants are."""
    starts = fields.pop("starts", {})
    samples = changes.get("num_samples", fields["num_samples"])
    if space.grids:
        if fields["searcher"] != "random":
            expected = "goes with the searcher that draws at random alone, in Ray Tune too: write tune.choice"
            raise ExperimentError("param_space", "tune.grid_search", expected)
        if not space.drawn and samples == 1:
            fields["searcher"] = "grid"
            del fields["num_samples"]
            return
        if samples == ENDLESS:
            raise ExperimentError("num_samples", -1, "of a grid has no end: say how often each combination is trained")
        fields["start_points"] = space.points(samples, changes.get("seed", 0))
        fields["num_samples"] = len(fields["start_points"])
    elif starts:
        given, seed = list(fields.get("start_points", ())), changes.get("seed", 0)
        drawn = [{**space.any_config(seed, i), **starts} for i in range(len(given), min(samples, 10_000))]
        fields["start_points"] = [*given, *drawn]


def _fit(scheduler: Any, max_epochs: Any) -> None:
    """A trial may end, in Ray Tune, before the scheduler would have judged it."""
    for name in ("grace_period", "interval"):
        if isinstance(scheduler, dict) and name in scheduler and isinstance(max_epochs, int):
            scheduler[name] = min(scheduler[name], max_epochs)


def name_of(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-") or "experiment"
