"""A part of benchmarks/gpu.py: solo trainers in 1, 2, 4, 8 processes that share the device.

The processes are started once, as each takes seconds to import torch and to start CUDA; those that have nothing to do
wait. They begin together, when the last of them has warmed up, and train for a fixed time.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from gpu_device import Device, Utilisation, is_out_of_memory
from gpu_models import Solo, rates_of, trained, warm_up, window
from gpu_report import Report, described, spread_of
from gpu_time import Clock

GRACE_S = 10.0  # for what cannot be interrupted, as a first kernel's compilation


def serve(connection: Connection, kind: str) -> None:
    """A process: prepare a model, measure, again and again, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent ends this process
    from raytune_hpo.training.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    device = Device(kind)
    training: Solo | None = None
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        device.wait()
        connection.send(("ready", None))
        while True:
            what, *given = connection.recv()
            try:
                if what == "prepare":
                    model, small, number, count = given
                    training = None
                    device.clear()
                    found = trained(model, small)
                    # Of a space, each begins elsewhere in it, so that together they train all of it.
                    first = number * len(found.configs) // count if found.configs else 0
                    training = Solo(found, device, first)
                    warm_up(training, device, lambda: None, 0)
                    connection.send(("ready", None))
                else:
                    assert training is not None
                    repeats, seconds = given
                    until = time.monotonic() + repeats * seconds
                    windows = [window(training, device, seconds, 0, until) for _ in range(repeats)]
                    connection.send(("measured", (windows, device.peak_mb())))
            except Exception as error:
                training = None
                connection.send(("failed", "out of memory" if is_out_of_memory(error) else described(error)))


class Pool:
    """As many processes as are asked for at most, of which none outlives the block."""

    def __init__(self, count: int, kind: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._members: list[tuple[Any, Connection]] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, kind), daemon=True)
            self._members.append((process, ours))
            process.start()
            theirs.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for process, connection in self._members:
            connection.close()
            process.terminate()
        for process, _connection in self._members:
            process.join(5)
            if process.is_alive():
                process.kill()

    def send(self, messages: Sequence[tuple[Any, ...]]) -> None:
        """One to each of the first."""
        for (_, connection), message in zip(self._members, messages, strict=False):
            with contextlib.suppress(OSError):  # said by `answers`
                connection.send(message)

    def answers(self, count: int, until: float) -> list[Any]:
        """Of the first. Raises _NoAnswerError where one failed, ended or was late."""
        found, failed = [], None
        for process, connection in self._members[:count]:
            try:
                if not connection.poll(max(0.0, until - time.monotonic())):
                    raise _NoAnswerError("no answer in time", final=True)
                what, value = connection.recv()
            except (EOFError, OSError):
                process.join(1)
                raise _NoAnswerError(f"a process ended with exit code {process.exitcode}", final=True) from None
            if what == "failed":
                failed = value
            found.append(value)
        if failed is not None:
            raise _NoAnswerError(failed, final=False)
        return found


class _NoAnswerError(Exception):
    """final: the processes are of no use any more."""

    def __init__(self, text: str, *, final: bool) -> None:
        super().__init__(text)
        self.final = final


def processes_on_one_device(
    report: Report,
    device: Device,
    busy: Utilisation,
    clock: Clock,
    models: Sequence[str],
    counts: Sequence[int],
    solo: Mapping[str, float],
    repeats: int,
    small: bool,
) -> None:
    with contextlib.suppress(Exception):  # after a fault of the card in this process others may yet use it
        device.clear()
    why: str | None = None
    with Pool(max(counts), device.kind) as pool:
        try:
            pool.answers(max(counts), clock.until)
        except _NoAnswerError as error:
            why = f"the processes did not start: {error}"
        for model, of_model in clock.shared(models):
            for count, of_row in of_model.shared(counts):
                row: dict[str, Any] = {"model": model, "processes": count}
                if why is None and of_row.left_s <= 0:
                    row["note"] = "skipped: no time left"
                elif why is not None:
                    row["note"] = why
                else:
                    try:
                        _measured(row, pool, busy, of_row, repeats, small)
                    except _NoAnswerError as error:
                        row["note"] = str(error)
                        why = f"not tried: {error}" if error.final else None
                if "rate" in row and model in solo:
                    row["gain"] = row["rate"]["median"] / solo[model]
                report.add("processes", row)


def _measured(row: dict[str, Any], pool: Pool, busy: Utilisation, clock: Clock, repeats: int, small: bool) -> None:
    model, count = row["model"], row["processes"]
    pool.send([("prepare", model, small, number, count) for number in range(count)])
    pool.answers(count, clock.until + GRACE_S)
    seconds = max(0.05, min(1.0, clock.left_s / repeats))
    if trained(model, small).configs:  # which cost differently: one window over as many of them as there is time for
        repeats, seconds = 1, repeats * seconds
    with busy.watched(row):
        pool.send([("measure", repeats, seconds)] * count)
        found = pool.answers(count, time.monotonic() + repeats * seconds + GRACE_S)
    together = zip(*(rates_of(windows) for windows, _ in found), strict=True)
    row["rate"] = spread_of([sum(rates) for rates in together])
    row["windows"] = [windows for windows, _ in found]
    peaks = [peak for _, peak in found if peak is not None]
    row["memory_mb"] = round(sum(peaks), 1) if peaks else None
