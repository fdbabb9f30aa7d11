"""A line of a journal: strict JSON, numbered, and chained to the line before it.

    {"n": number, "t": ..., "at": ..., "events": [...], "sum": "16 hex digits"}

The sum is a BLAKE2b over the run's id, the previous line's sum and the line's own bytes before it, its number among
them. A line that was lost, doubled, swapped, changed, or taken from another run breaks the chain, and is named. This
guards against accidents; who rewrites all sums on purpose is met by the codec, which takes no malformed event.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from typing import Any

from raytune_hpo.journal.codec import MalformedError, decoded, encoded
from raytune_hpo.journal.events import KINDS, Event, Step

_NUMBERS = (int, float)
FOREVER_S = 1e12  # thirty thousand years
_SUM = b',"sum":"'
_KEYS = dict.fromkeys(("n", "t", "at", "events")).keys()
_TAIL = len(_SUM) + 16 + len(b'"}\n')


@dataclass(frozen=True)
class Link:
    """What the next line is chained to: the last line's number and sum, and how many events came before the next."""

    number: int = 0
    sum: str = ""
    events: int = 0

    def after(self, step: Step, sum_: str) -> Link:
        return Link(step.number, sum_, step.first + len(step.events))


class BrokenError(ValueError):
    """A line is not the one that follows. The message says what is wrong, in words."""


def written(step: Step, link: Link, run_id: str) -> tuple[bytes, Link]:
    """The line of a step that follows `link`, and what its next is chained to."""
    events = [{"event": event.KIND, **encoded(event)} for event in step.events]
    body = _dumped({"n": step.number, "t": step.t, "at": step.at, "events": events})[:-1]
    sum_ = _sum(body, link.sum, run_id)
    return body + _SUM + sum_.encode() + b'"}\n', link.after(step, sum_)


def read(line: bytes, link: Link, run_id: str) -> tuple[Step, Link]:
    """The step of a whole line, and what its next is chained to.

    Raises BrokenError unless it is the one after `link`, MalformedError for an event that no version of ours wrote.
    """
    body, sum_ = line[:-_TAIL], line[-_TAIL + len(_SUM) : -3].decode("ascii", "replace")
    expected = link.number + 1
    if line[-_TAIL : -_TAIL + len(_SUM)] != _SUM or line[-3:] != b'"}\n':
        raise BrokenError("was changed: it has no checksum")
    if sum_ != _sum(body, link.sum, run_id):
        raise BrokenError(_told(body, expected))
    data = _parsed(body + b"}")
    if not isinstance(data, dict) or data.keys() != _KEYS:
        raise MalformedError("line", data, f"must have {', '.join(_KEYS)} and nothing else")
    if type(data["n"]) is not int or data["n"] != expected:
        raise MalformedError("n", data["n"], f"must be {expected}, the line's number")
    return step_of(data, expected, link.events), Link(expected, sum_, link.events + len(data["events"]))


def link_of(line: bytes) -> Link | None:
    """What the line after this one is chained to, by its own word; None where it is no whole line. How many events came
    before is not known from it."""
    found = _parsed(line) if line.endswith(b'"}\n') else None
    if not isinstance(found, dict) or type(found.get("n")) is not int or not isinstance(found.get("sum"), str):
        return None
    return Link(found["n"], found["sum"])


def _told(body: bytes, expected: int) -> str:
    """What is wrong with a line whose sum does not fit."""
    try:
        number = _parsed(body + b"}").get("n")
    except (MalformedError, AttributeError):
        number = None
    if type(number) is not int or number == expected or abs(number) > sys.maxsize:
        return "was changed, or is of another run"
    if number > expected:
        missing = f"line {expected} is" if number == expected + 1 else f"lines {expected} to {number - 1} are"
        return f"has number {number}: {missing} missing before it"
    return f"has number {number}: it comes twice, or in the wrong place"


def step_of(data: Any, number: int, first: int) -> Step:
    """A line's JSON as a step. Raises MalformedError."""
    for name in ("t", "at"):
        value = data.get(name)
        if type(value) not in _NUMBERS or not -FOREVER_S <= value <= FOREVER_S:
            raise MalformedError(name, value, "must be a number of seconds")
    if not isinstance(data.get("events"), list):
        raise MalformedError("events", data.get("events"), "must be a list")
    events = tuple(event_of(item, f"events[{i}]") for i, item in enumerate(data["events"]))
    return Step(number, float(data["t"]), float(data["at"]), events, first)


def event_of(data: Any, where: str) -> Event:
    """The event that a JSON object holds. Raises MalformedError."""
    if not isinstance(data, dict) or not isinstance(data.get("event"), str):
        raise MalformedError(where, data, "must be an object with the name of an event")
    fields = dict(data)
    kind = fields.pop("event")
    if kind not in KINDS:
        raise MalformedError(f"{where}.event", kind, "is no event that this version knows; a newer one wrote it")
    event: Event = decoded(KINDS[kind], fields, f"{where} ({kind})")
    return event


def _dumped(data: Any) -> bytes:
    return json.dumps(data, allow_nan=False, separators=(",", ":")).encode()


def _parsed(text: bytes) -> Any:
    """Strict JSON. Raises MalformedError."""
    try:
        return _STRICT.decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise MalformedError("line", text[:60].decode(errors="replace"), f"is no JSON ({error})") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


#: One for all lines: `json.loads` makes one for each that it is asked for something of the kind.
_STRICT = json.JSONDecoder(parse_constant=_no_constant)


def _sum(body: bytes, previous: str, run_id: str) -> str:
    digest = hashlib.blake2b(digest_size=8, key=run_id.encode()[:64])
    digest.update(previous.encode())
    digest.update(body)
    return digest.hexdigest()
