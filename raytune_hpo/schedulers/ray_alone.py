"""Ray Tune's schedulers without the rest of Ray Tune.

They are a few files of plain Python. Importing them the ordinary way imports Ray, ray.data, ray.train, pandas and
pyarrow first, 1.5 s of CPU before a run's first decision, of which they use two constants and a trial's five states. So
here the installed files are executed, unmodified, in modules that are entered nowhere: an `import ray.tune`, before or
after, knows nothing of it. What they import from Ray is answered from GIVEN.

Whatever is not as it was when this was written (a file, an import, a name, a state), or goes wrong, leads to the
ordinary classes: a Ray that has changed costs time, and nothing else. tests/contracts/test_ray_alone.py says so aloud.
"""

from __future__ import annotations

import builtins
import importlib.util
import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

from raytune_hpo.schedulers.scheduler import Standing


@dataclass(frozen=True)
class SchedulerClasses:
    """AsyncHyperBandScheduler, HyperBandScheduler, MedianStoppingRule and PopulationBasedTraining of Ray's."""

    asha: Any
    hyperband: Any
    median: Any
    pbt: Any


def classes() -> SchedulerClasses:
    """Ray's schedulers: alone, if Ray Tune is not imported anyway and they can be had so."""
    if "ray.tune" not in sys.modules:
        try:
            return alone(installed())
        except Exception:  # the ordinary ones are there for whatever it was
            logging.getLogger(__name__).debug("Ray's schedulers do not load alone", exc_info=True)
    return ordinary()


def ordinary() -> SchedulerClasses:
    from ray.tune import schedulers

    return SchedulerClasses(
        schedulers.AsyncHyperBandScheduler,
        schedulers.HyperBandScheduler,
        schedulers.MedianStoppingRule,
        schedulers.PopulationBasedTraining,
    )


def installed() -> Path:
    """The folder of Ray's schedulers. Nothing is imported to find it."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0], "tune", "schedulers")


def alone(folder: Path) -> SchedulerClasses:
    """Ray's schedulers from their files in `folder`. Raises whatever comes of a Ray that has changed."""
    base = _executed(folder, "trial_scheduler", GIVEN)
    bases = {name: getattr(base, name) for name in ("FIFOScheduler", "TrialScheduler")}
    given = {**GIVEN, f"{PACKAGE}.trial_scheduler": bases}
    return SchedulerClasses(
        _executed(folder, "async_hyperband", given).AsyncHyperBandScheduler,
        _executed(folder, "hyperband", given).HyperBandScheduler,
        _executed(folder, "median_stopping_rule", given).MedianStoppingRule,
        _executed(folder, "pbt", given).PopulationBasedTraining,
    )


# What they are given ------------------------------------------------------------------------------------


class Absent(type):
    """The type of what Ray's code names and, as our schedulers use it, never gets to: it cannot be used unnoticed."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        cls._refuse()

    def __instancecheck__(cls, instance: Any) -> bool:
        cls._refuse()

    def __subclasscheck__(cls, subclass: Any) -> bool:
        cls._refuse()

    def _refuse(cls) -> NoReturn:
        raise NotImplementedError(f"{cls.__name__} is not there where Ray's schedulers are loaded alone")


class Trial(metaclass=Absent):
    """Ray's Trial, of which schedulers name the states; the trials that they are told of are HostTrials."""

    PENDING = Standing.PENDING.value
    RUNNING = Standing.RUNNING.value
    PAUSED = Standing.PAUSED.value
    TERMINATED = Standing.TERMINATED.value
    ERROR = "ERROR"


class TuneError(Exception):
    """Raised by Ray's schedulers where a trial is in a state that it cannot be in. Nobody catches it by name."""


def _unmarked(thing: Any) -> Any:
    """PublicAPI, DeveloperAPI: they mark for Ray's documentation."""
    return thing


def _untold(scheduler: Any) -> None:
    """tag_scheduler: counts it in Ray's usage statistics."""


def _absent(*names: str) -> dict[str, Any]:
    return {name: Absent(name, (), {}) for name in names}


PACKAGE = "ray.tune.schedulers"

#: module -> name -> what stands for it.
GIVEN: Mapping[str, Mapping[str, Any]] = {
    "ray.air._internal.usage": {"tag_scheduler": _untold},
    "ray.air.constants": {"TRAINING_ITERATION": "training_iteration"},
    "ray.train._internal.session": _absent("_FutureTrainingResult", "_TrainingResult"),
    "ray.tune": _absent("Checkpoint"),
    "ray.tune.error": {"TuneError": TuneError},
    "ray.tune.experiment": {"Trial": Trial},
    "ray.tune.result": {"DEFAULT_METRIC": "_metric"},
    "ray.tune.search": _absent("SearchGenerator"),
    "ray.tune.search.sample": _absent("Domain", "Function"),
    "ray.tune.search.variant_generator": _absent("format_vars"),
    "ray.tune.utils.util": _absent("SafeFallbackEncoder"),
    "ray.util": {"PublicAPI": _unmarked},
    "ray.util.annotations": {"DeveloperAPI": _unmarked, "PublicAPI": _unmarked},
    "ray.util.debug": _absent("log_once"),
}

#: What is imported for them as it is.
REAL = sys.stdlib_module_names | {"numpy"}


# How they are executed ------------------------------------------------------------------------------------


def _executed(folder: Path, name: str, given: Mapping[str, Mapping[str, Any]]) -> ModuleType:
    # It keeps the name that Ray gave it: its logger's, by which people silence it, and its classes'.
    module = ModuleType(f"{PACKAGE}.{name}")
    loader = SourceFileLoader(module.__name__, str(folder / f"{name}.py"))
    code = loader.get_code(module.__name__)  # from the bytecode that lies beside the source, if it is there
    assert code is not None
    module.__file__ = loader.path
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _Import(given)}
    exec(code, vars(module))
    _check_later(code, module, given)
    return module


class _Import:
    """`__import__` in one of these modules, also in its functions when they are called."""

    def __init__(self, given: Mapping[str, Mapping[str, Any]]) -> None:
        self._given = given

    def __call__(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        if level == 0 and name.partition(".")[0] in REAL:
            return builtins.__import__(name, globals, locals, fromlist, level)
        if level or name not in self._given or not fromlist:
            raise ImportError(f"{'.' * level}{name} is not known here")
        answer = ModuleType(name)
        for wanted in fromlist:
            if wanted not in self._given[name]:
                raise ImportError(f"{wanted} of {name} is not known here")
            setattr(answer, wanted, self._given[name][wanted])
        return answer


def _check_later(code: CodeType, module: ModuleType, given: Mapping[str, Any]) -> None:
    """Raise NameError for what the functions of an executed module would find missing only when they are called: a
    module of Ray's, or a constant, which may be one of Trial's."""
    places = [vars(place) for place in (module, module.TrialScheduler, Trial)]
    for name in _names_in_functions(code):
        is_module = name == "ray" or name.startswith("ray.")  # of an import: no other name has a dot
        known = name in given if is_module else not name.isupper() or any(name in place for place in places)
        if not known:
            raise NameError(f"{module.__name__}: {name} is not known here")


def _names_in_functions(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from constant.co_names
            yield from _names_in_functions(constant)
