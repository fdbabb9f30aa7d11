"""An actor in the driver's own process: no Ray, no other process, no port.

Its calls are done in a thread of its own, so that the driver hears Ctrl-C, a person's commands and the end of its
budget while a model trains. A debugger that the user's code starts has the terminal; leaving it ends the run.
"""

from __future__ import annotations

import bdb
import contextlib
import copy
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from raytune_hpo.errors import traceback_text
from raytune_hpo.settings import Resources
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.workers.transport import ActorLostError, CallFailedError, DebuggerLeftError

#: How long the end of a run waits for what its actor was writing.
CLOSE_S = 120.0
#: And for an actor whose call is given up.
ABANDON_S = 5.0


class InlineCall:
    """A call and, once it is done, what came of it."""

    def __init__(self, done: threading.Condition, work: Callable[[], Any]) -> None:
        self._done, self._work = done, work
        self.over = False
        self._answer: Any = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Do it; `finish` says so."""
        try:
            self._answer = self._work()
        except BaseException as error:  # whatever a user's code raises is for whoever asks for the answer
            self._error = error

    def finish(self, error: BaseException | None = None) -> None:
        with self._done:
            self._error = self._error or error
            self.over = True
            self._done.notify_all()

    def answer(self, timeout_s: float | None = None) -> Any:
        with self._done:
            if not self._done.wait_for(lambda: self.over, timeout_s):
                raise ActorLostError("no answer in time", died=False)
        error = self._error
        if error is None:
            return self._answer
        if isinstance(error, bdb.BdbQuit):
            raise DebuggerLeftError from None
        if isinstance(error, ActorLostError):
            raise error
        raise CallFailedError(error, traceback_text(error, error.__traceback__)) from error


class InlineActor:
    """See the module. make: makes the object, in the actor's thread. done: is told of every call that is over.

    Raises what `make` raises.
    """

    def __init__(self, make: Callable[[], Any], done: threading.Condition) -> None:
        self._done = done
        self._calls: queue.SimpleQueue[InlineCall | None] = queue.SimpleQueue()
        self._killed = self._in_call = False
        self._object: Any = None
        self._thread = threading.Thread(target=self._work, daemon=True, name="inline actor")
        self._thread.start()
        try:
            self._object = self._send(make).answer()
        except CallFailedError as failed:
            self.kill()
            raise failed.error from None

    def call(self, method: str, *arguments: Any) -> InlineCall:
        own = copy.deepcopy(arguments)
        return self._send(lambda: getattr(self._object, method)(*own))

    def do(self, function: Callable[..., Any], *arguments: Any) -> InlineCall:
        return self._send(lambda: function(*arguments))

    def kill(self) -> None:
        """What it was writing is waited for. A call that still lasts is not: a process cannot kill a thread of its own,
        and whoever gives the call up has waited already."""
        self._killed = True
        self._calls.put(None)
        if self._in_call and hasattr(self._object, "abandon"):
            self._object.abandon()  # what it has changed of the process is put back then
            self._thread.join(ABANDON_S)
        else:
            self._thread.join(0.0 if self._in_call else CLOSE_S)

    def _send(self, work: Callable[[], Any]) -> InlineCall:
        call = InlineCall(self._done, work)
        if self._killed:
            call.finish(ActorLostError("the actor was ended", died=True))
        else:
            self._calls.put(call)
        return call

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._in_call = True
            call.make()
            self._in_call = False
            call.finish()
        if self._object is not None:
            self._object.close()
            self._object = None


@contextlib.contextmanager
def own_debugger() -> Iterator[None]:
    """Let `breakpoint()` be Python's: a Ray that was started in this process, or in a parent, has put its own there."""
    variable = "PYTHONBREAKPOINT"
    before = os.environ.get(variable, "")
    if before.startswith("ray."):
        del os.environ[variable]
    try:
        yield
    finally:
        if before.startswith("ray."):
            os.environ[variable] = before


class InlineTransport:
    """See `Transport`. There is room for one actor."""

    concurrent = kills = False

    def __init__(self) -> None:
        self._done = threading.Condition()
        self._data: Any = None
        self._remarks: list[str] = []

    def actor(self, cls: type, resources: Resources, *arguments: Any, **options: Any) -> InlineActor:
        """Waits until it is made: what both threads would import, one of them would only wait for."""
        return InlineActor(lambda: cls(*arguments, **options), self._done)

    def answered(self, calls: Sequence[InlineCall], timeout_s: float) -> list[InlineCall]:
        with self._done:
            self._done.wait_for(lambda: any(call.over for call in calls), timeout_s if calls else min(timeout_s, 0.05))
            return [call for call in calls if call.over]

    def once(self, function: Callable[..., Any], *arguments: Any) -> InlineCall:
        call = InlineCall(self._done, lambda: function(*arguments))
        call.make()
        call.finish()
        return call

    def data(self, recipe: Recipe | None) -> Callable[[], Any]:
        """Loaded once."""

        def loaded() -> Any:
            if self._data is None and recipe is not None:
                self._data = recipe.load()
                self._remarks = recipe.remarks(self._data)
            return self._data

        return loaded

    def remarks(self) -> list[str]:
        found, self._remarks = self._remarks, []
        return found

    def packed(self, value: Any) -> Any:
        return value

    def imports(self) -> None:
        return None

    def capacity(self, resources: Resources) -> int:
        return 1
