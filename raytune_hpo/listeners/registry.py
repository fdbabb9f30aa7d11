"""The listeners by name, and what else may stand in `listeners=`. No listener's library is imported before it is told
of a run."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raytune_hpo.checks import no_such
from raytune_hpo.errors import ExperimentError, blamed
from raytune_hpo.listeners.listener import Listener

#: name -> "module:Class". A new listener costs its file and this line.
LISTENERS: dict[str, str] = {
    "tensorboard": "raytune_hpo.listeners.tensorboard:TensorBoard",
}


def listener_called(name: str, field: str) -> Listener:
    """A listener by its name here, or by "module:Class", a class of one's own that is made without arguments.

    Raises ExperimentError naming `field` for an unknown name, and where what the listener needs is not installed.
    """
    module, colon, attribute = LISTENERS.get(name, name).partition(":")
    if not colon:
        raise ExperimentError(field, name, f"{no_such('listener', name, LISTENERS)}; or module:Class, one of your own")
    with blamed(field, name):
        try:
            found: Listener = getattr(importlib.import_module(module), attribute)()
        except ExperimentError as error:
            raise ExperimentError(field, name, error.expected) from error
    return found


def check_listeners(field: str, given: Any) -> tuple[Any, ...]:
    """What stands in `listeners=`. Raises ExperimentError for what is no listener."""
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise ExperimentError(field, given, "must be a list of listeners")
    for i, one in enumerate(given):
        listener = listener_called(one, f"{field}[{i}]") if isinstance(one, str) else one
        if not any(hasattr(listener, method) for method in ("event", "on_trial_result")):
            expected = "must be a Listener, a subclass of one, a name, or a callback of Ray Tune's"
            raise ExperimentError(f"{field}[{i}]", one, expected)
    return tuple(given)


def made_listeners(given: Iterable[Any]) -> list[Listener]:
    """As `made_listener`; a name that comes twice is one. Of several of one class each gets a name, and so a folder,
    of its own."""
    named: set[str] = set()
    found = []
    for one in given:
        if not isinstance(one, str) or one not in named:
            found.append(made_listener(one))
            named |= {one} if isinstance(one, str) else set()
    names: Counter[str] = Counter()
    for listener in found:
        name = name_of(listener)
        names[name] += 1
        if names[name] > 1 and hasattr(listener, "name"):
            listener.name = f"{name}-{names[name]}"
    return found


def made_listener(given: Any) -> Listener:
    """A listener of what stands in `listeners=`: a name, an object, a class, or a callback of Ray Tune's."""
    if isinstance(given, str):
        given = listener_called(given, "listeners")
    made = given() if isinstance(given, type) else given
    if hasattr(made, "on_trial_result") and not isinstance(made, Listener):
        from raytune_hpo.listeners.ray_callback import RayCallback

        return RayCallback(made)
    found: Listener = made
    return found


def name_of(listener: Listener) -> str:
    return getattr(listener, "name", None) or type(listener).__name__


def written_down(listener: Any) -> dict[str, str]:
    """How a listener is recorded: one of ours by its name, any other one for its experiment file to make it again."""
    if isinstance(listener, str):
        return {"name": listener} if listener in LISTENERS else {"class": listener}
    cls = listener if isinstance(listener, type) else type(listener)
    return {"class": f"{cls.__module__}:{cls.__qualname__}"}


def recorded_names(recorded: Iterable[Any]) -> list[str]:
    """The listeners of a description that are made again by name alone."""
    names = [one.get("name") for one in recorded if isinstance(one, Mapping)]
    return [name for name in names if name in LISTENERS]
