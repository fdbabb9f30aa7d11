"""The random states of a process: seed them, read them, put them back.

A trainer owns its own random state and swaps it in for the length of an epoch. Whatever else draws
from the global generators between two epochs (Ray's retries, a callback, another trainer in the
same process) can then not change a trial's result.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (every device) from one integer."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    seed_torch(seed)


def seed_torch(seed: int) -> None:
    # As torch.manual_seed, which records a traceback for each kind of device that is not in use: 0.5 ms.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def get_random_states() -> dict[str, Any]:
    """The global states as tensors and numbers only, so that `weights_only` can read them back."""
    version, internal, gauss_next = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    assert not isinstance(keys, str)  # NumPy's own annotation of this tuple is too wide
    assert name == "MT19937"  # what the legacy global generator always is
    return {
        "python": {"version": version, "internal": list(internal), "gauss_next": gauss_next},
        "numpy": {
            "keys": torch.tensor(keys.astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": _cuda_states(),
    }


def _cuda_states() -> list[torch.Tensor]:
    """Of every device, or none: asking a process that has not used its GPU would start CUDA in it."""
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.get_rng_state_all() if started else []


def set_random_states(states: Mapping[str, Any]) -> None:
    """Put back what `get_random_states` returned. CUDA states beyond the visible devices are dropped."""
    python, numpy_ = states["python"], states["numpy"]
    random.setstate((python["version"], tuple(python["internal"]), python["gauss_next"]))
    keys = numpy_["keys"].cpu().numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, numpy_["position"], numpy_["has_gauss"], numpy_["cached"]))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
            torch.cuda.set_rng_state(state.cpu(), device)


@contextlib.contextmanager
def preserved_random_states() -> Iterator[None]:
    """Leave the process's random states as they were found."""
    states = get_random_states()
    try:
        yield
    finally:
        set_random_states(states)


class OwnRandomStates:
    """The global generators on the CPU as something has them that draws beside a trial: its draws and the trial's do
    not move each other."""

    def __init__(self, seed: int) -> None:
        self._states: Any = None
        self._seed = seed

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        outside = _raw_states()
        if self._states is None:
            random.seed(self._seed)
            np.random.seed(self._seed % 2**32)
            torch.default_generator.manual_seed(self._seed)
        else:
            _set_raw_states(self._states)
        try:
            yield
        finally:
            self._states = _raw_states()
            _set_raw_states(outside)


def _raw_states() -> Any:
    """As each library has it: a tenth of the time of what can be saved."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_raw_states(states: Any) -> None:
    python, numpy_, torch_ = states
    random.setstate(python)
    np.random.set_state(numpy_)
    torch.set_rng_state(torch_)
