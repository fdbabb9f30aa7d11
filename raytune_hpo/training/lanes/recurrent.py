"""nn.RNN, nn.GRU and nn.LSTM inside torch.func.vmap, which has no rule for them, and refuses them.

torch's own kernels of them, without cuDNN and oneDNN, are made of operations that vmap knows: a loop over the time
steps, in C++. (Its decomposition in Python, `op.decompose`, leaves out the dropout between layers as of torch 2.15.)
The weights are to be the lanes' own: of weights that they share, torch's kernels keep one hidden state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

_libraries: list[Any] = []  # kept: a library's kernels go with it
_lock = threading.Lock()


def let_vmap_run_recurrent_layers() -> None:
    """From now on in this process. They are as exact as torch's own, and draw their dropout in the same order."""
    with _lock:
        if _libraries:
            return
        library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        for name in ("rnn_tanh", "rnn_relu", "gru", "lstm"):
            kernel = _written_out(getattr(torch.ops.aten, name).input)
            library.impl(f"{name}.input", kernel, "FuncTorchBatched")  # type: ignore[no-untyped-call]
        library.impl("cudnn_is_acceptable", lambda x: False, "FuncTorchBatched")  # type: ignore[no-untyped-call]
        _libraries.append(library)


def _written_out(op: Any) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        found = torch._C._get_mkldnn_enabled()  # torch.backends.mkldnn.flags warns where there is no GPU of Intel's
        torch._C._set_mkldnn_enabled(False)
        try:
            return op._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args)
        finally:
            torch._C._set_mkldnn_enabled(found)

    return run
