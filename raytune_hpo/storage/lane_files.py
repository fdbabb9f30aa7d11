"""Checkpoints of many lanes in one file: a safetensors file whose tensors have a row a lane.

    path of a record    checkpoints/lanes/NAME.safetensors#MEMBER
    metadata "members"  the lanes' names, in the order of the rows
    metadata "shared"   JSON that holds for all of them
    metadata "facts"    JSON texts, one a lane

A lane's size and crc32 are of its own rows and facts, so the file can be written again without the lanes that are no
longer kept. Neither torch nor ray is imported: the driver, which has neither at hand, does that.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hpo.atomic import replaced
from raytune_hpo.errors import TrialError

SUFFIX = ".safetensors"
MAGIC_OF_ZIP = b"PK"

Array = np.ndarray[Any, Any]


def split_path(path: str) -> tuple[str, str | None]:
    """(file or folder, member): the member is None for a checkpoint of its own."""
    # By what stands round the mark: a run directory's own path may have a "#" in it.
    file, _, member = path.rpartition(f"{SUFFIX}#")
    return (file + SUFFIX, member) if file and "/" not in member else (path, None)


def fingerprint_of(rows: Mapping[str, Array], fact: str) -> tuple[int, int]:
    """(bytes, crc32) of one lane's rows and facts."""
    size, crc = 0, zlib.crc32(fact.encode())
    for name in sorted(rows):
        data = np.ascontiguousarray(rows[name]).view(np.uint8).data if rows[name].size else b""
        size += len(data)
        crc = zlib.crc32(data, crc)
    return size, crc


def write(path: Path, members: Sequence[str], tensors: Mapping[str, Array], shared: Any, facts: Sequence[str]) -> None:
    """Write a file; whole and on disk when this returns. tensors: [lanes, ...] each; facts: a JSON text a lane."""
    for folder in (path.parent.parent, path.parent):  # none above: a run directory that was deleted is not made again
        folder.mkdir(exist_ok=True)
    with replaced(path) as file:
        file.write(_serialized(members, tensors, shared, facts))


def _serialized(members: Sequence[str], tensors: Mapping[str, Array], shared: Any, facts: Sequence[str]) -> bytes:
    from safetensors.numpy import save

    metadata = {"members": json.dumps(list(members)), "shared": json.dumps(shared), "facts": json.dumps(list(facts))}
    return save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, metadata=metadata)


class LaneFile:
    """A file that `write` wrote, open for reading. Raises TrialError where it is damaged or gone."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        try:
            opened: Any = safe_open
            self._file = opened(path, framework="np")
            metadata: dict[str, str] = self._file.metadata()
            self.members: list[str] = _texts(metadata, "members")
            self.facts: list[str] = _texts(metadata, "facts")
            self.shared: Any = json.loads(metadata["shared"])
            lanes = len(self.members)
            if len(set(self.members)) != lanes or len(self.facts) != lanes:
                raise ValueError("its lanes have no names, or not one fact each")
            for name in self._file.keys():  # noqa: SIM118
                if self._file.get_slice(name).get_shape()[:1] != [lanes]:
                    raise ValueError(f"its {name} has not {lanes} rows")
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise TrialError(f"checkpoint {path} cannot be read: {error}") from error

    def row(self, member: str | None) -> tuple[dict[str, Array], str]:
        """(a lane's rows by name, its facts as JSON). None is the only lane there is.

        Raises TrialError for one that is not in it.
        """
        if member is None and len(self.members) == 1:
            member = self.members[0]
        if member not in self.members:
            raise TrialError(f"checkpoint {self.path} does not hold {member}")
        at = self.members.index(member)
        return {name: self._file.get_slice(name)[at : at + 1][0] for name in self._file.keys()}, self.facts[at]  # noqa: SIM118

    def rewritten(self, keep: Collection[str]) -> None:
        """Write the file again with these lanes alone."""
        index = [i for i, member in enumerate(self.members) if member in keep]
        tensors = {name: self._file.get_tensor(name)[index] for name in self._file.keys()}  # noqa: SIM118
        write(self.path, [self.members[i] for i in index], tensors, self.shared, [self.facts[i] for i in index])

    def extracted(self, member: str) -> bytes:
        """A file of this lane alone, as bytes."""
        rows, fact = self.row(member)
        return _serialized([member], {name: row[None] for name, row in rows.items()}, self.shared, [fact])


def _texts(metadata: Mapping[str, str], name: str) -> list[str]:
    found = json.loads(metadata[name])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError(f"its {name} are no list of texts")
    return found


def intact(path: Path, member: str, size: int, crc: int) -> bool:
    """Whether the lane is there and has this fingerprint."""
    try:
        return fingerprint_of(*LaneFile(path).row(member)) == (size, crc)
    except TrialError:
        return False
