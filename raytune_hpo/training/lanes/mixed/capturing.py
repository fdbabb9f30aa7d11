"""A tick as one launch: a CUDA graph of its operations, where that is measured to pay.

To capture a graph costs as much as some ticks do, and a placement lasts for some, nobody knows how many. So its ticks
are launched one by one until as much has been spent as a graph would have saved, and then it is captured: at most twice
what would have been best (ski rental, Karlin et al. 1994, "Competitive randomized algorithms for nonuniform problems",
section 2). What ticks and captures cost is measured of the first placement of a stack.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from raytune_hpo.training.lanes.mixed.operations import Operations

#: Ticks of a placement that are not measured, and ticks that are, of either kind.
WARM, MEASURED = 3, 8


@dataclass
class Costs:
    """Seconds that ticks of a stack's placements took, launched one by one and as a graph, and that the last capture
    did. refused: why a graph cannot be captured."""

    launched: list[float] = field(default_factory=list)
    replayed: list[float] = field(default_factory=list)
    capture: float = 0.0
    refused: str | None = None

    @property
    def worth(self) -> float:
        """Ticks of a placement from which on a graph is captured; infinite where it never pays."""
        if self.refused is not None or len(self.launched) < MEASURED:
            return math.inf
        if len(self.replayed) < MEASURED:
            return 0.0
        saved = statistics.median(self.launched) - statistics.median(self.replayed)
        return self.capture / saved if saved > 0 else math.inf


def captured(operations: Operations) -> Callable[[], None]:
    """Runs a tick by one launch. Raises RuntimeError where an operation cannot be captured."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        operations.run()
    replay: Callable[[], None] = graph.replay
    return replay


class Captured:
    """The ticks of a placement. capture, wait, clock: for tests; wait: until the device has done its work."""

    def __init__(
        self,
        operations: Operations,
        costs: Costs,
        capture: Callable[[Operations], Callable[[], None]] = captured,
        wait: Callable[[], None] = torch.cuda.synchronize,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._operations, self._costs = operations, costs
        self._capture, self._wait, self._clock = capture, wait, clock
        self._replay: Callable[[], None] | None = None
        self._ticks = 0

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            if self._replay is None and self._ticks >= self._costs.worth:
                self._buy()
            work: Callable[[], object] = self._replay or self._operations.run
            known = self._costs.launched if self._replay is None else self._costs.replayed
            if self._ticks >= WARM and len(known) < MEASURED:
                self._wait()
                began = self._clock()
                work()
                self._wait()
                known.append(self._clock() - began)
            else:
                work()
            self._ticks += 1

    def _buy(self) -> None:
        self._wait()
        began = self._clock()
        try:
            self._replay = self._capture(self._operations)
        except RuntimeError as error:
            self._costs.refused = str(error)
        self._wait()
        self._costs.capture = self._clock() - began
