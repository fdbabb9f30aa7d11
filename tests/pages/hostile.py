"""Run directories of every kind that a report may meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from written_run import end, result, suggest, written_run

from raytune_hpo import Choice, Float, Int
from raytune_hpo.journal.events import (
    CheckpointRecord,
    Closed,
    Event,
    Perturbed,
    Phased,
    Reported,
    SessionOpened,
    Started,
    Suggested,
    Warned,
)
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.states import RunStatus

SCRIPT = "<script>alert(1)</script>"
ANSI = "\x1b[31mred\x1b[0m"
LONG = "n" * 200
NAN = float("nan")

#: Parameters whose names and options are hostile, lists, None and truth values.
HOSTILE: dict[str, Any] = {
    "lr": Float(1e-4, 1e-1, "log"),
    "momentum": Float(0.5, 0.99, scale="reverse_log").when("kind", "==", SCRIPT),
    "kind": Choice([SCRIPT, ANSI, "plain </script> %{x}"]),
    "layers": Choice([[16], [16, 8], None, True]),
    LONG: Int(1, 8),
    "<b>bold</b>": Int(16, 256, scale="power_of_two"),
}


def config(i: int = 0) -> dict[str, Any]:
    kinds = HOSTILE["kind"].values
    own = {
        "lr": 10 ** (-1 - (i % 13) / 4.5),
        "kind": kinds[i % 3],
        "layers": [[16], [16, 8], None, True][i % 4],
        LONG: 1 + i % 8,
        "<b>bold</b>": 2 ** (4 + i % 5),
    }
    return own if i % 3 else {**own, "momentum": 0.9}


def space() -> dict[str, Any]:
    return SearchSpace(HOSTILE).to_json()


def many(count: int = 30) -> list[Any]:
    """Trials over the hostile space: every third goes to epoch 9, the others are stopped at 3; two end badly."""
    lines: list[Any] = [SessionOpened(1, 1, "host", "2026-01-01T00:00:00+0000")]
    for i in range(count):
        trial = f"t{i:05d}"
        lines.append([suggest(trial, **config(i)), Started(trial, 0, "host", f"host-{i % 2}")])
        last = 9 if i % 3 == 0 else 3
        for epoch in range(1, last + 1):
            decision = "complete" if epoch == 9 else "stop" if epoch == last else "continue"
            lines.append(result(trial, epoch, 0.5 + 0.01 * (i % 13) + 0.005 * epoch, decision))
        lines.append(end(trial, "completed", "max_epochs") if last == 9 else end(trial, "stopped", "asha"))
    lines += [suggest("t00030", **config(1)), end("t00030", "failed", "error", f"ValueError: {SCRIPT} {ANSI}")]
    lines += [suggest("t00031", **config(2)), result("t00031", 1, NAN, "diverged")]
    lines.append(end("t00031", "diverged", "validation_accuracy at epoch 1"))
    lines.append(Warned("t00000", "UserWarning", f"careful {SCRIPT}", "file.py:1", 3))
    return lines


def hostile_run(path: Path) -> Path:
    lines = many()
    made = written_run(path, *lines, Closed(RunStatus.FINISHED), space=space(), max_epochs=9, name="hostile")
    (made / "errors").mkdir()
    (made / "errors" / "t00030.txt").write_text(f"Traceback\n  {SCRIPT}\nValueError: {ANSI}\n")
    return made


def copied(
    trial: str, donor: str, epoch: int, generation: int, old: float, new: float, of: int = 0, at: int | None = None
) -> Perturbed:
    """At `at`, `trial` goes on from the donor's checkpoint of `epoch`, the same one if left out, with another lr."""
    path = f"checkpoints/{trial}/{generation:02d}-{epoch:05d}.1"
    record = CheckpointRecord(trial, generation, epoch, path, bytes=0, crc32=0)
    return Perturbed(trial, donor, epoch, of, at or epoch, generation, {"lr": old, "batch_size": 32},
                     {"lr": new, "batch_size": 32}, record)  # fmt: skip


def pbt_run(path: Path) -> Path:
    """Three trials; t00002 goes on from t00000 at epoch 2 and from t00001, whose lr has changed too, at 4, and wins."""
    names = ("t00000", "t00001", "t00002")
    lines: list[Any] = [SessionOpened(1, 1, "host", "2026-01-01T00:00:00+0000")]
    lines += [
        [suggest(t, lr=0.01 * (i + 1), batch_size=32), Started(t, 0, "host", "host-1")] for i, t in enumerate(names)
    ]
    for i, t in enumerate(names):
        lines += [result(t, 1, 0.5 + 0.1 * i), result(t, 2, 0.6 + 0.01 * i, "exploited" if i == 2 else "continue")]
    lines += [[copied("t00002", "t00000", 2, 1, 0.03, 0.012), Started("t00002", 2, "host", "host-1")]]
    lines += [result("t00001", 3, 0.7), result("t00001", 4, 0.72)]
    lines += [result("t00002", 3, 0.65, generation=1), result("t00002", 4, 0.66, "exploited", generation=1)]
    lines += [[copied("t00002", "t00001", 4, 2, 0.012, 0.024), Started("t00002", 4, "host", "host-1")]]
    lines += [result("t00002", 5, 0.9, generation=2), result("t00002", 6, 0.8, "complete", generation=2)]
    lines += [end(t, "completed", "max_epochs") if t == "t00002" else end(t, "stopped", "plateau") for t in names]
    return written_run(path, *lines, Closed(RunStatus.FINISHED), max_epochs=6, name="pbt")


def two_sessions(path: Path) -> Path:
    """Killed in its first session, finished in the second; phases and workers as a driver writes them. A line a second,
    of the clock that the journal is written by."""
    at = 1000.0

    def phase(name: str, began: float, ended: float, worker: str | None = None) -> Event:
        return Phased(name, at + began, at + ended, worker)

    made = written_run(path, SessionOpened(1, 1, "host", "2026-01-01T00:00:00+0000"))
    from raytune_hpo.journal.file import Journal, read

    steps: list[tuple[float, list[Event]]] = [
        (4, [phase("process", -2, 0), phase("imports", 0, 3)]),
        (5, [suggest("t00000"), Started("t00000", 0, "host", "host-7"), phase("process", 3.5, 4.5, "host-7")]),
        (10, [*result("t00000", 1, 0.5)]),
        (500, [SessionOpened(2, 2, "host", "2026-01-01T01:00:00+0000"), phase("process", 497, 499)]),
        (502, [Started("t00000", 1, "host", "host-8")]),
        (508, [*result("t00000", 2, 0.6, "complete")]),
        (509, [end("t00000", "completed", "max_epochs"), Closed(RunStatus.FINISHED)]),
    ]
    file = made / "journal.jsonl"
    file.unlink()
    clock = iter([at, *(at + seconds for seconds, _ in steps)])
    journal = Journal(file, "0123456789abcdef", clock=lambda: next(clock))
    journal.append(0, [SessionOpened(1, 1, "host", "2026-01-01T00:00:00+0000")])
    for seconds, events in steps:
        journal.append(min(seconds, 20), events)
    journal.close()
    assert read(file, "0123456789abcdef").damage is None
    return made


def trials_of(path: Path, metric: Callable[[int], Any], config: Callable[[int], Config], **space: Any) -> Path:
    """Thirty finished trials: with what value, under which config, as if they were of this space."""
    lines: list[Any] = [SessionOpened(1, 1, "host", "2026-01-01T00:00:00+0000")]
    for i in range(30):
        trial = f"t{i:05d}"
        reported = Reported(trial, 0, 1, {"validation_accuracy": metric(i)}, 1.0)
        lines += [[Suggested(trial, config(i)), reported], end(trial, "completed", "max_epochs")]
    return written_run(path, *lines, Closed(RunStatus.FINISHED), space=SearchSpace(space).to_json())


def beyond_reason(folder: Path) -> dict[str, Path]:
    """By name: runs that no driver of ours would have written, but a scheduler of one's own, a person, a stranger."""
    space: dict[str, Any] = {
        "lr": Float(1e-4, 1e-1, "log"),
        "n": Int(1, 64, scale="power_of_two"),
        "kind": Choice(["a", "b"]),
    }
    ends = [1.7e308, -1.7e308, 1e308, 5e-324, 0.0]

    def inside(i: int) -> Config:
        return {"lr": 10 ** (-1 - i / 10), "n": 2 ** (i % 7), "kind": "ab"[i % 2]}

    def outside(i: int) -> Config:
        return {"lr": (0.0, 7.0, -1.0)[i % 3], "n": (0.5, 10**30, None)[i % 3], "kind": ("c", 3, ["a"])[i % 3]}

    return {
        "extreme": trials_of(folder / "extreme", lambda i: ends[i % 5], inside, **space),
        "two ends": trials_of(folder / "two ends", lambda i: -1.7e308 if i else 1.7e308, inside, **space),
        "outside": trials_of(folder / "outside", lambda i: i / 30, outside, **space),
        "one inside": trials_of(
            folder / "one inside", lambda i: i / 30, lambda i: (outside if i else inside)(i), **space
        ),
        "texts": trials_of(folder / "texts", lambda i: "0.5" if i % 2 else True, inside, **space),
        "whole": trials_of(folder / "whole", lambda i: 10**300 * i, inside, **space),
    }


def strange_runs(folder: Path) -> dict[str, Path]:
    """By name: whatever a report has to say something of."""
    folder.mkdir(exist_ok=True)
    made = {
        "empty": written_run(folder / "empty"),
        "running": written_run(folder / "running", suggest("t00000"), result("t00000", 1, 0.5)),
        "interrupted": written_run(
            folder / "interrupted",
            SessionOpened(1, 1, "host", "2026-01-01T00:00:00+0000"),
            suggest("t00000"),
            result("t00000", 1, 0.5),
            Closed(RunStatus.INTERRUPTED, "3 trials failed alike"),
        ),
        "damaged": written_run(
            folder / "damaged", suggest("t00000"), result("t00000", 1, 0.5), '{"n": 3, "nonsense": true}\n'
        ),
        "torn": written_run(folder / "torn", suggest("t00000"), result("t00000", 1, 0.5), '{"n": 3, "t":'),
        "unfinished": written_run(folder / "unfinished", *(suggest(f"t{i:05d}") for i in range(3))),
        "one": written_run(
            folder / "one", suggest("t00000"), result("t00000", 1, 0.5, "complete"), end("t00000", "completed", "done")
        ),
        "nan": written_run(
            folder / "nan",
            *(suggest(f"t{i:05d}") for i in range(25)),
            *(Reported(f"t{i:05d}", 0, 1, {"validation_accuracy": NAN, "x": float("inf")}, 1.0) for i in range(25)),
            *(end(f"t{i:05d}", "diverged", "validation_accuracy at epoch 1") for i in range(25)),
        ),
        "hostile": hostile_run(folder / "hostile"),
        "pbt": pbt_run(folder / "pbt"),
        "sessions": two_sessions(folder / "sessions"),
    }
    for file in ("confirm.json", "test.json"):
        (made["one"] / file).write_text("{ damaged")
    return made
