"""What is known from elsewhere: configs of other runs, and what they have shown there.

Notations: as in `algorithm`: a value is a loss, to be minimized; NaN is one that was not finite.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raytune_hpo.search.fidelity import expected_scores, levels
from raytune_hpo.search.history import History
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config, config_key


@dataclass(frozen=True)
class Evidence:
    """What is known of a config from elsewhere. curve: epoch -> loss, NaN where it was not finite; source: where from,
    in words."""

    config: Config
    curve: dict[int, float] = field(repr=False)
    source: str

    @property
    def epochs(self) -> int:
        return max(self.curve, default=0)

    def to_json(self) -> dict[str, Any]:
        return {"config": self.config, "curve": _curve_to_json(self.curve), "source": self.source}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        return cls(data["config"], _curve_from_json(data["curve"]), data["source"])


def _curve_to_json(curve: Mapping[int, float]) -> list[list[Any]]:
    return [[epoch, None if math.isnan(value) else value] for epoch, value in curve.items()]


def _curve_from_json(rows: Sequence[Sequence[Any]]) -> dict[int, float]:
    return {int(epoch): math.nan if value is None else float(value) for epoch, value in rows}


def extent(evidence: Sequence[Evidence]) -> int:
    """Another number whenever some has come, or has grown."""
    return len(evidence) + sum(one.epochs for one in evidence)


def by_source(evidence: Sequence[Evidence]) -> list[list[Evidence]]:
    """In the order in which they were first heard of."""
    found: dict[str, list[Evidence]] = {}
    for one in evidence:
        found.setdefault(one.source, []).append(one)
    return list(found.values())


def history_of(space: SearchSpace, evidence: Sequence[Evidence]) -> History:
    """Of one source, as if it had been this run's own."""
    history = History(levels(max(max(one.curve, default=1) for one in evidence)))
    for number, one in enumerate(evidence):
        history.add(str(number), one.config, space.to_unit(one.config))
        for epoch, loss in sorted(one.curve.items()):
            history.report(str(number), epoch, loss)
    return history


def best_of_sources(space: SearchSpace, evidence: Sequence[Evidence]) -> Iterator[Config]:
    """Different configs, the best of each source, then the second best of each, and so on."""
    rankings = []
    for own in by_source(evidence):
        history = history_of(space, own)
        order = np.argsort(expected_scores(history.trials, len(history.levels)), kind="stable")
        rankings.append([own[i].config for i in order])
    seen = set()
    for config in (c for found in itertools.zip_longest(*rankings) for c in found if c is not None):
        if config_key(config) not in seen:
            seen.add(config_key(config))
            yield config
