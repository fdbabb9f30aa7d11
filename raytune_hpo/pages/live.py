"""A run on a live page: what the page was made of, and what is new since, as messages.

    follow -> changed: trials' rows and points of curves, as soon as they stand in the journal (POLL_S)
    renew  -> all of the page anew, now and then, of which the parts that are others are sent

To renew takes the longer the larger the run: it rests RESTS times as long as it took, so that a page that is open all
night costs a small part of one core. Messages are numbered; a page that has missed some is told to load itself again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import Closed, Reported, Step, TrialEvent
from raytune_hpo.pages.document import document
from raytune_hpo.pages.page import Parts, page, parts, status_line, trial_cells
from raytune_hpo.results.facts import Facts
from raytune_hpo.results.facts.facts import trial_row
from raytune_hpo.results.followed import Followed
from raytune_hpo.results.results import load_results

POLL_S = 0.4
#: Between two looks whether somebody has the run, and between two signs of life to a page.
LOOK_S, BEAT_S = 3.0, 15.0
RESTS, SHORTEST_S = 30, 3.0
KEPT = 4000  # messages, for pages that come back
WAITING = 200  # messages for one page, which it does not take


class Live:
    """One run and the pages that show it. It reads while there are any."""

    def __init__(self, run_dir: Path) -> None:
        """Raises ExperimentError where there is no run, or its journal is damaged."""
        self.run_dir = run_dir
        self._followed = Followed(run_dir)
        self.version = 0
        self._messages: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._pages: set[asyncio.Queue[str | None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._document: Facts | None = None
        self._parts: Parts | None = None
        self._since = 0  # the version that `_document` is of
        self._closed = False  # whether a session has ended since
        self._epochs = self._reported()
        self._lock = asyncio.Lock()

    # What a page asks for ---------------------------------------------------------------------------

    async def html(self) -> str:
        """The page as it is now."""
        await self._current()
        assert self._document is not None
        return await asyncio.to_thread(page, [self._document], made=self._parts, live=True, version=self._since)

    async def json(self) -> Facts:
        await self._current()
        assert self._document is not None
        return self._document

    async def messages(self, since: int) -> AsyncIterator[str | None]:
        """Every message after `since`, as they come; None now and then while there are none. A page that has fallen
        behind what is kept is told "reload"."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(WAITING)
        kept = [text for number, text in self._messages if number > since]
        if len(kept) != self.version - since:
            yield json.dumps({"reload": True})
            return
        self._pages.add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            for text in kept:
                yield text
            while queue in self._pages:
                try:
                    yield await asyncio.wait_for(queue.get(), BEAT_S)
                except TimeoutError:
                    yield None
            yield json.dumps({"reload": True})
        finally:
            self._pages.discard(queue)

    async def _current(self) -> None:
        """Have the document of now: made anew unless pages follow the run, which are sent what is new."""
        async with self._lock:
            if self._task is None or self._task.done():
                self._follow()
            elif self._document is not None and self.version - self._since < KEPT // 2:
                return
            if self._document is None or self._since != self.version:
                await self._make()

    async def _make(self) -> None:
        since = self.version
        self._document, self._parts = await asyncio.to_thread(self._made)
        self._since = since

    def _made(self) -> tuple[Facts, Parts]:
        found = document(load_results(self.run_dir))
        return found, parts([found])

    # While pages are open ---------------------------------------------------------------------------

    async def _run(self) -> None:
        renewed, looked, rest, dirty = time.monotonic(), 0.0, SHORTEST_S, False
        renewing: asyncio.Task[float] | None = None
        status = ""
        while self._pages:
            with contextlib.suppress(ExperimentError):  # half written, or gone: it may come back
                dirty = self._follow() or dirty
                now = time.monotonic()
                if now - looked > LOOK_S:
                    looked = now
                    found = self._followed.status
                    if found != status:
                        status, dirty = found, True
                        self._send({"status": self._status()})
            if renewing is not None and renewing.done():
                renewed, rest = time.monotonic(), max(SHORTEST_S, RESTS * renewing.result())
                renewing = None
            if self._closed:  # what stands then stays, so that it is not waited for
                rest = 0.0
            if dirty and renewing is None and time.monotonic() - renewed >= rest:
                dirty = self._closed = False
                renewing = asyncio.create_task(self._renew())
            await asyncio.sleep(POLL_S)
        if renewing is not None:
            renewing.cancel()

    def _follow(self) -> bool:
        """Send what is new in the journal. Whether anything is."""
        steps = self._followed.fresh()
        if steps is None:
            self._epochs = self._reported()
            self._send({"reload": True})
            return True
        if steps:
            self._send(self._changed(steps))
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
                self._closed |= isinstance(event, Closed)
                if isinstance(event, Reported):
                    self._epochs += 1
                    value = event.metrics.get(results.metric)
                    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                        points.append([event.trial, event.generation, event.epoch, value])
        trials, paths = results.ledger.trials, list(results.experiment["space"]["parameters"])
        rows = [trial_cells(trial_row(results, trials[trial]), paths) for trial in touched]
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
        began, before = time.monotonic(), self._parts
        with contextlib.suppress(ExperimentError):
            async with self._lock:
                await self._make()
            made = self._parts
            assert made is not None
            html = {name: own for name, own in made.html.items() if before is None or before.html.get(name) != own}
            figures = {n: own for n, own in made.figures.items() if before is None or before.figures.get(n) != own}
            if before is not None and before.html.keys() != made.html.keys():
                self._send({"reload": True})
            elif html or figures:
                self._send({"html": html, "figures": figures, "since": self._since})
        return time.monotonic() - began

    def _send(self, message: dict[str, Any]) -> None:
        self.version += 1
        text = json.dumps({**message, "version": self.version}, allow_nan=False, separators=(",", ":"))
        self._messages.append((self.version, text))
        for queue in list(self._pages):
            try:
                queue.put_nowait(text)
            except asyncio.QueueFull:
                self._pages.discard(queue)
