"""nn.RNN, nn.GRU and nn.LSTM as torch writes them out: a loop over the time steps, of its common operations.

cuDNN and oneDNN run a whole layer in one operation, which torch.func.vmap has no rule for, and which draws its dropout
within: lanes, and a layer whose dropout is drawn from counters, go without them. torch's own kernels of a time step on
a GPU are written out as well, for vmap. (torch's decomposition in Python, `op.decompose`, leaves out the dropout
between layers as of torch 2.15.) With vmap the weights are to be the lanes' own: of weights that they share, torch's
kernels keep one hidden state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LAYERS = ("rnn_tanh", "rnn_relu", "gru", "lstm")

_libraries: list[Any] = []  # kept: a library's kernels go with it
_lock = threading.Lock()


def let_vmap_run_recurrent_layers() -> None:
    """From now on in this process. They are as exact as torch's own, and draw their dropout in the same order."""
    with _lock:
        if _libraries:
            return
        library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        for name in LAYERS:
            kernel = _written_out(getattr(torch.ops.aten, name).input)
            library.impl(f"{name}.input", kernel, "FuncTorchBatched")  # type: ignore[no-untyped-call]
        library.impl("cudnn_is_acceptable", lambda x: False, "FuncTorchBatched")  # type: ignore[no-untyped-call]
        library.impl("_thnn_fused_lstm_cell", lstm_cell, "FuncTorchBatched")  # type: ignore[no-untyped-call]
        library.impl("_thnn_fused_gru_cell", gru_cell, "FuncTorchBatched")  # type: ignore[no-untyped-call]
        _libraries.append(library)


def without_cudnn_where(draws: Callable[[], bool], library: Any) -> None:
    """Registers with `library`: a layer on a GPU that trains with dropout is written out wherever `draws()`."""
    for name in LAYERS:
        for kind in ("input", "data"):  # data: of a PackedSequence
            op = getattr(getattr(torch.ops.aten, name), kind)
            library.impl(f"{name}.{kind}", _chosen(op, draws), "AutogradCUDA")


def _chosen(op: Any, draws: Callable[[], bool]) -> Callable[..., Any]:
    names = [argument.name for argument in op._schema.arguments]
    dropout, train = names.index("dropout"), names.index("train")
    written_out = _written_out(op)

    def run(*args: Any) -> Any:
        if args[train] and args[dropout] and draws():
            return written_out(*args)
        return op._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args)

    return run


def _written_out(op: Any) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        # As torch.backends.mkldnn.flags and cudnn.flags, which warn where there is no such device.
        of_cpu, of_gpu = torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()
        torch._C._set_mkldnn_enabled(False)
        torch._C._set_cudnn_enabled(False)
        try:
            return op._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args)
        finally:
            torch._C._set_mkldnn_enabled(of_cpu)
            torch._C._set_cudnn_enabled(of_gpu)

    return run


# The steps, by the formulas of nn.LSTM and nn.GRU. Gates: [N, 4 H] and [N, 3 H], before their biases. The last thing
# returned is what torch's derivative of the kernel would read; nothing reads it here.


def lstm_cell(
    of_input: Tensor,
    of_hidden: Tensor,
    cell: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    gates = _biased(of_input, input_bias) + _biased(of_hidden, hidden_bias)
    enters, stays, new, leaves = gates.chunk(4, -1)
    cell = stays.sigmoid() * cell + enters.sigmoid() * new.tanh()
    return leaves.sigmoid() * cell.tanh(), cell, gates


def gru_cell(
    of_input: Tensor,
    of_hidden: Tensor,
    hidden: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    reset, stays, new = _biased(of_input, input_bias).chunk(3, -1)
    own_reset, own_stays, own_new = _biased(of_hidden, hidden_bias).chunk(3, -1)
    new = (new + own_new * (reset + own_reset).sigmoid()).tanh()
    return (hidden - new) * (stays + own_stays).sigmoid() + new, of_input


def _biased(gates: Tensor, bias: Tensor | None) -> Tensor:
    return gates if bias is None else gates + bias
