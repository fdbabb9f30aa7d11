"""What a notebook's cell shows of a run, and of other long work, while it goes on: an output that changes in place."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence

from raytune_hpo.display.headway_bar import PartOfWork, ShownHeadway
from raytune_hpo.display.notebook import CellOutput
from raytune_hpo.display.panda_display import intervention
from raytune_hpo.display.run_watch import RunWatch
from raytune_hpo.display.summary import closing_lines, header, shown_config, shown_path, stopped_line
from raytune_hpo.journal.events import Event
from raytune_hpo.listeners.listener import RunView
from raytune_hpo.printable import printable
from raytune_hpo.results.results import Results
from raytune_hpo.results.results_html import list_html, safe, table_html
from raytune_hpo.states import Status

EVERY_S = 1.0
NEWS = 5  # of notices and of failures each, the last ones


class NotebookProgress(RunWatch):
    """The listener of a notebook's cell. of_panda: whether each thing that is done to its one trial is news; start:
    where that trial's first config comes from."""

    def __init__(self, output: CellOutput, *, of_panda: bool = False, start: str | None = None) -> None:
        super().__init__()
        self._output, self._of_panda, self._start = output, of_panda, start
        self._header: list[str] = []
        self._notices: deque[str] = deque(maxlen=NEWS)
        self._failed: deque[str] = deque(maxlen=NEWS)
        self._last = 0.0

    def begin(self, run: RunView) -> None:
        super().begin(run)
        self._header = header(run).splitlines()
        if self._start is not None:
            self.say(f"starts with {self._start}: {shown_config(run.experiment['start_points'][0])}")
        self._draw()

    def say(self, text: str, style: str | None = None) -> None:
        (self._failed if style == "red" else self._notices).append(text)

    def news(self, event: Event) -> None:
        super().news(event)
        line = intervention(event) if self._of_panda else None
        if line is not None:
            self.say(line)

    def idle(self) -> None:
        now = time.monotonic()
        if now - self._last >= EVERY_S:
            self._last = now
            self._draw()

    def end(self) -> None:
        self._draw()

    def close(self, results: Results, since: float) -> None:
        """Instead of how far it is, what came of it: the run is over, or was already."""
        self.ledger = results.ledger
        ended, *others = closing_lines(results, since)
        best, stopped = self.best(), stopped_line(results)
        lines = [ended, *([] if best is None else [best]), *others]
        if stopped is not None:
            lines.append(stopped)
        elif results.status != "finished":
            lines.append(f"go on: raytune_hpo.resume({str(results.run_dir)!r})")
        self._header = self._header or [results.experiment["name"], f"run directory: {shown_path(results.run_dir)}"]
        self._failed.clear()  # the closing lines have them
        self._show(lines)

    def _draw(self) -> None:
        if not self.ledger.trials:
            self._show(self.counted(), f"<p>{bar_html(None, None)}</p>")
            return
        done, left = self.epochs()
        counts = {status.value: str(n) for status, n in self.ledger.counts.items() if n or status == Status.RUNNING}
        table = table_html(["finished", *counts], [[self.finished, *counts.values()]])
        seconds = self.left(left)
        bar = f"<p>{bar_html(done, done + left)} {safe(seconds or '')}</p>"
        counted = "  ".join(filter(None, [*self.counted(), seconds]))
        self._show([line for line in [self.best()] if line is not None], bar + table, counted)

    def _show(self, lines: Sequence[str], html: str = "", text: str = "") -> None:
        """lines: below the header. html: before them; text: the same where no HTML is shown."""
        name, *where = self._header
        parts = [lines_html([f"<b>{safe(name)}</b>", *map(safe, where)]), html, lines_html(map(safe, lines))]
        parts.append(lines_html(map(safe, self._notices)))
        if self._failed:
            parts.append(f"{lines_html(['<b>failures</b>'])}{list_html(self._failed)}")
        texts = [*self._header, *([text] if text else []), *lines, *self._notices, *self._failed]
        self._output.show(f"<div>{''.join(parts)}</div>", "\n".join(map(printable, texts)))


class HeadwayCell(ShownHeadway):
    """Shows it in a cell, and nothing after it. What is soon over is not shown."""

    def __init__(self, output: CellOutput) -> None:
        super().__init__(EVERY_S)
        self._output = output

    def close(self) -> None:
        self._output.clear()

    def show(self, part: PartOfWork) -> None:
        self._output.show(f"<p>{bar_html(part.done, part.total)} {safe(part.line())}</p>", part.line())


def lines_html(lines: Iterable[str]) -> str:
    """Lines of HTML as a paragraph."""
    text = "<br>".join(lines)
    return f"<p>{text}</p>" if text else ""


def bar_html(done: float | None, total: float | None) -> str:
    """A bar in the colours of the page; one that only moves where it is not known how much there is."""
    style = 'style="width:16em;vertical-align:middle"'
    if done is None or total is None:
        return f"<progress {style}></progress>"
    return f'<progress value="{done:.6g}" max="{max(total, 1):.6g}" {style}></progress>'
