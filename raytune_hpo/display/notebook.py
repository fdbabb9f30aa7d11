"""A notebook's cell: whether this process has one, and an output in it that changes in place."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel. IPython is asked where somebody has imported it, as a kernel has."""
    ask = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if ask is None else ask()
    return getattr(shell, "kernel", None) is not None


class CellOutput:
    """One output of the cell that runs, there from the first `show` on. Any thread may change it."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown: dict[str, str] = {}

    def show(self, html: str, text: str) -> None:
        """text: the same for where HTML is not shown."""
        shown = {"text/html": html, "text/plain": text}
        if shown == self._shown:
            return
        self._shown = shown
        if self._handle is None:
            # IPython is there, or this would be no notebook; it is no requirement of this package.
            self._handle = importlib.import_module("IPython.display").display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def clear(self) -> None:
        """Nothing is left of what was shown; what was not is not shown now."""
        if self._handle is not None:
            self.show("", "")
