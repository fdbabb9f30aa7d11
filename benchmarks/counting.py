"""Operations that torch dispatches, views too: what a GPU's launch-bound training pays, the same on any machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def counted(work: Callable[[], object]) -> int:
    """Those of a call (torch.utils._python_dispatch.TorchDispatchMode)."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        operations = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.operations += 1
            return function(*args, **(kwargs or {}))

    with Count() as count:
        work()
    return count.operations
