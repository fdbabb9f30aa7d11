"""A run directory: its layout, its lock and its description.

experiment.json   the experiment as plain JSON, with versions, seed and git commit
source/           the project's code that it trains with (see experiment.kept_code); source-2/: of a later version
journal.jsonl     the truth (see journal)
checkpoints/      TRIAL/EPOCH folders (see checkpoints)
trials/           TRIAL folders, in which a function's trials work (see workers.trial_directories)
logs/             what trials print, TRIAL.log (see workers.trial_log)
errors/           one traceback file per distinct failure
statistics-*.safetensors  what the task's `preprocess` is given (see statistics_file)
test.json         every opening of the test split (see results.test_seal)
commands/         a person's commands to a running panda (see commands)
listeners/        what listeners write, each in a folder of its name
confirm/, retest/  runs of their own inside this one, and confirm.json, what they say
lock              held by the process that runs the experiment

All of it is its owner's alone to write, and so is what a later session reads back: whoever could change that could have
code executed. `chmod -R go+rX` lets others read a run.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import platform
import shutil
import socket
import stat
import subprocess
import time
import weakref
import zlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from raytune_hpo.atomic import write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.owned import OWN_FILE, OWN_FOLDER, inside, make_folder, opened, write_own
from raytune_hpo.storage.description import DESCRIPTION, FORMAT, described

__all__ = ["DESCRIPTION", "FORMAT", "RunDirectory", "git_commit", "versions"]


#: Folders that a session and its workers write into, besides checkpoints.
WRITTEN_INTO = ("errors", "logs", "trials", "commands", "listeners", "source")
#: Bytes of a journal that are looked through for a trial.
BEGUN = 1 << 20
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
#: How long a claim waits for somebody who only looks (`in_use`).
LOCK_WAIT_S = 0.5
PACKAGES = ("raytune-hpo", "ray", "torch", "torchvision", "hyperopt", "bayesian-optimization", "numpy", "pandas")


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        _OPEN.add(self)

    @classmethod
    def new_path(cls, storage: str, name: str) -> Path:
        """A path under `storage` that does not exist yet: NAME-YYYYmmdd-HHMMSS."""
        base = Path(storage).expanduser().absolute() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        path, n = base, 1
        while os.path.exists(path):  # (False where the name is impossible; `check_new` says why)
            n += 1
            path = base.with_name(f"{base.name}-{n}")
        return path

    @classmethod
    def check_new(cls, path: Path, *, or_beside: bool = False) -> None:
        """Raise ExperimentError unless a run could be created at `path`. Creates nothing. or_beside: as in `create`."""
        try:
            cls._check_new(path, or_beside)
        except OSError as error:  # a name too long, a folder that may not be looked into
            raise ExperimentError("storage", str(path), f"cannot be used: {error.strerror or error}") from error

    @classmethod
    def _check_new(cls, path: Path, or_beside: bool) -> None:
        if not or_beside and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ExperimentError(
                "run directory", str(path), "exists already; choose another, or go on with it: raytune-hpo resume"
            )
        ancestor = path.parent if or_beside else path
        while not ancestor.exists():
            ancestor = ancestor.parent
        if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
            raise ExperimentError("storage", str(ancestor), "must be a folder that can be written to")

    @classmethod
    def create(
        cls,
        path: Path,
        experiment: dict[str, Any],
        entry: Path | None,
        sources: Mapping[str, bytes] | None = None,
        origin: Mapping[str, Any] | None = None,
        *,
        or_beside: bool = False,
    ) -> Self:
        """Make the directory and describe the run in it. Raises ExperimentError if there is one already.

        entry: the experiment file; sources: what `source` is to hold, by path, the file alone if left out; origin: what
        else is told of where the run comes from. or_beside: where somebody has made a directory at `path` meanwhile,
        take NAME-2, NAME-3, ... in its place.
        """
        json.dumps(experiment)  # before there is anything: what cannot be written down cannot be run
        run: Self | None = None
        try:
            path = cls._claimed(path) if or_beside else path
            cls.check_new(path)
            if not path.exists():
                path.mkdir(OWN_FOLDER, parents=True, exist_ok=True)
            elif (mode := path.stat().st_mode) & WRITABLE_BY_OTHERS:
                path.chmod(stat.S_IMODE(mode) & ~WRITABLE_BY_OTHERS)
            run = cls(path)
            run.lock()
            for folder in ("checkpoints", "errors"):
                (path / folder).mkdir(OWN_FOLDER)
            if sources is None:
                sources = {} if entry is None else {entry.name: entry.read_bytes()}
            for name, text in sources.items():
                write_own(run.source / name, text)
        except OSError as error:
            if run is not None:
                run.discard()
                run.unlock()
            raise ExperimentError("storage", str(path), f"cannot be written: {error.strerror or error}") from error
        description = {
            "format": FORMAT,
            "run_id": os.urandom(8).hex(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "entry": str(entry.resolve()) if entry is not None else None,
            "made_by": whoever(),
            **(origin or {}),
            "experiment": experiment,
            "versions": versions(),
            "git_commit": git_commit(entry.parent if entry else Path.cwd()),
        }
        write_atomically(run.description_path, (json.dumps(description, indent=2) + "\n").encode(), OWN_FILE)
        return run

    def discard(self) -> None:
        """Remove the run if no trial was begun in it, so that the next try finds the place free."""
        try:
            journal = self.journal_path
            # The events of trials name them; a session's own, which come before, do not.
            empty = not journal.exists() or (journal.stat().st_size < BEGUN and b'"trial":' not in journal.read_bytes())
        except OSError:
            empty = False
        if empty:
            shutil.rmtree(self.path, ignore_errors=True)

    @staticmethod
    def _claimed(path: Path) -> Path:
        """A new folder: `path`, or one beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        base, n = path, 1
        while True:
            try:
                path.mkdir(OWN_FOLDER)
                return path
            except FileExistsError:  # made by another run since this one has looked
                n += 1
                path = base.with_name(f"{base.name}-{n}")

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """An existing run. Raises ExperimentError if `path` holds none."""
        path = Path(path).absolute()
        if not os.path.lexists(path / DESCRIPTION) or (path / DESCRIPTION).is_dir():
            raise ExperimentError("run directory", str(path), "holds no run (no experiment.json in it)")
        return cls(path)

    @property
    def description_path(self) -> Path:
        return self.path / DESCRIPTION

    @property
    def journal_path(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def source(self) -> Path:
        return self.path / "source"

    def description(self) -> dict[str, Any]:
        """The content of experiment.json. Raises ExperimentError if it is damaged or of another format."""
        return described(self.description_path)

    @property
    def entry(self) -> Path | None:
        """Where the run's experiment file was; None where it had none. It may be gone: `source` has the copy."""
        recorded = self.description().get("entry")
        return None if recorded is None else Path(recorded)

    def now_of_format_2(self) -> None:
        """Say in the description that the journal is of format 2 now. A crash before that does no harm: the journal
        itself shows what it is."""
        data = self.description()
        if data["format"] != FORMAT:
            content = json.dumps({**data, "format": FORMAT}, indent=2) + "\n"
            write_atomically(self.description_path, content.encode(), OWN_FILE)

    def amend(self, changes: Mapping[str, Any]) -> None:
        """Let the description tell of the experiment as the journal says that it is now. changes: field -> value."""
        data = self.description()
        experiment = {**data["experiment"], **changes}
        if experiment != data["experiment"]:
            amended = {**data, "begun_with": data.get("begun_with", data["experiment"]), "experiment": experiment}
            write_atomically(self.description_path, (json.dumps(amended, indent=2) + "\n").encode(), OWN_FILE)

    def check_folders(self) -> None:
        """Raise ExperimentError where a folder that sessions write into is a link."""
        for name in WRITTEN_INTO:
            inside(self.path, name)

    def clear_begun(self) -> None:
        """Remove what `create` made of a run that was killed before it was described.

        Raises ExperimentError where there is anything else.
        """
        for folder in ("checkpoints", "errors"):
            with contextlib.suppress(OSError):
                (self.path / folder).rmdir()
        if self.path.is_dir() and {p.name for p in self.path.iterdir()} <= {"lock", "source"}:
            shutil.rmtree(self.source, ignore_errors=True)  # (which leaves a link alone)
            (self.path / "lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.path.rmdir()
        if os.path.lexists(self.path):
            raise ExperimentError("run directory", str(self.path), "is no run and holds other files: move it away")

    def lock(self) -> None:
        """Claim the run for this process; the claim ends with the process, however it ends.

        Raises ExperimentError naming the process that has it.
        """
        try:
            descriptor = opened(self.path / "lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            expected = f"cannot be claimed (its lock: {error.strerror or error})"
            raise ExperimentError("run directory", str(self.path), expected) from error
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() < deadline:  # it may only be somebody who looks whether the run is in use
                    time.sleep(0.02)
                    continue
                holder = os.read(descriptor, 4096).decode(errors="replace").strip() or "another process"
                os.close(descriptor)
                raise ExperimentError("run directory", str(self.path), f"is in use by {holder}") from None
        os.ftruncate(descriptor, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode(), 0)
        self._lock = descriptor

    def in_use(self) -> bool:
        """Whether another process has claimed the run; where its lock may not be looked at, that is taken to be so.
        Claims nothing."""
        try:
            descriptor = opened(self.path / "lock")
        except FileNotFoundError:
            return False
        except PermissionError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_error(self, trial_id: str, traceback: str) -> str:
        """Keep the first traceback of each distinct failure; answers its path within the run directory.

        Failures are the same when they come from the same lines of code, whatever their message says: a
        thousand trials that fail alike leave one file.
        """
        lines = [line for line in traceback.splitlines() if line.startswith("  File ")]
        relative = f"errors/{zlib.crc32(chr(10).join(lines or [traceback]).encode()):08x}.txt"
        path = inside(self.path, relative)
        make_folder(path.parent)
        if not path.exists():
            write_atomically(path, f"first seen in {trial_id}\n\n{traceback.rstrip()}\n".encode())
        return relative


#: Of this process; weakly.
_OPEN: weakref.WeakSet[RunDirectory] = weakref.WeakSet()


def _let_go() -> None:
    """In a process that was forked from one that has a run: it would hold the lock for as long as it lives."""
    for directory in list(_OPEN):
        directory.unlock()  # (which closes a descriptor: the parent's lock stays)


os.register_at_fork(after_in_child=_let_go)


def whoever() -> dict[str, str]:
    """Who makes a run, and where: what `experiment.json` holds of that."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return {"user": user, "host": socket.gethostname()}


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path) -> str | None:
    """The commit that `folder` is checked out at, with "+changes" if it has been changed since; None without git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
