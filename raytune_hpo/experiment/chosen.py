"""A searcher or a scheduler as an experiment has chosen it: ours by name, a class of the user's with its options, or an
object of another library's.

    "asha"                                    a name
    {"name": "asha", "brackets": 2}           a name and options
    MySearch, {"name": MySearch, "depth": 3}  a subclass of SearchAlgorithm or Scheduler, with options
    OptunaSearch(seed=1)                      an object: of Ray Tune's searchers and schedulers, of Optuna's samplers

A class is recorded by file and name as a task is, an object by its class alone: it is made again by the experiment file
that is in the run. Objects are asked for their methods here, not for their types: nothing is imported for that.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.references import class_reference
from raytune_hpo.objective import Objective
from raytune_hpo.schedulers import SCHEDULERS, Scheduler, SchedulerOptions, scheduler_class
from raytune_hpo.schedulers import build as build_scheduler
from raytune_hpo.schedulers import check_options as check_scheduler
from raytune_hpo.schedulers.given import GivenScheduler, check_given
from raytune_hpo.search import SEARCHERS, Search, SearchAlgorithm, SearchOptions, searcher_class
from raytune_hpo.search import build as build_searcher
from raytune_hpo.search import check_options as check_searcher
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config

#: The name in a run's description of what was an object.
OBJECT = "foreign"

#: Optuna's samplers that name values, and what does the same here.
REFUSED_SAMPLERS = {
    "GridSampler": 'use searcher="grid"',
    "PartialFixedSampler": "write a fixed value into the space, as a constant",
}


def class_name(value: Any) -> str:
    """ "module:Class" of an object."""
    return f"{type(value).__module__}:{type(value).__qualname__}"


@dataclass(frozen=True)
class ChosenSearcher:
    """kind, options: of a searcher by name or class, None of an object. given: the object, None where it was one in an
    earlier process and is not here any more; described: its class's name."""

    name: str
    kind: type[SearchAlgorithm] | None = None
    options: SearchOptions | None = None
    given: Any = None
    described: str = ""

    @property
    def learns(self) -> bool:
        """Whether suggestions depend on what trials have shown."""
        return self.kind is None or self.kind.learns

    @property
    def plans_budgets(self) -> bool:
        return self.kind is not None and self.kind.plans_budgets

    @property
    def is_object(self) -> bool:
        return self.kind is None

    @property
    def is_own(self) -> bool:
        """Whether it is a class of the user's."""
        return self.kind is not None and bool(_class_of(self.kind, SEARCHERS))

    def build(
        self,
        space: SearchSpace,
        objective: Objective,
        *,
        max_epochs: int,
        seed: int,
        start_points: Sequence[Config] = (),
    ) -> Search:
        """A fresh search. Raises ExperimentError for an object that is not here any more."""
        if self.kind is not None:
            assert self.options is not None
            return build_searcher(
                self.kind, self.options, space, objective, max_epochs=max_epochs, seed=seed, start_points=start_points
            )
        if self.given is None:
            raise _gone("searcher", self.described)
        if _is_sampler(self.given):
            from raytune_hpo.search.optuna_sampler import SamplerSearch

            return SamplerSearch(copy.deepcopy(self.given), space, objective)
        from raytune_hpo.search.ray_searcher import ForeignSearch

        return ForeignSearch(copy.deepcopy(self.given), space, objective)

    def to_json(self) -> dict[str, Any]:
        if self.options is None:
            return {"name": OBJECT, "class": self.described}
        return {"name": self.name, **_class_of(self.kind, SEARCHERS), **self.options.to_json()}


@dataclass(frozen=True)
class ChosenScheduler:
    """As ChosenSearcher; of an object, kind is GivenScheduler."""

    name: str
    kind: type[Scheduler]
    options: SchedulerOptions | None = None
    given: Any = None
    described: str = ""

    @property
    def is_object(self) -> bool:
        return self.options is None

    @property
    def is_own(self) -> bool:
        """Whether it is a class of the user's."""
        return self.options is not None and bool(_class_of(self.kind, SCHEDULERS))

    def build(self, space: SearchSpace, objective: Objective, *, max_epochs: int, seed: int) -> Scheduler:
        """A fresh scheduler. Raises ExperimentError for an object that is not here any more."""
        if self.options is not None:
            return build_scheduler(self.kind, self.options, space, objective, max_epochs=max_epochs, seed=seed)
        if self.given is None:
            raise _gone("scheduler", self.described)
        return GivenScheduler(self.given, space=space, objective=objective, max_epochs=max_epochs, seed=seed)

    def to_json(self) -> dict[str, Any]:
        if self.options is None:
            return {"name": OBJECT, "class": self.described}
        return {"name": self.name, **_class_of(self.kind, SCHEDULERS), **self.options.to_json()}


def chosen_searcher(value: Any) -> ChosenSearcher:
    """Raises ExperimentError naming `searcher`, or `searcher.<option>`."""
    if isinstance(value, Mapping) and value.get("name") == OBJECT and "class" in value:
        return ChosenSearcher(_short(value["class"]), described=value["class"])
    if isinstance(value, str | Mapping) or _is_class(value, SearchAlgorithm):
        kind, given = _kind_and_options("searcher", value, SEARCHERS, SearchAlgorithm)
        cls = searcher_class(kind)
        return ChosenSearcher(cls.name, cls, check_searcher(kind, given))
    is_searcher = all(hasattr(value, m) for m in ("suggest", "on_trial_complete", "metric"))
    if isinstance(value, type) or not (is_searcher or _is_sampler(value)):
        expected = (
            f"must be one of {', '.join(SEARCHERS)}, a subclass of SearchAlgorithm, or an object of a "
            "ray.tune.search.Searcher or an Optuna sampler"
        )
        raise ExperimentError("searcher", value, expected)
    described = class_name(value)
    for cls in type(value).__mro__:
        if cls.__name__ in REFUSED_SAMPLERS:
            instead = REFUSED_SAMPLERS[cls.__name__]
            expected = f"names values, where samplers are asked for coordinates of the space here: {instead}"
            raise ExperimentError("searcher", cls.__name__, expected)
    try:
        copy.deepcopy(value)
    except Exception as error:  # whatever a user's class does in there
        expected = f"cannot be copied, and every run begins with a fresh copy: {error}"
        raise ExperimentError("searcher", described, expected) from error
    return ChosenSearcher(_short(described), given=value, described=described)


def chosen_scheduler(
    value: Any, *, space: SearchSpace, objective: Objective, max_epochs: int, structural: set[str] | None
) -> ChosenScheduler:
    """Raises ExperimentError naming `scheduler`, or `scheduler.<option>`."""
    if isinstance(value, Mapping) and value.get("name") == OBJECT and "class" in value:
        return ChosenScheduler(_short(value["class"]), GivenScheduler, described=value["class"])
    if isinstance(value, str | Mapping) or _is_class(value, Scheduler):
        kind, given = _kind_and_options("scheduler", value, SCHEDULERS, Scheduler)
        cls = scheduler_class(kind)
        options = check_scheduler(kind, given, space=space, max_epochs=max_epochs, structural=structural)
        return ChosenScheduler(cls.name, cls, options)
    if isinstance(value, type) or not all(hasattr(value, m) for m in ("on_trial_result", "choose_trial_to_run")):
        expected = (
            f"must be one of {', '.join(SCHEDULERS)}, a subclass of Scheduler, or a scheduler object of Ray Tune's"
        )
        raise ExperimentError("scheduler", value, expected)
    check_given(value, objective, max_epochs)
    described = class_name(value)
    return ChosenScheduler(_short(described), GivenScheduler, given=value, described=described)


def _kind_and_options(field: str, value: Any, names: Mapping[str, str], base: type) -> tuple[Any, dict[str, Any]]:
    """(name or class, the options as given)."""
    if isinstance(value, Mapping) and _is_class(value.get("name"), base):
        given = dict(value)
        return given.pop("name"), given
    return (value, {}) if isinstance(value, type) else checks.named(field, value, names)


def _is_class(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def _is_sampler(value: Any) -> bool:
    return all(hasattr(value, m) for m in ("sample_relative", "sample_independent", "infer_relative_search_space"))


def _class_of(kind: type | None, names: Mapping[str, str]) -> dict[str, Any]:
    """Where a class of the user's is found; nothing for ours."""
    assert kind is not None
    if f"{kind.__module__}:{kind.__qualname__}" in names.values():
        return {}
    return {"from": class_reference(kind)}


def _short(described: str) -> str:
    return described.rpartition(":")[2].rpartition(".")[2]


def _gone(field: str, described: str) -> ExperimentError:
    kind = "Ray Tune searcher" if field == "searcher" else "scheduler"
    expected = f"was an object of a {kind}: pass a fresh one, resume(run_dir, {field}=...)"
    return ExperimentError(field, described, expected)
