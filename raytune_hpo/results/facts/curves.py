"""Learning curves: few enough to be seen, and the ones that matter in full."""

from __future__ import annotations

import math
from typing import Any

from raytune_hpo.results.curves import values_by_epoch
from raytune_hpo.results.results import Results

#: Curves that are kept, of these the best in full; of any other, so many points.
CURVES, BEST, POINTS = 240, 20, 60


def shown_curves(results: Results) -> dict[str, Any]:
    """of: trials with a report. shown: the curves that are kept, the best trial's first, those without a rank last:
    the BEST ones and those that still run, in full; the others evenly by rank, thinned to POINTS epochs. A trial that
    was set back to a checkpoint has one line, as of `reports_by_epoch`."""
    curves = {trial: line for trial, line in values_by_epoch(results).items() if line}
    trials = results.ledger.trials
    ranked = [t.id for t in results.top(len(trials)) if t.id in curves]
    rank = {trial: place for place, trial in enumerate(ranked, start=1)}
    others = [trial for trial in curves if trial not in rank]
    every = ranked + others
    full = {trial for trial in every if rank.get(trial, math.inf) <= BEST or not trials[trial].finished}
    full = set(sorted(full, key=lambda trial: rank.get(trial, math.inf))[: CURVES // 2])
    rest = [trial for trial in every if trial not in full]
    room = CURVES - len(full)
    kept = full | {rest[i * len(rest) // room] for i in range(room)} if len(rest) > room else set(every)
    shown = []
    for trial in every:
        if trial not in kept:
            continue
        points = sorted(curves[trial].items())
        thinned = points if trial in full else _thinned(points)
        shown.append(
            {
                "trial": trial,
                "rank": rank.get(trial),
                "status": trials[trial].status.value,
                "thinned": len(thinned) < len(points),
                "epochs": [epoch for epoch, _ in thinned],
                "values": [value for _, value in thinned],
            }
        )
    return {"of": len(curves), "best": min(BEST, len(ranked)), "shown": shown}


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The first, the last and evenly between."""
    if len(points) <= POINTS:
        return points
    return [points[round(i * (len(points) - 1) / (POINTS - 1))] for i in range(POINTS)]
