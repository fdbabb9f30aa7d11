"""The console on which a run shows itself."""

from __future__ import annotations

from typing import IO, Any

from rich.console import Console

from raytune_hpo.display.lasting import LastingStream


class LastingConsole(Console):
    """A console whose stream lasts, whichever it is when something is printed."""

    _lasting: LastingStream | None = None

    @property
    def file(self) -> IO[str]:
        stream: Any = super().file
        if isinstance(stream, LastingStream):
            return stream  # type: ignore[return-value]
        if self._lasting is None or self._lasting.stream is not stream:
            self._lasting = LastingStream(stream, discards=False)
        return self._lasting  # type: ignore[return-value]

    @file.setter
    def file(self, new: IO[str]) -> None:
        self._file = new
