"""A trainer's state in one file, written so that a crash leaves the old file or the new one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from raytune_hpo.atomic import replaced
from raytune_hpo.errors import TrialError
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.storage.lane_files import MAGIC_OF_ZIP, split_path


def save_state(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write `state` to `path`. The file is complete and on disk when this returns.

    Only tensors, numbers, strings, None and containers of these can be read back.
    """
    with replaced(Path(path)) as file:
        torch.save(dict(state), file)


def _holds_lanes(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) != MAGIC_OF_ZIP and b"{" in file.read(8)
    except OSError:
        return False


def load_state(path: str | os.PathLike[str], map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what `save_state` wrote; nothing in the file is executed (`weights_only`).

    `path` may also be a checkpoint's folder, or a file of lanes (`storage.lane_files`): FILE#LANE, or the file
    where it holds just one. Raises TrialError naming the file where it is missing, damaged or holds anything else.
    """
    file, member = split_path(os.fspath(path))
    if member is None and os.path.isdir(file):
        path = file = os.path.join(file, STATE_FILE)
    if member is not None or _holds_lanes(Path(file)):
        from raytune_hpo.training.lanes.lane_state import read_state

        return read_state(Path(file), member)
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises many unrelated types for a damaged file
        reason = str(error).strip().splitlines()
        first = reason[0] if reason else type(error).__name__
        raise TrialError(f"checkpoint {os.fspath(path)} cannot be read: {first}") from error
    if not isinstance(state, dict):
        raise TrialError(f"checkpoint {os.fspath(path)} cannot be read: it holds a {type(state).__name__}")
    return state
