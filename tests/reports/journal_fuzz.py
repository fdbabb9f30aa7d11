"""Changes to recorded journals, and what must hold of each. Seeded: JOURNAL_FUZZ=N tries N of them in place of 1,000.

    checksums left alone    every change is named in one line or set aside with a notice, or the run is at an earlier
                            state
    checksums made anew     whatever is said, it is one line; nothing outside of the run is touched; of the run's own
                            files none is deleted that the journal does not give up

`python tests/reports/journal_fuzz.py` shows what is said, most frequent first.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from raytune_hpo import Experiment, ExperimentError, Float, get_checkpoint, load_results, report
from raytune_hpo.cli.main import main
from raytune_hpo.engine import run as engine_run
from raytune_hpo.engine import session
from raytune_hpo.engine.driver import Driver
from raytune_hpo.journal import chain
from raytune_hpo.journal.events import Executor
from raytune_hpo.journal.file import read
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.states import RunStatus

NUMBER = int(os.environ.get("JOURNAL_FUZZ", "1000"))

# Recorded runs ------------------------------------------------------------------------------------------


def train(config: dict[str, Any]) -> None:
    start = get_checkpoint()
    epoch = int((start / "epoch").read_text()) if start is not None else 0
    while epoch < 3:
        epoch += 1
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "epoch").write_text(str(epoch))
            report({"score": config["lr"] * epoch, "note": "as it was"}, checkpoint=folder)


def experiments() -> dict[str, Experiment]:
    space = {"lr": Float(1e-3, 1.0, "log"), "hidden_units": 4, "batch_size": 512}
    common: dict[str, Any] = {"space": space, "seed": 3, "executor": "inline"}
    digits = Experiment(name="lanes", task="digits", num_samples=5, max_epochs=3, **common)
    pbt = {"name": "pbt", "interval": 1, "mutate": ["lr"]}
    function: dict[str, Any] = {**common, "space": {"lr": space["lr"]}, "metric": "score", "mode": "max"}
    return {
        "lanes": digits,
        "pbt": Experiment(name="pbt", task="digits", scheduler=pbt, num_samples=4, max_epochs=4, **common),
        "function": Experiment(name="function", task=train, num_samples=6, max_epochs=3, **function),
        "panda": digits.override({"max_epochs": 6}).as_panda({"scheduler.nudge_every": 2, "executor": "inline"}),
    }


@dataclass
class Recorded:
    """A run that was killed right before its end, in a storage folder of its own beside a victim."""

    path: Path
    run_id: str
    whole: bytes
    description: bytes
    aside: Path  # a copy of the folder
    lines: list[dict[str, Any]] = field(default_factory=list)
    files: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, path: Path) -> Recorded:
        lines = (path / "journal.jsonl").read_bytes().splitlines(keepends=True)
        whole = b"".join(lines[:-1])  # without the close: it can be gone on with
        (path / "journal.jsonl").write_bytes(whole)
        aside = shutil.copytree(path, path.parent.with_name(f"{path.name}.aside"))
        description = (path / "experiment.json").read_bytes()
        parsed = [json.loads(line) for line in lines[:-1]]
        made = cls(path, json.loads(description)["run_id"], whole, description, aside, parsed)
        made.files = made.present()
        return made

    def present(self) -> set[str]:
        return {str(p.relative_to(self.path)) for p in self.path.rglob("*")}

    def restore(self) -> None:
        """After a change."""
        if self.present() != self.files:
            shutil.rmtree(self.path)
            shutil.copytree(self.aside, self.path)
        (self.path / "experiment.json").write_bytes(self.description)


def recorded(folder: Path) -> dict[str, Recorded]:
    found = {}
    (folder / "victim" / "deep").mkdir(parents=True)
    for name in ("precious", "deep/precious", "deep/00-00001.1"):
        (folder / "victim" / name).write_text("precious")
    for name, experiment in experiments().items():
        (folder / name).mkdir()
        engine_run.run(experiment, folder / name / name)
        found[name] = Recorded.of(folder / name / name)
    return found


# Changes ------------------------------------------------------------------------------------------------

DEEP, HUGE, BEYOND = "@deep@", "@huge@", "@beyond@"  # what json.dumps would not write
RAW = {f'"{DEEP}"': "[" * 100_000 + "]" * 100_000, f'"{HUGE}"': "9" * 400, f'"{BEYOND}"': "1e999"}
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, -(2**63), 10**15, 0.5, -0.5, 1e308, DEEP, HUGE, BEYOND),
    *("", "x", "t00000", "t00001", "t00009", "t99999", "../../x", "\ud800", "\x1b[31mred", "\x9b2J", "a\nb", "\0"),
    *([], {}, [[]], {"": {}}, {"float": "nan"}, {"float": "x"}, [1, 2], {"lr": None}, {"lr": "x"}, {"lr": 1e9}),
    *("running", "finished", "exploited", "stop", "pause", "continue", "search", "asked", "processes", "hand"),
]
PATHS = (
    *("../victim", "../../victim", "../../../victim", "{victim}", "{victim}/deep/00-00001.1", "checkpoints", ".", ""),
    *("checkpoints/../../../victim", "checkpoints/t00000/../../../../victim", "checkpoints/t00000", "errors/../lock"),
    *("checkpoints/lanes/../../../../victim/precious.safetensors#x", "checkpoints/../journal.jsonl", "~/x"),
    *("checkpoints/t00000/00-00001.1/../../../../../victim", "checkpoints//{victim}", "checkpoints/t00001/00-00001.1"),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place within JSON data."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def parent_of(data: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        data = data[key]
    return data


class Changer:
    """Makes one change after the other to a run's lines. others: lines of other runs."""

    def __init__(self, rng: random.Random, others: list[dict[str, Any]], victim: Path) -> None:
        self.rng, self.others, self.victim = rng, others, victim

    def changed(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lines = json.loads(json.dumps(lines))
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            self.rng.choice((self.value, self.value, self.value, self.path, self.path, self.lines, self.events))(lines)
        return lines

    def value(self, data: Any) -> None:
        """A field dropped, retyped, out of range, exchanged for another, or one too many."""
        where = list(places(data))
        if not where:
            return
        place = self.rng.choice(where)
        inner, key, kind = parent_of(data, place), place[-1], self.rng.randrange(6)
        if kind == 0:
            del inner[key]
        elif kind == 1 and type(inner[key]) in (int, float):
            inner[key] += self.rng.choice((-1, 1, -2, 2, 0.5, 1000, -1e9))
        elif kind == 2 and isinstance(inner, dict):
            inner[self.rng.choice(("more", "trial", "event", "checkpoint", "path", "sum"))] = self.rng.choice(VALUES)
        elif kind == 3:
            other = self.rng.choice(where)
            inner[key] = json.loads(json.dumps(parent_of(data, other)[other[-1]]))
        else:
            inner[key] = self.rng.choice(VALUES)

    def path(self, data: Any) -> None:
        """A path, or a name that becomes a part of one, that leads elsewhere."""
        where = [p for p in places(data) if p[-1] in ("path", "file", "log", "trial", "donor", "parent", "id")]
        if where:
            place = self.rng.choice(where)
            parent_of(data, place)[place[-1]] = self.rng.choice(PATHS).format(victim=self.victim)

    def lines(self, lines: list[Any]) -> None:
        self._list(lines, self.others)

    def events(self, lines: list[Any]) -> None:
        found = self.rng.choice(lines).get("events") if lines else None
        if isinstance(found, list):
            self._list(found, [event for line in self.others for event in line["events"]])

    def _list(self, items: list[Any], others: list[Any]) -> None:
        """An item dropped, doubled, moved, one of another run put in, or the end cut off."""
        if not items:
            return
        at, to, kind = self.rng.randrange(len(items)), self.rng.randrange(len(items)), self.rng.randrange(5)
        if kind == 0:
            del items[at]
        elif kind == 1:
            items.insert(to, items[at])
        elif kind == 2:
            items.insert(to, items.pop(at))
        elif kind == 3:
            items.insert(to, json.loads(json.dumps(self.rng.choice(others))))
        else:
            del items[at:]

    def bytes(self, whole: bytes) -> bytes:
        """The file itself: bytes flipped, cut out, put in; lines dropped, doubled, swapped."""
        lines = whole.splitlines(keepends=True)
        at, to, kind = self.rng.randrange(len(lines)), self.rng.randrange(len(lines)), self.rng.randrange(7)
        place = self.rng.randrange(len(whole))
        if kind == 0:
            return whole[:place] + bytes([whole[place] ^ self.rng.randrange(1, 256)]) + whole[place + 1 :]
        if kind == 1:
            return whole[:place] + whole[place + self.rng.randrange(1, 40) :]
        if kind == 2:
            return whole[:place]
        if kind == 3:
            return whole[:place] + self.rng.randbytes(5) + whole[place:]
        if kind == 4:
            del lines[at]
        elif kind == 5:
            lines.insert(to, lines[at])
        else:
            lines[at], lines[to] = lines[to], lines[at]
        return b"".join(lines)


def chained(lines: list[Any], run_id: str) -> bytes:
    """Lines as a journal, every checksum and number as it should be (where the line is one at all)."""
    out, sum_ = [], ""
    for number, line in enumerate(lines, start=1):
        data = line
        if isinstance(line, dict):
            data = {k: v for k, v in line.items() if k != "sum"}
            data = {**data, "n": number} if type(data.get("n")) is int else data
        body = written(data)[:-1]
        sum_ = chain._sum(body, sum_, run_id)
        out.append(body + b',"sum":"' + sum_.encode() + b'"}\n')
    return b"".join(out)


def written(data: Any) -> bytes:
    text = json.dumps(data)
    for placeholder, raw in RAW.items():
        text = text.replace(placeholder, raw)
    return text.encode()


# What must hold -----------------------------------------------------------------------------------------

TOUCHING = {
    *("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink"),
    *("os.truncate", "os.chmod", "os.utime", "shutil.rmtree", "shutil.copytree", "shutil.move"),
}


class Guard:
    """Within it, whatever opens, lists, makes or deletes something in the victim is an error at its end."""

    def __init__(self, victim: Path) -> None:
        self._victim, self._armed = str(victim.resolve()), False
        self._touched: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._armed and event in TOUCHING:
            for argument in arguments:
                if isinstance(argument, str | os.PathLike) and os.path.realpath(argument).startswith(self._victim):
                    self._touched.append(f"{event} {argument}")

    def __enter__(self) -> None:
        self._touched.clear()
        self._armed = True

    def __exit__(self, *_: object) -> None:
        self._armed = False
        assert not self._touched, self._touched[:3]


@contextlib.contextmanager
def without_training(ends: list[Ledger]) -> Iterator[None]:
    """`resume` up to where workers would get something to do. ends: takes the ledger that it had then."""

    class NoExecutors:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        @contextlib.contextmanager
        def opened(self, before: Any) -> Iterator[Any]:
            yield SimpleNamespace(
                executor=Executor.INLINE, pool=mock.MagicMock(), reason=None, room=False, remarks=list
            )

    def drive(driver: Driver, interrupt: Any) -> RunStatus:
        ends.append(driver.population.ledger)
        return RunStatus.INTERRUPTED

    with (
        mock.patch.object(session, "Executors", NoExecutors),
        mock.patch.object(Driver, "drive", drive),
        mock.patch.object(os, "fsync", return_value=None),
    ):
        yield


UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def one_line(text: str) -> str:
    assert text.isprintable(), text
    assert len(text) < 2000, text
    return text


def said(*arguments: str) -> str:
    """What a verb says of itself: "" or its one line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    assert not UNSEEN.search(out.getvalue()), out.getvalue()
    if code == 0:
        return ""
    assert code == 2, err.getvalue()
    (line,) = err.getvalue().splitlines()
    assert line.startswith("raytune-hpo: "), line
    return one_line(line.removeprefix("raytune-hpo: "))


def fail(text: str) -> str:
    raise AssertionError(text)


def check_left_alone(known: Recorded, content: bytes) -> str:
    """A journal whose checksums nobody made anew."""
    (known.path / "journal.jsonl").write_bytes(content)
    lines = known.whole.splitlines(keepends=True)
    try:
        reading = read(known.path / "journal.jsonl", known.run_id)
    except ExperimentError as error:
        said_of_it = one_line(str(error))
        return said_of_it if "journal.jsonl:" in said_of_it else fail(said_of_it)
    assert content[: reading.end] == b"".join(lines[: len(reading.steps)]), "a change went by in silence"
    if reading.damage is not None:
        return reading.damage
    assert b"\n" not in content[reading.end :], "what follows is not merely torn"
    return "an earlier state"


VERBS: list[Callable[[Path], tuple[str, ...]]] = [
    lambda run: ("trials", str(run)),
    lambda run: ("trials", str(run), "--json"),
    lambda run: ("best", str(run)),
    lambda run: ("best", str(run), "--json"),
    lambda run: ("list", str(run.parent)),
    lambda run: ("report", str(run), "--json"),
]


def check_made_anew(known: Recorded, guard: Guard, verb: tuple[str, ...]) -> str:
    """A run whose files are as another wrote them: read, shown, and taken up again."""
    ends: list[Ledger] = []
    outcome, before = "", known.present()
    with guard:
        try:
            load_results(known.path)
        except ExperimentError as error:
            outcome = one_line(str(error))
        spoken = said(*verb)
        with without_training(ends):
            try:
                engine_run.resume(known.path)
            except ExperimentError as error:
                outcome = outcome or one_line(str(error))
    gone = before - known.present()
    if not ends:
        assert not gone, f"deleted though it was refused: {gone}"
        return outcome or spoken or "finished"
    kept = before & {c.path.partition("#")[0] for t in ends[0].trials.values() for c in t.checkpoints}
    for path in gone:
        assert path.startswith("checkpoints/"), path
        assert not any(k == path or k.startswith(f"{path}/") for k in kept), f"deleted though it is kept: {path}"
    return outcome or spoken or "nothing"


# The campaign -------------------------------------------------------------------------------------------


def campaign(folder: Path, number: int, seed: int = 0) -> dict[str, Counter[str]]:
    """`number` changes; what was said of them, by kind."""
    runs, victim = recorded(folder), folder / "victim"
    guard = Guard(victim)
    contents = {p: p.read_bytes() for p in victim.rglob("*") if p.is_file()}
    rng = random.Random(seed)
    found: dict[str, Counter[str]] = {"left alone": Counter(), "made anew": Counter(), "description": Counter()}
    for i in range(number):
        name = rng.choice(list(runs))
        known = runs[name]
        changer = Changer(rng, [line for other in runs if other != name for line in runs[other].lines], victim)
        verb = rng.choice(VERBS)(known.path)
        content = b""
        try:
            if i % 2:
                kind, content = "left alone", changer.bytes(known.whole)
                text = check_left_alone(known, content)
            elif i % 10:
                kind, content = "made anew", chained(changer.changed(known.lines), known.run_id)
                (known.path / "journal.jsonl").write_bytes(content)
                text = check_made_anew(known, guard, verb)
            else:
                kind, data = "description", json.loads(known.description)
                changer.value(data)
                content = written(data)
                (known.path / "experiment.json").write_bytes(content)
                (known.path / "journal.jsonl").write_bytes(known.whole)
                text = check_made_anew(known, guard, verb)
        except BaseException:
            (folder / "seen").write_bytes(content)
            print(f"change {i} of seed {seed}, {kind} of {name}: {folder / 'seen'}", file=sys.stderr)
            raise
        known.restore()
        found[kind][re.sub(r"'[^']*journal.jsonl:\d+'|\d+", "#", text)] += 1
    assert {p: p.read_bytes() for p in victim.rglob("*") if p.is_file()} == contents
    return found


if __name__ == "__main__":
    for kind, texts in campaign(Path(tempfile.mkdtemp()), NUMBER, int(os.environ.get("SEED", "0"))).items():
        print(f"{kind}: {texts.total()}")
        for text, count in texts.most_common(60):
            print(f"  {count:5} {text[:200]}")
