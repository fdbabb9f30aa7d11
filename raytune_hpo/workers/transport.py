"""Transport: how the driver reaches the actors that train, wherever they live.

    pool -> Transport.actor -> Actor.call -> Call -> Transport.answered -> Call.answer

An actor is an object that is kept from call to call, and does its calls one after the other. Pools are written against
this and know no Ray; `ray_transport` puts actors into processes of Ray's, `inline_transport` into the driver's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from raytune_hpo.errors import placed_line, text_of
from raytune_hpo.settings import Resources
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.workers.imports import Imports


class CallFailedError(Exception):
    """The called method raised, which the actor has survived. error: what it raised; text: with its traceback."""

    def __init__(self, error: BaseException, text: str) -> None:
        super().__init__(text_of(error))
        self.error, self.text = error, text

    @property
    def line(self) -> str:
        """The error in a line, with its type, after the place in the user's code that it comes from."""
        return placed_line(self.error)


class ActorLostError(Exception):
    """No answer will come. The message says why, as far as that is known; died: the actor's process is gone."""

    def __init__(self, why: str, *, died: bool) -> None:
        super().__init__(why)
        self.died = died


class DebuggerLeftError(Exception):
    """A person has left a debugger in the middle of the call, which wants the run to end."""


class Call(Protocol):
    """A call that was sent."""

    def answer(self, timeout_s: float | None = None) -> Any:
        """Waits for it. Raises CallFailedError, DebuggerLeftError, or ActorLostError, also where nothing has come in
        time."""


class Actor(Protocol):
    def call(self, method: str, *arguments: Any) -> Call:
        """Send a call of one of the actor's methods. Arguments and answer are the receiver's own: neither side sees
        what the other changes in them."""

    def do(self, function: Callable[..., Any], *arguments: Any) -> Call:
        """Send a call of any function, to be made where the actor is."""

    def kill(self) -> None:
        """Never answers again."""


class Transport(Protocol):
    """concurrent: actors work while the driver does, so that none should wait for its next orders. kills:
    `Actor.kill` ends whatever the actor is at."""

    concurrent: bool
    kills: bool

    def actor(self, cls: type, resources: Resources, *arguments: Any, **options: Any) -> Actor:
        """Begin to make a `cls(*arguments, **options)` that has these resources to itself."""

    def answered(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those calls that have an answer; waits up to `timeout_s` for the first."""

    def once(self, function: Callable[..., Any], *arguments: Any) -> Call:
        """As `Actor.do`, with no actor."""

    def data(self, recipe: Recipe | None) -> Callable[[], Any]:
        """Gives what trials see of a task's data, wherever an actor calls it; None where there is no task."""

    def remarks(self) -> list[str]:
        """What a person should know of the data that were loaded, each once. Does not wait for them.

        Raises ExperimentError where they could not be loaded.
        """

    def packed(self, value: Any) -> Any:
        """As actors take what is the user's code: they unpickle bytes, after they can import what the driver can."""

    def imports(self) -> Imports | None:
        """What actors need to import what the driver can; None where they are in its process."""

    def capacity(self, resources: Resources) -> int:
        """How many such actors have room at the same time."""
