"""What torch.func.vmap lacks for lanes in half precision."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

_libraries: list[Any] = []  # kept: a library's kernels go with it
_lock = threading.Lock()


def let_vmap_normalise_halves() -> None:
    """From now on in this process: `batch_norm` and what is made of it (instance norms) of an input in half precision,
    whose weights and statistics are whole, as under autocast. torch's kernels take such; vmap's rule refuses them
    (as of torch 2.11). As theirs, it computes in the statistics' precision and answers in the input's."""
    with _lock:
        if _libraries:
            return
        library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        library.impl("batch_norm", _batch_norm, "FuncTorchBatched")  # type: ignore[no-untyped-call]
        _libraries.append(library)


def _batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, *others: Any) -> Tensor:
    written_out = torch.ops.aten.batch_norm.default._op_dk
    kept = next((t.dtype for t in (mean, weight) if t is not None), x.dtype)
    whole = x if x.dtype == kept else x.to(kept)
    out: Tensor = written_out(torch._C.DispatchKey.CompositeImplicitAutograd, whole, weight, bias, mean, *others)
    return out.to(x.dtype)
