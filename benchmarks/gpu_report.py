"""The two files of benchmarks/gpu.py, gpu.json and gpu.md, whole at every moment, and the lines that it prints."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raytune_hpo.atomic import write_atomically

REPOSITORY = Path(__file__).resolve().parents[1]

#: What each part is, and its columns: heading -> name in a row.
PARTS: dict[str, tuple[str, dict[str, str]]] = {
    "tests": (
        "Tests on the device",
        {
            "file": "file",
            "passed": "passed",
            "failed": "failed",
            "skipped": "skipped",
            "seconds": "seconds",
            "note": "note",
        },
    ),
    "lanes": (
        "Lanes of one process",
        {
            "model": "model",
            "": "how",
            "model-epochs a second": "rate",
            "times solo": "gain",
            "peak memory, MB": "memory_mb",
            "busy, %": "utilisation",
            "made in, s": "making_s",
            "note": "note",
        },
    ),
    "processes": (
        "Processes that share the device",
        {
            "model": "model",
            "processes": "processes",
            "model-epochs a second": "rate",
            "times solo": "gain",
            "peak memory, MB": "memory_mb",
            "busy, %": "utilisation",
            "note": "note",
        },
    ),
    "exploit": (
        "A copy of a donor, and a lane that comes",
        {
            "lanes": "lanes",
            "what": "what",
            "each, ms": "each_ms",
            "placement, s": "placement_s",
            "epoch of all lanes, s": "epoch_s",
            "note": "note",
        },
    ),
}

EXPLAINED = """Model-epochs a second are of wall time, median (minimum..maximum) of short windows; `times solo` compares
medians with the solo trainer's loop in the same process. Peak memory is of tensors (of all processes together).
`busy` is the share of time in which the card ran anything, as NVIDIA counts it."""


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """As a row holds what was measured several times."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"median": median, "min": ordered[0], "max": ordered[-1], "repeats": len(ordered)}


def shown(value: Any) -> str:
    """A cell: numbers of three digits."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        median, least, most = (shown(float(value[name])) for name in ("median", "min", "max"))
        return median if value["repeats"] == 1 else f"{median} ({least}..{most})"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value).replace("|", "/").replace("\n", " ")


def described(error: BaseException) -> str:
    """An error in one line, with where in this repository it came from: names of files, no paths."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(REPOSITORY)] or frames
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in ours[:-5:-1])
    text = next(iter(str(error).splitlines()), "")[:300]
    return f"{type(error).__name__}: {text} [{places}]"


class Report:
    """Rows and notes, in the files after each of them."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], settings: Mapping[str, Any], began: float) -> None:
        self._json, self._markdown = folder / "gpu.json", folder / "gpu.md"
        self._began = began
        self.found: dict[str, Any] = {
            "format": 1,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "complete": False,
            "seconds": 0.0,
            "machine": dict(facts),
            "settings": dict(settings),
            "parts": {name: {"seconds": None, "rows": []} for name in PARTS},
            "notes": [],
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.write()

    def rows(self, part: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.found["parts"][part]["rows"]
        return found

    def add(self, part: str, row: dict[str, Any]) -> None:
        self.rows(part).append(row)
        self.write()
        columns = PARTS[part][1]
        cells = [(head, shown(row.get(name))) for head, name in columns.items()]
        print(f"{part}: " + "; ".join(f"{head} {cell}".strip() for head, cell in cells if cell), flush=True)
        for failure in row.get("failures", []):
            print(f"    {failure['name']}: {failure['line']}", flush=True)

    def note(self, text: str) -> None:
        self.found["notes"].append(text)
        self.write()
        print(text, flush=True)

    def ended(self, part: str, seconds: float) -> None:
        self.found["parts"][part]["seconds"] = round(seconds, 1)
        self.write()

    def finish(self, *, complete: bool) -> None:
        self.found["complete"] = complete
        self.write()
        print(f"wrote {self._json} and {self._markdown}", flush=True)

    def write(self) -> None:
        self.found["seconds"] = round(time.monotonic() - self._began, 1)
        write_atomically(self._json, (json.dumps(self.found, indent=1) + "\n").encode())
        write_atomically(self._markdown, (self.markdown() + "\n").encode())

    def markdown(self) -> str:
        machine, settings = self.found["machine"], self.found["settings"]
        known = {name: value for name, value in machine.items() if value is not None and name != "name"}
        lines = [
            f"# {machine['name']}",
            "",
            f"`python benchmarks/gpu.py`, {self.found['date']}, {self.found['seconds']:.0f} s"
            + ("" if self.found["complete"] else ", not complete"),
            "",
            "; ".join(f"{name} {value}" for name, value in known.items()),
            "",
            "; ".join(f"{name} {value}" for name, value in settings.items()),
        ]
        for part, (title, columns) in PARTS.items():
            seconds = self.found["parts"][part]["seconds"]
            lines += ["", f"## {title}" + ("" if seconds is None else f" ({seconds:.0f} s)"), ""]
            lines += [EXPLAINED, ""] if part == "lanes" else []
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            for row in self.rows(part):
                lines.append("| " + " | ".join(shown(row.get(name)) for name in columns.values()) + " |")
            failures = [failure for row in self.rows(part) for failure in row.get("failures", [])]
            lines += ["", *(f"- `{failure['name']}`: {failure['line']}" for failure in failures)] if failures else []
        if self.found["notes"]:
            lines += ["", "## Notes", "", *(f"- {note}" for note in self.found["notes"])]
        return "\n".join(lines)
