"""Linear algebra on one thread, for what thinks beside trainings."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Of NumPy and SciPy, in this process. On matrices of some hundred rows several threads gain nothing, and where
    trainings have the cores they wait in a loop: bayesopt's suggestions took 63 ms for 34."""
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _libraries() -> Any:
    import scipy.linalg  # noqa: F401  # with a library of its own, beside NumPy's
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
