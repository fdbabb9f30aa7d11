"""Who went on from whose checkpoint, and under which configs."""

from __future__ import annotations

from typing import Any

from raytune_hpo.results.lineage import Segment, lineage, segments
from raytune_hpo.results.results import Results
from raytune_hpo.space.configs import Config, flatten


def family(results: Results) -> dict[str, Any] | None:
    """segments: of all trials; winner: those that lead to the winner's best epoch, oldest first. varying: the paths
    that differ between segments of one line. None where no trial went on from another's checkpoint, or its own."""
    every = segments(results)
    if not any(segment.donor is not None for segment in every.values()):
        return None
    best = results.ledger.winner()
    chain: list[Segment] = []
    if best is not None and best.best_epoch is not None:
        # The generation in which it was best: the newest that had begun by then.
        of_it = [s for s in every.values() if s.trial == best.id and s.first < best.best_epoch <= s.last]
        if of_it:
            fitting = [s for s in of_it if s.config == best.best_config] or of_it
            chain = lineage(results, best.id, fitting[-1].generation, best.best_epoch)
    varying: dict[str, None] = {}
    for segment in every.values():
        if segment.donor in every:
            varying |= dict.fromkeys(changes(every[segment.donor].config, segment.config))
    return {
        "segments": [_told(segment) for segment in every.values()],
        "winner": [_told(segment) for segment in chain],
        "varying": list(varying),
    }


def changes(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """path -> (before, now) where they differ; None for what one of them has not."""
    old, new = flatten(before), flatten(now)
    return {path: (old.get(path), new.get(path)) for path in {**old, **new} if old.get(path) != new.get(path)}


def _told(segment: Segment) -> dict[str, Any]:
    return {
        "trial": segment.trial,
        "generation": segment.generation,
        "first": segment.first,
        "last": segment.last,
        "why": segment.why,
        "donor": segment.donor[0] if segment.donor else None,
        "donor_generation": segment.donor[1] if segment.donor else None,
        "config": segment.config,
    }
