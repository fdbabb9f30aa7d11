"""The trials' own directories, RUN_DIR/trials/TRIAL.

To make and to remove one costs a disk more than a short trial takes: an empty one is kept under another name for the
next trial of this process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from raytune_hpo.owned import inside
from raytune_hpo.storage.full_disk import TRIALS, storing

_spares: dict[Path, Path] = {}  # RUN_DIR/trials -> an empty directory in it


def opened(run_path: Path | None, trial: str) -> Path:
    """The trial's directory, with what it left there when it ran before; a temporary one where `run_path` is None.

    Raises DiskError where it cannot be made, and ExperimentError where it is a link that leads out of the run.
    """
    with storing():
        if run_path is None:
            return Path(tempfile.mkdtemp(prefix=f"raytune_hpo_{trial}_"))
        folder, directory = run_path / TRIALS, inside(run_path, f"{TRIALS}/{trial}")
        spare = _spares.get(folder)
        if spare is not None and not directory.exists():
            del _spares[folder]
            with contextlib.suppress(OSError):  # it is gone
                spare.rename(directory)
                return directory
        for above in (folder, directory):  # and no more: a run directory that was deleted is not made again
            above.mkdir(exist_ok=True)
        return directory


def left(run_path: Path | None, directory: Path) -> None:
    """The trial is over here: a directory with nothing in it goes, and a temporary one."""
    if run_path is None:
        shutil.rmtree(directory, ignore_errors=True)
        return
    folder = directory.parent
    with contextlib.suppress(OSError):  # there is something in it
        if folder in _spares or _has_children() or os.listdir(directory):
            directory.rmdir()
            return
        spare = folder / f".spare-{os.getpid()}-{os.urandom(4).hex()}"
        directory.rename(spare)
        _spares[folder] = spare


def closed(run_path: Path) -> None:
    """This process has no trial of the run any more."""
    spare = _spares.pop(run_path / TRIALS, None)
    with contextlib.suppress(OSError):
        if spare is not None:
            spare.rmdir()
        (run_path / TRIALS).rmdir()


def _has_children() -> bool:
    """Processes of a trial that live on after it write where they are, whatever that is called by then."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
