"""Operations: what a tick does, in order, on tensors that stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Operations:
    """A list of calls. They answer nothing: each writes to tensors that were made with the list, so that it can be run
    again and again, and captured as a CUDA graph."""

    def __init__(self) -> None:
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def add(self, function: Callable[..., Any], *given: Any, **named: Any) -> None:
        self._calls.append((function, given, named))

    def run(self, times: int = 1) -> None:
        for _ in range(times):
            for function, given, named in self._calls:
                function(*given, **named)

    def __len__(self) -> int:
        return len(self._calls)
