"""Runs of format 1: JSON lines without number, checksum or wall-clock time, whose events had `dict` for a type.

They are read as they are, into today's events. `resume` rewrites a journal into format 2 (`rewritten`), so nothing
writes this any more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from raytune_hpo.journal.chain import FOREVER_S, BrokenError, Link, event_of, written
from raytune_hpo.journal.codec import MalformedError
from raytune_hpo.journal.events import Event, Step

_CHECKPOINT = ("trial", "generation", "epoch", "path", "bytes", "crc32")


def is_line(line: bytes) -> bool:
    """Whether a journal's first line is of format 1: it has no number."""
    return line.startswith(b'{"t":') or line.startswith(b'{"t" :')


def reader() -> Callable[[bytes, Link, str], tuple[Step, Link]]:
    """Reads one line after the other, as `chain.read` does; there is no chain to check."""

    def read(line: bytes, link: Link, run_id: str) -> tuple[Step, Link]:
        try:
            data = json.loads(line)
            steps_events = list(data["events"])
            more = data.keys() - {"t", "events"}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BrokenError("is damaged") from None
        if more:
            raise BrokenError("is of another format than the first")
        if type(data.get("t")) not in (int, float) or not 0 <= data["t"] <= FOREVER_S:
            raise MalformedError("t", data.get("t"), "must be a number of seconds")
        events: list[Event] = []
        for i, item in enumerate(steps_events):
            events += _events_of(item, f"events[{i}]")
        step = Step(link.number + 1, float(data["t"]), 0.0, tuple(events), link.events)
        return step, link.after(step, "")

    return read


def _events_of(data: Any, where: str) -> list[Event]:
    """An event of format 1 held a report and what was decided on it, and a checkpoint's fields beside its own."""
    if not isinstance(data, dict):
        raise MalformedError(where, data, "must be an object")
    kind, fields = data.get("event"), dict(data)
    if kind == "result":
        decided = {"event": "decide", "trial": fields.get("trial"), "epoch": fields.get("epoch")}
        decided["decision"] = fields.pop("decision", None)
        if "note" in fields:
            decided["note"] = fields.pop("note")
        fields["event"], fields["metrics"] = "report", _strict(fields.get("metrics"))
        return [event_of(fields, where), event_of(decided, where)]
    if kind == "checkpoint":
        record = {name: fields.pop(name) for name in _CHECKPOINT if name in fields}
        fields.update(trial=record.get("trial"), checkpoint=record)
    elif kind == "end":
        fields["outcome"] = fields.pop("status", None)
    return [event_of(fields, where)]


def _strict(metrics: Any) -> Any:
    """Format 1 wrote NaN as such."""
    if not isinstance(metrics, dict):
        return metrics
    return {k: {"float": str(v)} if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}


def rewritten(steps: list[Step], run_id: str) -> bytes:
    """The same steps as a journal of format 2."""
    lines, link = [], Link()
    for step in steps:
        line, link = written(step, link, run_id)
        lines.append(line)
    return b"".join(lines)
