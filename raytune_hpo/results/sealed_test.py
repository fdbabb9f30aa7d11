"""The seal on the test split: test.json records every opening, and each purpose may open it once.

A figure of the test split is believable as long as nobody chose by it. So whoever looks (the run, for its
winner; `ensemble`, for the chosen one; `confirm`) has one look, and a second for the same purpose needs
`again`, which the record shows for good.

An opening is written down before the split is read, and completed with its metrics afterwards: a crash
in between leaves one without metrics, which may be finished for the same subject and no other.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from raytune_hpo.atomic import write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.codec import Coded, MalformedError, decoded, read_plain_data
from raytune_hpo.owned import OWN_FILE, read_bytes
from raytune_hpo.results.trial import finite
from raytune_hpo.storage.run_directory import RunDirectory

TEST_FILE = "test.json"


def _read_figures(value: Any, where: str) -> dict[str, float | None]:
    for name, figure in read_plain_data(value, where).items():
        if figure is not None and type(figure) not in (int, float):
            raise MalformedError(f"{where}.{name}", figure, "must be a number or null")
    return value  # type: ignore[no-any-return]


#: name -> number, None where it is not finite (of an empty split, say).
Figures = Annotated[dict[str, float | None], Coded(lambda value: value, _read_figures)]


@dataclass(frozen=True)
class Opening:
    """One look at the test split.

    purpose: who looked ("winner", "ensemble", ...). subject: what was tested, as plain JSON. again: whether
    it was a second look, by demand. begun and ended: local times with offset, ISO 8601. metrics: None if
    it was begun and never ended; a figure that is not finite is None.
    """

    purpose: str
    subject: dict[str, Any]
    again: bool
    begun: str
    ended: str | None = None
    metrics: Figures | None = None

    @property
    def figures(self) -> dict[str, float]:
        """The metrics to calculate with; NaN for one that is not finite, or not there."""
        found: dict[str, float] = defaultdict(lambda: math.nan)
        found.update((name, value) for name, value in (self.metrics or {}).items() if value is not None)
        return found


def openings(run_path: Path) -> list[Opening]:
    """Every opening, in order; none if the split is still sealed. Raises ExperimentError if test.json is damaged."""
    path = run_path / TEST_FILE
    if not os.path.lexists(path):
        return []
    try:
        document = json.loads(read_bytes(path), parse_constant=_as_null)
        return [decoded(Opening, item, f"openings[{i}]") for i, item in enumerate(_items(document))]
    except (ValueError, RecursionError) as error:
        raise ExperimentError("run directory", str(path), f"is damaged: {error}") from error
    except OSError as error:
        raise ExperimentError("run directory", str(path), f"cannot be read: {error.strerror or error}") from error


def _items(document: Any) -> list[Any]:
    items = document.get("openings") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise MalformedError("openings", items, "must be a list")
    return items


def _as_null(constant: str) -> None:
    """Older versions wrote NaN and infinities as such."""


def recorded(run_path: Path, purpose: str, subject: dict[str, Any] | None = None) -> Opening | None:
    """The newest completed opening for `purpose` (and of `subject`, if one is given). Opens nothing."""
    subject = subject if subject is None else _plain(subject)
    found = [o for o in openings(run_path) if o.purpose == purpose and o.metrics is not None]
    return next((o for o in reversed(found) if subject in (None, o.subject)), None)


def open_test(
    directory: RunDirectory,
    purpose: str,
    subject: dict[str, Any],
    evaluate: Callable[[], Mapping[str, float]],
    *,
    again: bool = False,
) -> Opening:
    """Open the test split for `purpose`: evaluate() reads it and answers the metrics, which are recorded.

    The caller holds the run's lock. Raises ExperimentError, before `evaluate` is called, if the split was
    opened for this purpose already, or an opening for it was begun with another subject, unless `again`.
    """
    subject = _plain(subject)
    record = openings(directory.path)
    earlier = [o for o in record if o.purpose == purpose]
    unfinished = next((o for o in earlier if o.metrics is None and o.subject == subject), None)
    if unfinished is None:
        if earlier and not again:
            raise _refusal(directory.path, next((o for o in earlier if o.metrics is not None), earlier[-1]))
        record.append(Opening(purpose, subject, bool(earlier), _now()))
        _write(directory.path, record)
    place = len(record) - 1 if unfinished is None else record.index(unfinished)
    record[place] = replace(record[place], metrics=_plain(finite(evaluate())), ended=_now())
    _write(directory.path, record)
    return record[place]


def _refusal(run_path: Path, earlier: Opening) -> ExperimentError:
    state = "was opened" if earlier.metrics is not None else "was begun to be opened for another subject"
    return ExperimentError(
        "test split",
        earlier.purpose,
        f"{state} on {earlier.begun} ({run_path / TEST_FILE}); a second look makes figures look better than they are: "
        "--again opens it all the same, and records that",
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """As it will be read back, so that subjects compare equal across processes."""
    read: dict[str, Any] = json.loads(json.dumps(value))
    return read


def _write(run_path: Path, record: list[Opening]) -> None:
    document = {"openings": [asdict(o) for o in record]}
    write_atomically(run_path / TEST_FILE, (json.dumps(document, indent=2) + "\n").encode(), OWN_FILE)
