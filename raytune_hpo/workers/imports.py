"""What another process needs to import what the driver has: import paths, and the project's code as the run has it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from raytune_hpo.experiment import copied_modules, kept_code
from raytune_hpo.experiment.project import BY_NAME, Code


@dataclass(frozen=True)
class Imports:
    """code: None where none is known. source: where the run holds it, for what is imported later."""

    paths: list[str] = field(default_factory=list)
    code: Code | None = None
    source: str | None = None

    def take(self) -> None:
        """Let this process, and those that it starts for the same work, import so. Before anything is unpickled."""
        sys.path.extend(path for path in self.paths if path not in sys.path)
        if self.code is not None:
            copied_modules.install(self.code)
        self.found_by_name().__enter__()  # for as long as the process lives
        _process.imports = self

    @contextlib.contextmanager
    def found_by_name(self) -> Iterator[None]:
        """Let processes that a trial starts find experiment files, which they know by name alone."""
        before = list(sys.path)
        if self.source is not None:
            sys.path.append(str(Path(self.source) / BY_NAME))
        try:
            yield
        finally:
            sys.path[:] = before


class _Process:
    imports = Imports()
    known = 0  # modules


_process = _Process()


def of_this_process() -> Imports:
    """What it was told to take; nothing in the driver."""
    return _process.imports


def record_more(source: str | None) -> None:
    """Let the run hold the project's modules that this process has imported since the last call."""
    if source is not None and len(sys.modules) != _process.known:
        _process.known = len(sys.modules)
        kept_code.record_more(Path(source))
