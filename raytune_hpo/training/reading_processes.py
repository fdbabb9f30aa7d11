"""Processes that make batches ahead of their use, in a fixed order.

Forked, so that nothing has to be pickled on the way there and what a data set holds is there once. Each has a socket of
its own to the process that asks: no lock is shared, so one that is killed is seen at once and blocks nobody. A batch
comes as raw memory, copied once.

    lists of keys ->  process k makes batches k, k + K, ...  -> one at a time, as fast as they are taken
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.trees import mapped

WATCH_S = 5.0
#: How long a process may take to end that is in the middle of a sample.
PATIENCE_S = 1.0

#: This process's ends of all sockets: a child must not keep them open.
_ends: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class ReadingProcesses:
    """make: a key's batch, called in one of the `count` processes; it does not raise. pinned: batches come in memory
    that a GPU copies from.

    Raises TrialError where a process was lost.
    """

    def __init__(self, make: Callable[[Any], Any], count: int, *, pinned: bool = False) -> None:
        self._pinned = pinned
        fork = multiprocessing.get_context("fork")
        self._sockets: list[socket.socket] = []
        self._processes = []
        for _ in range(count):
            here, there = socket.socketpair()
            _ends.add(here)
            self._sockets.append(here)
            process = fork.Process(target=_serve, args=(there, make, os.getpid()), daemon=True, name="reader")
            process.start()
            there.close()
            self._processes.append(process)

    def batches(self, keys: Sequence[Any]) -> Iterator[Any]:
        """Of each key, in order. To be read to its end, or else closed."""
        count = len(self._sockets)
        for number, connection in enumerate(self._sockets):
            self._guarded(number, _send, connection, pickle.dumps(list(keys[number::count])))
        for i in range(len(keys)):
            number = i % count
            head, buffers = self._guarded(number, _receive, self._sockets[number], self._pinned)
            yield mapped(_as_tensor, pickle.loads(head, buffers=buffers))

    def close(self) -> None:
        """End the processes."""
        for connection in self._sockets:
            connection.close()
        deadline = time.monotonic() + PATIENCE_S
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._sockets, self._processes = [], []

    def _guarded(self, number: int, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return work(*arguments)
        except (EOFError, OSError) as error:
            process = self._processes[number]
            process.join(PATIENCE_S)
            code = process.exitcode
            how = "was lost" if code is None else f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
            raise TrialError(f"a process that reads samples {how}") from error


class _Plain:
    """A tensor on its way: an array."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array


def _serve(connection: socket.socket, make: Callable[[Any], Any], parent: int) -> None:
    """In the process: until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C: what becomes of the run is not judged here
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for end in list(_ends):
        end.close()
    torch.set_num_threads(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    try:
        while True:
            head, _ = _receive(connection)
            for key in pickle.loads(head):
                buffers: list[pickle.PickleBuffer] = []
                batch = mapped(_as_plain, make(key))
                _send(connection, pickle.dumps(batch, 5, buffer_callback=buffers.append), buffers)
    except (EOFError, OSError):
        return


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


def _as_plain(leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor) or leaf.dtype is torch.bfloat16 or leaf.is_sparse:
        return leaf
    return _Plain(leaf.detach().contiguous().numpy())


def _as_tensor(leaf: Any) -> Any:
    return torch.from_numpy(leaf.array) if isinstance(leaf, _Plain) else leaf


# What goes through a socket: how many buffers, their sizes, a pickle, the buffers -----------------------------


def _send(connection: socket.socket, head: bytes, buffers: Sequence[pickle.PickleBuffer] = ()) -> None:
    raw = [buffer.raw() for buffer in buffers]
    sizes = [len(head), *(part.nbytes for part in raw)]
    connection.sendall(struct.pack(f"!{1 + len(sizes)}Q", len(sizes), *sizes) + head)
    for part in raw:
        connection.sendall(part)


def _receive(connection: socket.socket, pinned: bool = False) -> tuple[bytes, list[Any]]:
    (count,) = struct.unpack("!Q", _filled(connection, bytearray(8)))
    sizes = struct.unpack(f"!{count}Q", _filled(connection, bytearray(8 * count)))
    head = bytes(_filled(connection, bytearray(sizes[0])))
    empty = (torch.empty(size, dtype=torch.uint8, pin_memory=pinned).numpy() for size in sizes[1:])
    return head, [_filled(connection, array) for array in empty]


def _filled(connection: socket.socket, buffer: Any) -> Any:
    rest = memoryview(buffer)
    while rest:
        read = connection.recv_into(rest)
        if not read:
            raise EOFError
        rest = rest[read:]
    return buffer
