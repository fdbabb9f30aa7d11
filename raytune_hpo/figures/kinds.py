"""The kinds of figures, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raytune_hpo.checks import no_such
from raytune_hpo.errors import ExperimentError
from raytune_hpo.figures.course import best, rungs
from raytune_hpo.figures.curves import curves
from raytune_hpo.figures.family import lineage, schedule
from raytune_hpo.figures.importance import importance
from raytune_hpo.figures.panel import Panel, composed, short
from raytune_hpo.figures.parameters import parallel, rounds, slices
from raytune_hpo.figures.timeline import timeline

#: Name -> (its title, its panels).
KINDS: dict[str, tuple[str, Callable[[Mapping[str, Any]], list[Panel]]]] = {
    "curves": ("Learning curves", curves),
    "best": ("Best so far", best),
    "parallel": ("Configs and what came of them", parallel),
    "slices": ("The metric by each parameter", slices),
    "importance": ("What mattered", importance),
    "rounds": ("The space of each round", rounds),
    "rungs": ("How far trials came", rungs),
    "lineage": ("Who went on from whom", lineage),
    "schedule": ("Configs by epoch", schedule),
    "timeline": ("Where the time went", timeline),
}


def panels(facts: Mapping[str, Any], kind: str) -> list[Panel]:
    """Raises ExperimentError for a kind that there is not."""
    if kind not in KINDS:
        raise ExperimentError("figure", kind, no_such("kind of figure", kind, KINDS))
    return KINDS[kind][1](facts)


def titled_panels(facts: Mapping[str, Any], kind: str) -> tuple[str, list[Panel]]:
    """A figure's title and its panels. Raises ExperimentError where the run has nothing for it."""
    found = panels(facts, kind)
    if not found:
        having = [name for name in KINDS if panels(facts, name)]
        expected = f"this run has nothing to show for it; it has {', '.join(having) or 'no report yet'}"
        raise ExperimentError("figure", kind, expected)
    return f"{short(facts['run']['name'], 30)}: {KINDS[kind][0]}", found


def composed_figure(facts: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """All panels of a kind as one figure of plotly's. Raises as `titled_panels`."""
    title, found = titled_panels(facts, kind)
    return composed(found, title)
