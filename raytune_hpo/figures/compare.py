"""Several runs on the same axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from raytune_hpo.figures.course import best
from raytune_hpo.figures.panel import COLORS, Panel, metric_axis, text


def compared(every: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[Panel]:
    """The best value so far of each run. Runs of another metric are left out: their axis is another."""
    metric = every[0]["run"]["metric"]
    found: dict[str, list[Panel]] = {}
    for i, one in enumerate(every):
        for panel in best(one) if one["run"]["metric"] == metric else []:
            color = COLORS[i % len(COLORS)]
            line = {**panel.traces[0]["line"], "color": color}
            trace = {**panel.traces[0], "name": text(labels[i]), "line": line, "marker": {"size": 5, "color": color}}
            found.setdefault(panel.name, []).append(replace(panel, traces=[trace]))
    layout = {"showlegend": True, "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"}}
    layout["margin"] = {"l": 60, "r": 16, "t": 60, "b": 44}
    made = []
    for panels in found.values():
        traces = [panel.traces[0] for panel in panels]
        y = metric_axis(metric, [value for trace in traces for value in trace["y"]])
        x = {**(panels[0].x or {}), "range": [0, max((panel.x or {})["range"][1] for panel in panels)]}
        made.append(replace(panels[0], traces=traces, x=x, y=y, layout=layout, height=380))
    return made
