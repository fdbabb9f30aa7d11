"""The state of whatever a training loop holds, as tensors and plain values, and put back into the same object."""

from __future__ import annotations

import random
import warnings
from collections import Counter, OrderedDict
from collections.abc import MutableMapping, MutableSequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from raytune_hpo.errors import TrialError

_PLAIN = (bool, int, float, str, bytes, type(None), torch.Tensor)
ARRAY = "raytune_hpo: an array of NumPy's"
_AS_THEY_ARE = (set, torch.Size, torch.dtype, torch.device)


def check(name: str, thing: Any) -> None:
    """Raise TrialError, one line, for what has no state to save, or none that can be put back into it."""
    if isinstance(thing, int | float | str | bytes | tuple | type(None)):
        said = f'a {type(thing).__name__} cannot be changed: hold it in a dict, as {name}={{"value": {thing!r}}}'
        raise TrialError(f"checkpointed({name}=...): {said}")
    if _kind(thing) is None:
        said = f"a {type(thing).__name__} has no state to save: it needs state_dict() and load_state_dict()"
        raise TrialError(f"checkpointed({name}=...): {said}")
    if isinstance(thing, DataLoader) and getattr(thing, "persistent_workers", False) and not _has_state(thing):
        warnings.warn(
            f"{name}: persistent_workers keep random states in processes of their own, which no checkpoint holds: "
            "what they draw is not the same after a resume",
            stacklevel=4,
        )


def state_of(name: str, thing: Any) -> Any:
    """Raises TrialError where the state holds what no checkpoint can (objects that only a pickle could read back)."""
    kind = _kind(thing)
    if kind == "dict":
        state = thing.state_dict()
    elif kind == "mapping":
        state = dict(thing)
    elif kind == "sequence":
        state = list(thing)
    elif kind == "loader":
        state = {part: state_of(f"{name}.{part}", held) for part, held in _of_loader(thing).items()}
    elif kind == "torch":
        state = thing.get_state()
    elif kind == "tensor":
        state = thing.detach().clone()
    elif kind == "numpy":
        state = thing.bit_generator.state if isinstance(thing, np.random.Generator) else thing.get_state(legacy=False)
    else:
        version, internal, gauss = thing.getstate()
        state = [version, list(internal), gauss]
    return plain(name, state)


def put_back(name: str, thing: Any, state: Any) -> None:
    """Raises TrialError, one line, where the state is another thing's."""
    try:
        _put_back(name, thing, state)
    except TrialError:
        raise
    except Exception as error:  # of the thing's own load_state_dict
        reason = " ".join(str(error).split())[:300]
        raise TrialError(f"{name}: its checkpoint does not fit the {type(thing).__name__} of now: {reason}") from error


def _put_back(name: str, thing: Any, state: Any) -> None:
    kind = _kind(thing)
    state = _arrays(state)
    if kind == "dict":
        thing.load_state_dict(state)
    elif kind == "mapping":
        thing.clear()
        thing.update(state)
    elif kind == "sequence":
        thing[:] = state
    elif kind == "loader":
        for part, held in _of_loader(thing).items():
            if part in state:
                put_back(f"{name}.{part}", held, state[part])
    elif kind == "torch":
        thing.set_state(state.cpu())
    elif kind == "tensor":
        thing.detach().copy_(state)
    elif kind == "numpy":
        if isinstance(thing, np.random.Generator):
            thing.bit_generator.state = state
        else:
            thing.set_state(state)
    else:
        version, internal, gauss = state
        thing.setstate((version, tuple(internal), gauss))


def plain(name: str, value: Any) -> Any:
    """The value as what `load_state` reads back: arrays are tensors, numbers of NumPy's are Python's."""
    if isinstance(value, np.generic):  # first: NumPy's float is one of Python's too
        return value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:
        signed = value.astype(np.int64) if value.dtype in (np.uint32, np.uint16) else value
        return {ARRAY: torch.tensor(signed), "dtype": str(value.dtype)}
    if isinstance(value, MutableMapping):
        items = {plain(name, key): plain(f"{name}[{key!r}]", item) for key, item in value.items()}
        ordered = OrderedDict(items) if isinstance(value, OrderedDict) else items
        return Counter(items) if isinstance(value, Counter) else ordered
    if type(value) in (list, tuple):
        return type(value)(plain(f"{name}[{i}]", item) for i, item in enumerate(value))
    if type(value) in _AS_THEY_ARE:
        return value
    raise TrialError(f"{name} holds a {type(value).__name__}, which only a pickle could bring back: leave it out")


def _arrays(value: Any) -> Any:
    """What `plain` made of arrays, as arrays again."""
    if isinstance(value, dict) and ARRAY in value:
        return value[ARRAY].cpu().numpy().astype(value["dtype"])
    if isinstance(value, dict):
        for name, item in value.items():
            value[name] = _arrays(item)
        return value
    return type(value)(map(_arrays, value)) if type(value) in (list, tuple) else value


def python_numbers(value: Any) -> Any:
    """The value with Python's numbers in the place of NumPy's, which torch.load reads with weights_only=False alone."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {name: python_numbers(item) for name, item in value.items()}
    return type(value)(map(python_numbers, value)) if type(value) in (list, tuple) else value


def _has_state(thing: Any) -> bool:
    return all(callable(getattr(thing, name, None)) for name in ("state_dict", "load_state_dict"))


def _kind(thing: Any) -> str | None:
    kinds: tuple[tuple[str, bool], ...] = (
        ("dict", _has_state(thing)),
        ("loader", isinstance(thing, DataLoader)),
        ("torch", isinstance(thing, torch.Generator)),
        ("tensor", isinstance(thing, torch.Tensor)),
        ("numpy", isinstance(thing, np.random.Generator | np.random.RandomState)),
        ("python", isinstance(thing, random.Random)),
        ("mapping", isinstance(thing, MutableMapping)),
        ("sequence", isinstance(thing, MutableSequence)),
    )
    return next((kind for kind, holds in kinds if holds), None)


def _of_loader(loader: DataLoader[Any]) -> dict[str, Any]:
    """What a plain DataLoader draws its next pass over the data from, besides the global generators."""
    sampler, batch_sampler = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    found = {
        "generator": getattr(loader, "generator", None),
        "sampler": sampler,
        "sampler.generator": getattr(sampler, "generator", None),
        "batch_sampler": batch_sampler,
    }
    return {part: held for part, held in found.items() if isinstance(held, torch.Generator) or _has_state(held)}
