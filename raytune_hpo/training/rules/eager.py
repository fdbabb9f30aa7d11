"""torch.optim's classes without its decorators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: What torch decorates so that torch.compile leaves it alone.
DECORATED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


@functools.cache
def eager(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """`kind` of torch.optim, with its methods as they are below their decorators.

    The decorators import torch's compiler with the first optimizer that is made: 4 s of CPU and 150 MB of a process
    that will compile nothing. Step hooks and closures are left out, the arithmetic is torch's.
    """
    import torch

    step_of = inspect.unwrap(kind.step)

    @torch.no_grad()
    def step(self: torch.optim.Optimizer) -> None:
        step_of(self)

    step.hooked = True  # type: ignore[attr-defined]  # torch adds its hooks to a step without this mark
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in DECORATED}
    return type(kind.__name__, (kind,), {**methods, "step": step})
