"""A config applied again to a state that was saved under another.

An optimizer's state holds its learning rate, and a schedule's nearly all that it was made with. A trial that goes on
from another one's checkpoint (population-based training, a clone) loads both, and would train with the donor's
hyperparameters from then on. So a checkpoint keeps, beside each such state, the state as it was when the object had
just been made (`made`), and what differs from the object as it has been made now is carried over into what is loaded:

    saved               then        now         loaded
    lr 0.05             0.1         0.01        0.005       the schedule had halved it, and has halved it now
    weight_decay 0.1    0.1         0.2         0.2
    last_epoch 7        0           0           7           no hyperparameter: the same whenever it has been made
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

_MISSING = object()


def has_config(thing: Any) -> bool:
    """Whether its state holds hyperparameters that a config sets: optimizers' and schedules' do."""
    kinds = torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler
    inner = getattr(thing, "scheduler", None), getattr(thing, "optimizer", None)  # of accelerate's, and of others'
    return isinstance(thing, kinds) or any(isinstance(one, kinds) for one in inner)


def made(thing: Any) -> dict[str, Any]:
    """Its state as it is now, before a step or a load, without what a parameter has: plain values and small tensors.

    The learning rate is what the schedule begins with: where that warms up from 0, it says nothing itself.
    """
    state = copy.deepcopy({n: v for n, v in thing.state_dict().items() if n != "state"})
    for group in state.get("param_groups", ()):
        group["lr"] = group.get("initial_lr", group["lr"])
        group.update({name: float(group[name]) for name in ("lr", "initial_lr") if isinstance(group.get(name), int)})
    return state


def carried(saved: Any, then: Any, now: Any) -> Any:
    """`saved`, with what differs between `then` and `now` as it is now. See the module; nothing is changed in place."""
    if now is _MISSING or _same(then, now):
        return saved
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        before = then if isinstance(then, Mapping) else {}
        gone = set(before) - set(now)
        old = {n: carried(v, before.get(n, _MISSING), now.get(n, _MISSING)) for n, v in saved.items() if n not in gone}
        new = {**{name: new for name, new in now.items() if name not in before}, **old}
        return Counter(new) if isinstance(saved, Counter) else new
    if _is_list(saved) and _is_list(now) and _is_list(then) and len(saved) >= len(then) == len(now):
        rest = saved[len(now) :]  # groups of parameters that were added since
        return type(saved)((*(carried(*parts) for parts in zip(saved, then, now, strict=False)), *rest))
    multiple = all(map(_is_real, (saved, then, now))) and then != 0 and not _same(saved, then)
    return saved * (now / then) if multiple else now


def _is_list(value: Any) -> bool:
    return type(value) in (list, tuple)


def _is_real(value: Any) -> bool:
    """Whole numbers count something: they are no multiple of what they were."""
    return (isinstance(value, float) and math.isfinite(value)) or (
        isinstance(value, torch.Tensor) and value.is_floating_point()
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
        return both and one.shape == other.shape and bool((one.cpu() == other.cpu()).all())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if _is_list(one) and _is_list(other):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return (numbers or type(one) is type(other)) and bool(one == other)
