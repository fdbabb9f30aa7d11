"""A run on a live page: what the page was made of, and what is new since, as messages.

    follow -> changed: trials' rows and points of curves, as soon as they stand in the journal (POLL_S)
    renew  -> all of the page anew, now and then, of which the parts that are others are sent

To renew takes the longer the larger the run: it rests RESTS times as long as it took, so that a page that is open all
night costs a small part of one core. Messages are numbered; a page that has missed some is told to load itself again.
What is wrong with the run meanwhile (its journal is gone, or damaged) is told to those who look at it, and who come.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_hpo.checks import is_number
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import Closed, Reported, SessionOpened, Step, TrialEvent
from raytune_hpo.pages.document import document
from raytune_hpo.pages.messages import RELOAD, Messages, Reader, message
from raytune_hpo.pages.page import Parts, page, parts, status_line, trial_cells
from raytune_hpo.results.facts import Facts
from raytune_hpo.results.facts.facts import strict, trial_row
from raytune_hpo.results.followed import Followed
from raytune_hpo.results.results import load_results

POLL_S = 0.4
#: Between two looks whether somebody has the run, and between two signs of life to a page.
LOOK_S, BEAT_S = 3.0, 15.0
RESTS, SHORTEST_S = 30, 3.0


@dataclass(frozen=True)
class Made:
    """The page as it was made. since: the version that it is of."""

    document: Facts
    parts: Parts
    since: int


class Live:
    """One run and the pages that show it. It reads while there are any."""

    def __init__(self, run_dir: Path) -> None:
        """Raises ExperimentError where there is no run, or its journal is damaged."""
        self.run_dir = run_dir
        self._followed = Followed(run_dir)
        self.messages = Messages()
        self._wrong: dict[str, ExperimentError] = {}  # with what: following it, or making the page
        self._told: str | None = None  # of that, to the pages
        self._task: asyncio.Task[None] | None = None
        self._made: Made | None = None  # the newest
        self._anew = 0  # the version from which on pages are to be loaded anew
        self._closed = False  # whether a session has ended since
        self._epochs = self._reported()
        self._lock = asyncio.Lock()

    # What a page asks for ---------------------------------------------------------------------------

    async def html(self, *, control: bool = False) -> str:
        """The page as it is now. control: with what commands its trials."""
        now = await self._current()
        return await asyncio.to_thread(
            page, [now.document], made=now.parts, live=True, version=now.since, control=control
        )

    async def json(self) -> Facts:
        return (await self._current()).document

    async def news(self, since: int) -> AsyncIterator[str | None]:
        """Every message after `since`, as they come; None now and then while there are none. A page that has fallen
        behind what is kept is told "reload"."""
        kept = self.messages.since(since)
        if kept is None:
            yield RELOAD
            return
        if self._told is not None:
            kept.append(message({"problem": self._told, "version": self.messages.version}))
        reader = Reader()
        self.messages.readers.add(reader)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            for text in kept:
                yield text
            while True:
                try:
                    taken = await asyncio.wait_for(reader.take(), BEAT_S)
                except TimeoutError:
                    yield None
                    continue
                if taken is None:
                    return
                yield taken
        finally:
            self.messages.readers.discard(reader)

    async def settle(self) -> None:
        """Have the pages that are open shown what stands now: the server ends."""
        if not self.messages.readers:
            return
        with self._telling("followed"):
            self._follow()
            self.messages.send({"status": self._status()})
        await self._renew()
        while any(reader.waiting for reader in self.messages.readers):
            await asyncio.sleep(0.02)

    async def _current(self) -> Made:
        """The page of now: made anew unless pages follow the run, which are sent what is new. Raises ExperimentError
        where something is wrong with the run."""
        async with self._lock:
            if self._task is None or self._task.done():
                self._wrong, self._told = {}, None
                self._follow()
            elif self._wrong:
                raise next(iter(self._wrong.values()))
            elif self._made is not None and self._made.since >= self._anew and self.messages.lasts(self._made.since):
                return self._made
            if self._made is None or self._made.since != self.messages.version:
                return await self._make()
            return self._made

    async def _make(self) -> Made:
        since = self.messages.version
        found, its_parts = await asyncio.to_thread(self._read)
        self._made = Made(found, its_parts, since)
        return self._made

    def _read(self) -> tuple[Facts, Parts]:
        found = document(load_results(self.run_dir))
        return found, parts([found])

    # While pages are open ---------------------------------------------------------------------------

    async def _run(self) -> None:
        renewed, looked, rest, dirty = time.monotonic(), 0.0, SHORTEST_S, bool(self._wrong)
        renewing: asyncio.Task[float] | None = None
        status = ""
        try:
            while self.messages.readers:
                with self._telling("followed"):
                    dirty = self._follow() or dirty
                    now = time.monotonic()
                    if now - looked > LOOK_S:
                        looked = now
                        found = self._followed.status
                        if found != status:
                            status, dirty = found, True
                            self.messages.send({"status": self._status()})
                if renewing is not None and renewing.done():
                    renewed, rest = time.monotonic(), max(SHORTEST_S, RESTS * renewing.result())
                    renewing, dirty = None, dirty or "made" in self._wrong
                if self._closed:  # what stands then stays, so that it is not waited for
                    rest = 0.0
                if dirty and renewing is None and time.monotonic() - renewed >= rest:
                    dirty = self._closed = False
                    renewing = asyncio.create_task(self._renew())
                await asyncio.sleep(POLL_S)
        finally:
            if renewing is not None:
                renewing.cancel()
            self.messages.end()  # where it failed, pages see that, and try again

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Within it an ExperimentError is told to the pages, until it is gone: the run may be mended, or come back."""
        try:
            yield
            self._wrong.pop(what, None)
        except ExperimentError as error:
            self._wrong[what] = error
        told = next((str(error) for error in self._wrong.values()), None)
        if told != self._told:
            self._told = told
            self.messages.send({"problem": told})

    def _follow(self) -> bool:
        """Send what is new in the journal. Whether anything is."""
        steps = self._followed.fresh()
        if steps is None:
            self._epochs = self._reported()
            self._reload()
            return True
        if steps:
            self.messages.send(self._changed(steps))
        return bool(steps)

    def _changed(self, steps: list[Step]) -> dict[str, Any]:
        """Rows of the trials that anything happened to, points of their curves."""
        results = self._followed.results
        touched: dict[str, None] = {}
        points = []
        for step in steps:
            for event in step.events:
                if isinstance(event, TrialEvent):
                    touched[event.trial] = None
                if isinstance(event, Closed | SessionOpened):  # what ran waits now
                    self._closed |= isinstance(event, Closed)
                    touched |= dict.fromkeys(results.ledger.live)
                if isinstance(event, Reported):
                    self._epochs += 1
                    value = event.metrics.get(results.metric)
                    if is_number(value):
                        points.append([event.trial, event.epoch, value])
        trials, paths = results.ledger.trials, list(results.experiment["space"]["parameters"])
        rows = [trial_cells(strict(trial_row(results, trials[trial])), paths) for trial in touched]
        return {"rows": rows, "points": points, "status": self._status(), "at": steps[-1].at}

    def _status(self) -> str:
        results = self._followed.results
        best = results.ledger.winner()
        return status_line(
            status=self._followed.status,
            metric=results.metric,
            best=None if best is None else {"trial_id": best.id, "metric": best.best},
            trials=len(results.ledger.trials),
            epochs=self._epochs,
        )

    def _reported(self) -> int:
        return sum(1 for _ in self._followed.results.of(Reported))

    async def _renew(self) -> float:
        """Make the page anew and send the parts that are others. The seconds that it took."""
        began, before = time.monotonic(), self._made
        with self._telling("made"):
            async with self._lock:
                now = await self._make()
            html, figures = now.parts.html, now.parts.figures
            if before is not None and before.parts.html.keys() != html.keys():
                self._reload()
                return time.monotonic() - began
            if before is not None:
                html = {name: own for name, own in html.items() if before.parts.html[name] != own}
                figures = {name: own for name, own in figures.items() if before.parts.figures.get(name) != own}
            if html or figures:
                self.messages.send({"html": html, "figures": figures, "since": now.since})
        return time.monotonic() - began

    def _reload(self) -> None:
        """Have pages load themselves again, and none of a version before: it would be told so again."""
        self.messages.send({"reload": True})
        self._anew = self.messages.version
