"""The names that a run gives: its trials, their checkpoints, files within the run directory.

A journal may be a stranger's: a name that is read is held against its form before anything is opened by it.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

LANES = "lanes"  # the folder of lane files, under checkpoints/; no trial is named so
LONGEST = 300  # characters of a path within a run directory

TRIAL = re.compile(r"t([0-9]{1,9})")
#: What a person may call trials by.
TAG = re.compile(r"[\w.-]{1,40}")
#: A checkpoint's folder, within its trial's.
FOLDER = re.compile(r"([0-9]{2,9})-([0-9]{5,9})(?:\.([0-9]{1,9}))?")
#: A lane file, within its folder, as an array of today's names it: SESSION-ARRAY-PROCESS-NUMBER.
LANE_FILE = re.compile(r"([0-9]{3,9})-[0-9]{3,9}-[0-9]+-[0-9]{6,9}\.safetensors")
SCRATCH = re.compile(r"\.new-[0-9]+-[0-9a-f]{8}")
#: What `Task.preprocess` is given, by the digest of its content.
STATISTICS = re.compile(r"statistics-[0-9a-f]{32}\.safetensors")
_MEMBER = re.compile(r"[\w.-]{1,60}\.safetensors#t[0-9]{1,9}-[0-9]{2,9}-[0-9]{5,9}", re.ASCII)


def trial_name(number: int) -> str:
    """Of the trial that was suggested after `number` others."""
    return f"t{number:05d}"


def number_of(trial: str) -> int | None:
    """The inverse of `trial_name`; None for what is no trial's name."""
    found = TRIAL.fullmatch(trial)
    return int(found[1]) if found else None


def checkpoint_path(trial: str, generation: int, epoch: int, session: int) -> str:
    # The session stands in the name so that a worker that outlives a killed driver for a moment
    # cannot touch what the resumed run writes.
    return f"checkpoints/{trial}/{generation:02d}-{epoch:05d}.{session}"


def lane_member(trial: str, generation: int, epoch: int) -> str:
    """A lane's name in a file of many."""
    return f"{trial}-{generation:02d}-{epoch:05d}"


def is_checkpoint(path: str, trial: str, generation: int, epoch: int) -> bool:
    """Whether a checkpoint of this trial and state may lie there: in its own folder, or as a lane, anybody's."""
    folder, _, name = path.removeprefix("checkpoints/").partition("/")
    if not path.startswith("checkpoints/"):
        return False
    if folder == LANES:
        return _MEMBER.fullmatch(name) is not None
    found = FOLDER.fullmatch(name)
    return found is not None and folder == trial and (int(found[1]), int(found[2])) == (generation, epoch)


def is_checkpoint_path(path: str) -> bool:
    """Whether it has the form of some checkpoint's."""
    folder, _, name = path.removeprefix("checkpoints/").partition("/")
    form = _MEMBER if folder == LANES else FOLDER
    trial = folder == LANES or TRIAL.fullmatch(folder) is not None
    return path.startswith("checkpoints/") and trial and form.fullmatch(name) is not None


def session_of(path: str) -> int | None:
    """The session that has written a checkpoint's folder or lane file, by its exact name; None for other names.

    path: its last two parts are looked at.
    """
    folder, _, name = path.rpartition("/")
    folder = folder.rpartition("/")[2]
    if folder == LANES:
        found = LANE_FILE.fullmatch(name)
        return int(found[1]) if found else None
    found = FOLDER.fullmatch(name) if TRIAL.fullmatch(folder) else None
    return int(found[3] or 0) if found else None


def is_inside(path: str) -> bool:
    """Whether it names a file below the run directory, and no other."""
    parts = PurePosixPath(path).parts
    return 0 < len(path) <= LONGEST and path.isprintable() and parts[:1] not in ((), ("/",)) and ".." not in parts
