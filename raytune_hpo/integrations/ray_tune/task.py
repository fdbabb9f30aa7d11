"""The trainable of a Ray Tune script, with what Ray did round it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError, TrialError
from raytune_hpo.integrations.ray_tune.spaces import SpaceOfRay
from raytune_hpo.workers import reporting

Path = tuple[str, ...]
#: Whether a trial is over, by its last result: what Ray asks a Stopper.
Ends = Callable[[str, Mapping[str, Any]], bool]


@dataclass(frozen=True)
class RayTask:
    """f(config) round a script's trainable.

    computed, objects: as of SpaceOfRay. ends: asked after each report whether it was the trial's last; each trial has
    copies of its own.
    """

    wrapped: Any
    computed: Mapping[tuple[str, ...], Any]
    objects: Mapping[tuple[str, ...], Any]
    ends: Sequence[Ends]

    def __call__(self, config: dict[str, Any]) -> Any:
        whole = completed(config, self.objects, self.computed)
        ends = copy.deepcopy(list(self.ends))
        if ends:
            trial = reporting.trial_id()
            # All of them: each may count.
            reporting.ends_when(lambda result: True in [bool(one(trial, result)) for one in ends])
        function = self.wrapped
        if isinstance(function, type):
            from raytune_hpo.workers.class_trainable import function_of

            function = function_of(function, reporting.checkpoint_every())
        return function(whole)


def task_of(trainable: Any, space: SpaceOfRay, ends: Sequence[Ends]) -> Any:
    """The trainable itself where nothing is done round it: a run of it is resumed by its name."""
    if not space.computed and not space.objects and not ends:
        return trainable
    check_computed(space)
    return RayTask(trainable, space.computed, space.objects, ends)


def completed(config: Mapping[str, Any], objects: Mapping[Path, Any], computed: Mapping[Path, Any]) -> dict[str, Any]:
    """The config with its objects, and with what is computed of it, where one may need another. Raises what a function
    raises that has all there is."""
    whole: dict[str, Any] = copy.deepcopy(dict(config))
    for path, value in objects.items():
        _put(whole, path, _own(value))
    left = dict(computed)
    while left:
        failed: Exception | None = None
        for path, function in list(left.items()):
            try:
                value = function.sample(whole)
            except Exception as error:  # it may need one that comes later
                failed = failed or error
                continue
            _put(whole, path, value)
            del left[path]
            failed = None
            break
        if failed is not None:
            raise failed
    return whole


def _own(value: Any) -> Any:
    """An object for one trial alone, which may change it."""
    try:
        return copy.deepcopy(value)
    except Exception:  # a module, a lock, an open file: there is one
        return value


def _put(config: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        config = config.setdefault(name, {})
    config[path[-1]] = value


def _at(config: Any, path: Path) -> Any:
    for name in path:
        config = config[name]
    return config


def check_computed(space: SpaceOfRay) -> None:
    """Raise ExperimentError for a tune.sample_from that draws at random, or cannot be computed from the config."""
    if not space.computed:
        return
    config = space.any_config()
    answers, drew = [], False
    for seed in (1, 2):
        states = random.getstate(), np.random.get_state()
        try:
            random.seed(seed)
            np.random.seed(seed)
            before = random.getstate(), repr(np.random.get_state())
            answers.append(completed(config, space.objects, space.computed))
            drew |= before != (random.getstate(), repr(np.random.get_state()))
        except Exception as error:  # of the user's function
            where = ", ".join(".".join(path) for path in space.computed)
            expected = f"must be computed from the config alone: {type(error).__name__}: {error}"
            raise ExperimentError(f"param_space.{where}", "tune.sample_from", expected) from error
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
    for path in space.computed:
        if drew or repr(_at(answers[0], path)) != repr(_at(answers[1], path)):
            expected = "draws at random: give it a Float, Int or Choice of its own, which searchers learn of"
            raise ExperimentError(f"param_space.{'.'.join(path)}", "tune.sample_from", expected)


@dataclass(frozen=True)
class Threshold:
    """RunConfig(stop={metric: value}): the trial is over once it is that high, whatever the mode: as Ray has it.

    Raises TrialError where the trial does not report it, as Ray does.
    """

    metric: str
    value: float

    def __call__(self, trial: str, result: Mapping[str, Any]) -> bool:
        if self.metric not in result:
            raise TrialError(
                f"RunConfig(stop=...) waits for {self.metric!r}, which is not reported: {', '.join(result)}"
            )
        return bool(result[self.metric] >= self.value)
