"""Two parts of benchmarks/gpu.py: lanes against the solo trainer's loop, and what copies and coming lanes cost."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from gpu_device import Device, Utilisation, is_out_of_memory
from gpu_models import (
    CHAINS,
    SPACES,
    Alike,
    Solo,
    Trained,
    Training,
    coming_and_going,
    rates_of,
    trained,
    warm_up,
    window,
)
from gpu_report import Report, described, spread_of
from gpu_time import Clock, OutOfTimeError

from raytune_hpo.training.lanes.mixed.placement import Placement

WINDOW_S = 1.0
#: Of the time, where it is not 1: rounds of configs are long, and large models.
WEIGHTS = {**dict.fromkeys(SPACES, 2.0), "resnet-18": 1.5}
OF_GRAPHS = (4, 64, 512)  # lanes that are measured with captured ticks, too
ENOUGH_LANES = 64  # of a space, of which some of every config are there at any time


def lanes_against_solo(
    report: Report,
    device: Device,
    busy: Utilisation,
    clock: Clock,
    models: Sequence[str],
    sizes: Sequence[int],
    repeats: int,
    small: bool,
) -> dict[str, float]:
    """Rows of each model; the solo trainer's model-epochs a second."""
    solo: dict[str, float] = {}
    for model, of_model in clock.shared(models, [WEIGHTS.get(model, 1.0) for model in models]):
        what = trained(model, small)
        counts = [(0, False)]
        for size in sizes:
            counts += [(size, False), *([(size, True)] if model in CHAINS and size in OF_GRAPHS else [])]
        known: dict[int, float] = {}  # seconds that so many lanes took to make
        why: str | None = None
        weights = [2.0 if _least(what, count) else 1.0 for count, _ in counts]
        for (count, graphs), of_row in of_model.shared(counts, weights):
            row: dict[str, Any] = {"model": model, "how": f"L={count}" if count else "solo", "lanes": count}
            row["how"] += ", CUDA graphs" if graphs else ""
            if why is None and count and known:
                last = max(known)
                expected = known[last] * count / last
                if 0 < of_model.left_s < expected:
                    row["note"] = f"skipped: to make {count} lanes would take about {expected:.0f} s"
            if why is not None:
                row["note"] = why
            if "note" not in row:
                make = _making(what, device, count, of_model.check, graphs)
                measure_row(row, make, device, busy, of_row, of_model, repeats, _least(what, count))
                if "rate" in row and count:
                    known[count] = row["making_s"]
                if "rate" in row and not count:
                    solo[model] = row["rate"]["median"]
                if row.get("note") == "out of memory":
                    why = f"not tried: L={count} ran out of memory"
            if model in solo and "rate" in row and count:
                row["gain"] = row["rate"]["median"] / solo[model]
            report.add("lanes", row)
    return solo


def _making(
    what: Trained, device: Device, count: int, check: Callable[[], None], graphs: bool
) -> Callable[[], Training]:
    if not count:
        return lambda: Solo(what, device)
    if what.configs:
        return lambda: coming_and_going(what, device, count, check, graphs=graphs)
    return lambda: Alike(what, device, count, check, graphs=graphs)


def _least(what: Trained, count: int) -> int:
    """Epochs of a window: configs cost differently, so that few at a time are measured by whole rounds of them."""
    return what.round if count < ENOUGH_LANES else 0


def measure_row(
    row: dict[str, Any],
    make: Callable[[], Training],
    device: Device,
    busy: Utilisation,
    clock: Clock,
    outer: Clock,
    repeats: int,
    least: int,
) -> None:
    """What was found, or a note of why not, into the row. clock: of the row; outer: whose end ends its making."""
    try:
        outer.check()
        device.clear()
        began = time.monotonic()
        training = make()
        made = time.monotonic()
        row["making_s"] = round(made - began, 2)
        warm_up(training, device, outer.check, clock.left_s / 3)
        row["warming_up_s"] = round(time.monotonic() - made, 2)
        windows: list[tuple[float, float]] = []
        with busy.watched(row):
            for number in range(repeats):
                if windows and clock.left_s <= (windows[-1][1] if least else 0):
                    break
                seconds = max(0.05, min(WINDOW_S, clock.left_s / (repeats - number)))
                windows.append(window(training, device, seconds, least, clock.until))
        if len(windows) > 1 and windows[-1][0] < least:
            windows.pop()
        elif windows[0][0] < least:
            row["note"] = f"{windows[0][0]:.0f} of {least} epochs that all configs take: of some of them alone"
        row["rate"], row["windows"] = spread_of(rates_of(windows)), windows
        row["memory_mb"] = device.peak_mb()
    except OutOfTimeError:
        row["note"] = "skipped: no time left"
    except Exception as error:
        row["note"] = "out of memory" if is_out_of_memory(error) else f"failed: {described(error)}"
    # Only here, where the error and with it the frames that hold tensors are gone.
    training = None  # type: ignore[assignment]
    with contextlib.suppress(Exception):  # a card after a fault of its own
        device.clear()


# Exploit --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def placements(device: Device, seconds: list[float]) -> Iterator[None]:
    """Note what each placement that is made meanwhile takes."""
    made = Placement.__init__

    def timed(self: Placement, *given: Any) -> None:
        device.wait()
        began = time.monotonic()
        made(self, *given)
        device.wait()
        seconds.append(time.monotonic() - began)

    Placement.__init__ = timed  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Placement.__init__ = made  # type: ignore[method-assign]


def exploit(
    report: Report, device: Device, clock: Clock, model: str, sizes: Sequence[int], repeats: int, small: bool
) -> None:
    """A quarter of the lanes become copies of others; one lane comes in place of another."""
    what = trained(model, small)
    for lanes, of_size in clock.shared(sizes):
        rows: list[dict[str, Any]] = [
            {"lanes": lanes, "what": "an epoch, nobody comes"},
            {"lanes": lanes, "what": f"{max(1, lanes // 4)} copies"},
            {"lanes": lanes, "what": "one lane comes"},
        ]
        try:
            device.clear()
            _exploited(rows, Alike(what, device, lanes, of_size.check), what, device, of_size, lanes, repeats)
        except OutOfTimeError:
            rows[-1]["note"] = "cut short: no time left"
        except Exception as error:
            rows[-1]["note"] = "out of memory" if is_out_of_memory(error) else f"failed: {described(error)}"
        for row in rows:
            report.add("exploit", row)


def _exploited(
    rows: list[dict[str, Any]], training: Alike, what: Trained, device: Device, clock: Clock, lanes: int, repeats: int
) -> None:
    trainer, each = training.trainer, _Times(device)
    warm_up(training, device, clock.check, 0)
    still, copied, came = rows
    for number in range(repeats):
        if number:
            clock.check()
        each.timed("still", training.advance)
        for i in range(max(1, lanes // 4)):
            given = (str(i), str(lanes - 1 - i), what.config(i + number, lanes))
            each.timed("copy", partial(trainer.copy, *given))
        with placements(device, each.of("copied places")):
            each.timed("copied", training.advance)
        training.advance()
        one = str(number % lanes)
        trainer.leave(one)
        each.timed("enter", partial(trainer.enter, one, what.config(number, lanes), 1000 + number))
        with placements(device, each.of("came places")):
            each.timed("came", training.advance)
        training.advance()
        still["epoch_s"] = spread_of(each.of("still"))
        for row, call, name in ((copied, "copy", "copied"), (came, "enter", "came")):
            row["each_ms"] = spread_of([seconds * 1e3 for seconds in each.of(call)])
            row["epoch_s"] = spread_of(each.of(name))
            if places := each.of(f"{name} places"):
                row["placement_s"] = spread_of(places)
                row["placements_an_epoch"] = round(len(places) / (number + 1), 2)
    copied["of_an_epoch"] = round(statistics.median(each.of("copied")) / statistics.median(each.of("still")) - 1, 3)


class _Times:
    """Seconds of calls, by name, each until the device has done what it asks for."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._found: dict[str, list[float]] = {}

    def of(self, name: str) -> list[float]:
        return self._found.setdefault(name, [])

    def timed(self, name: str, work: Callable[[], object]) -> None:
        self._device.wait()
        began = time.monotonic()
        work()
        self._device.wait()
        self.of(name).append(time.monotonic() - began)
