"""Within `counted`, what torch draws comes from `counters`: a pass draws the same alone and as a lane of a vmap.

    with counted(key, step):                     # one trial
        loss = model(x)
    with counted(keys, steps):                   # keys, steps: [L]; the same numbers for each lane
        losses = torch.func.vmap(model_of_lane, randomness="different")(weights, x)

How: torch's dispatcher asks BackendSelect last before an operation's kernel, below autograd and below vmap, and none of
the operations that draw has a kernel there. The first `counted` of a process registers one for each of them; where no
`counted` is active in the thread, it goes on to torch's own. Other operations are not touched and cost nothing.

Out of its reach: what draws from Python's or NumPy's generators, draws of a backward
pass outside the context, and with them torch.utils.checkpoint, whose second forward pass would draw other numbers than
the first.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.counters import Stream, words_of
from raytune_hpo.training.drawing_ops import OPS, SEEDED, draws_nothing, seeded
from raytune_hpo.training.recurrent import without_cudnn_where

Tensor = torch.Tensor

_AT_ONCE = 8  # draws whose words are made at a time


class _Thread(threading.local):
    active: counted | None = None


_thread = _Thread()


class counted:  # noqa: N801  (read as a statement: with counted(keys, step))
    """A context whose every draw depends on the key, the step and how many draws went before it in this context.

    keys: of `counters.key_of`: one, or [L] int64 of L lanes, run by `torch.func.vmap(..., randomness="different")` over
    an axis 0 of that length. step: of all lanes, or [L]. Inside another `counted`, it stands for that until its end.

    A draw with a `torch.Generator` of the model's own is left to that, where there are no lanes.

    Raises TrialError, naming the operation: one that draws and is not known (`drawing_ops`), draws outside of the vmap
    where there are lanes, or whose generator is the model's own where there are; and at the end, if torch's global
    generators were drawn from nevertheless. (A model that seeds them draws from counters all the same.)
    """

    def __init__(self, keys: int | Tensor, step: int | Tensor) -> None:
        self._keys, self._step = keys, step
        self._lanes = keys.shape[0] if isinstance(keys, Tensor) and keys.dim() else None
        self._draws = 0
        self._words: list[Tensor] = []
        self._rows: list[Tensor] = []  # of a permutation, those that vmap has not asked for yet

    def __enter__(self) -> counted:
        _register()
        self._outer, _thread.active = _thread.active, self
        self._fused_attention = _attend_by_math()
        self._before = _torch_states()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        _thread.active = self._outer
        _fused_attention_on(self._fused_attention)
        if error is None:
            self._no_rows_left("the end")
            if not _equal(self._before, _torch_states()) and not _put_back_seeded(self._before):
                raise TrialError("the model drew from torch's global generator by no operation that can be replaced")

    def next(self, op: str, like: Tensor) -> tuple[Stream, torch.Size]:
        self._no_rows_left(op)
        shape = like.shape
        if self._lanes is not None:
            rows, lanes = (shape[0] if shape else 0), self._lanes
            if op == "multinomial" and rows and rows % lanes == 0:  # of which vmap makes one axis
                shape = torch.Size([lanes, rows // lanes, *shape[1:]])
            if not shape or shape[0] != lanes:
                raise TrialError(
                    f"{op} draws {list(shape)} numbers that are not of the {lanes} lanes: outside of their vmap"
                )
            shape = shape[1:]
        return self._stream(like.device), shape

    def next_row(self, n: int, device: torch.device) -> Tensor:
        if not self._rows:
            order = self._stream(device).permutation(n)
            self._rows = [order] if self._lanes is None else list(order)
        row = self._rows.pop(0)
        if len(row) != n:
            self._no_rows_left("randperm")
            raise TrialError("randperm: of another length in another lane")
        return row

    def _stream(self, device: torch.device) -> Stream:
        if self._draws == len(self._words):
            # One copy for several draws, as each waits for the device.
            self._words += words_of(self._keys, self._step, self._draws, _AT_ONCE).to(device).unbind(0)
        self._draws += 1
        return Stream(self._words[self._draws - 1].to(device))

    def _no_rows_left(self, op: str) -> None:
        if self._rows:
            raise TrialError(f"randperm was drawn outside of the lanes' vmap, before {op}")


def _torch_states() -> list[Tensor]:
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.default_generator.get_state(), *(torch.cuda.get_rng_state_all() if started else [])]


def _put_back_seeded(before: list[Tensor]) -> bool:
    """Put back the generators that a model has seeded; False if numbers were drawn of any since."""
    generators = [torch.default_generator, *torch.cuda.default_generators][: len(before)]
    for generator, state in zip(generators, before, strict=False):
        now = generator.get_state()
        of_seed = torch.Generator(generator.device).manual_seed(generator.initial_seed()).get_state()
        if torch.equal(now, of_seed):
            generator.set_state(state)
        elif not torch.equal(now, state):
            return False
    return True


def _equal(before: list[Tensor], after: list[Tensor]) -> bool:
    """A device that came into use between the two has no state before."""
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=False))


def _attend_by_math() -> tuple[bool, ...] | None:
    """On a GPU, the fused kernels of attention draw their dropout within: only the plain one can be given its own."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    cuda = torch.backends.cuda
    asked = (cuda.flash_sdp_enabled, cuda.mem_efficient_sdp_enabled, cuda.cudnn_sdp_enabled)
    found = tuple(bool(enabled()) for enabled in asked)  # type: ignore[no-untyped-call]
    _fused_attention_on((False, False, False))
    return found


def _fused_attention_on(kinds: tuple[bool, ...] | None) -> None:
    if kinds is not None:
        cuda = torch.backends.cuda
        cuda.enable_flash_sdp(kinds[0])
        cuda.enable_mem_efficient_sdp(kinds[1])
        cuda.enable_cudnn_sdp(kinds[2])


# The kernels --------------------------------------------------------------------------------------------------------

_libraries: list[Any] = []  # kept: a library's kernels go with it
_lock = threading.Lock()


def _register() -> None:
    if _libraries:
        return
    with _lock:
        if _libraries:
            return
        library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        for name, op in random_ops().items():
            kernel = _kernel(name, op)
            library.impl(name, kernel, "BackendSelect", with_keyset=True)  # type: ignore[no-untyped-call]
        library.impl("empty.memory_format", _empty, "FuncTorchVmapMode", with_keyset=True)  # type: ignore[no-untyped-call]
        without_cudnn_where(lambda: _thread.active is not None, library)
        _libraries.append(library)


@functools.cache
def random_ops() -> dict[str, Any]:
    """torch's operations that draw, by its own tag, and have a kernel of their own on a CPU or a GPU."""
    found = {}
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    for whole in torch._C._dispatch_get_all_op_names():
        space, _, name = whole.partition("::")
        if (
            space != "aten"
            or has_kernel(whole, "BackendSelect")
            or not any(has_kernel(whole, k) for k in ("CPU", "CUDA"))
        ):
            continue
        packet, _, overload = name.partition(".")
        op = getattr(getattr(torch.ops.aten, packet), overload or "default")
        if torch.Tag.nondeterministic_seeded in op.tags and packet != "_fused_sdp_choice" and "backward" not in packet:
            found[name] = op
    return found


def _kernel(name: str, op: Any) -> Callable[..., Any]:
    below = torch._C._dispatch_keyset_full_after(torch._C.DispatchKey.BackendSelect)
    own = OPS.get(name)
    names = [argument.name for argument in op._schema.arguments]
    defaults = {a.name: a.default_value for a in op._schema.arguments if a.has_default_value()}

    def kernel(keys: Any, *args: Any, **options: Any) -> Any:
        now = _thread.active
        if now is None:
            return op.redispatch(keys & below, *args, **options)
        given = dict(zip(names, args, strict=False)) | options
        generator = given.get("generator")
        anything = next((v for v in given.values() if isinstance(v, Tensor)), None)
        if draws_nothing(name, defaults | given) or (anything is not None and anything.is_meta):
            return op.redispatch(keys & below, *args, **options)
        if generator is not None and generator is not torch.default_generator:
            if now._lanes is None:
                return op.redispatch(keys & below, *args, **options)
            raise TrialError(
                f"{name} draws from a torch.Generator of its own, which is not any one lane's: draw without it"
            )
        if name in SEEDED:
            tensors = [value for value in given.values() if isinstance(value, Tensor)]
            return seeded(
                *(now, name, lambda *drawn: op.redispatch(keys & below, *drawn)),
                *tensors,
                lanes=now._lanes is not None,
            )
        if own is None:
            raise TrialError(f"torch.ops.aten.{name} draws random numbers that cannot be had of a counter")
        given.pop("generator", None)
        out = given.pop("out", None)
        return own(now, *given.values(), **({} if out is None else {"out": out}))

    return kernel


def _empty(keys: Any, size: list[int], **options: Any) -> Tensor:
    """torch.empty inside vmap: with lanes of its own, as `torch.empty(n).normal_()` is to be different in each lane.
    Without, vmap refuses that, and torch.distributions draws so."""
    vmap_mode = torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchVmapMode)
    functorch = torch._C._functorch
    with torch._C._ExcludeDispatchKeyGuard(vmap_mode):
        if _thread.active is None:
            same: Tensor = torch.ops.aten.empty.memory_format(size, **options)
            return same
        innermost = functorch.peek_interpreter_stack()  # named, as the next object points into it
        lanes = functorch.CVmapInterpreterPtr(innermost).batchSize()
        level = innermost.level()
        whole = torch.ops.aten.empty.memory_format([lanes, *size], **options)
    of_lanes: Tensor = functorch._add_batch_dim(whole, 0, level)
    return of_lanes
