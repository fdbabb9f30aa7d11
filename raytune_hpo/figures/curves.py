"""Learning curves: the best in colour, the others in grey behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_hpo.figures.panel import COLORS, GREY, Panel, Trace, metric_axis, titled

COLOURED = len(COLORS)


def curves(facts: Mapping[str, Any]) -> list[Panel]:
    shown = facts["curves"]["shown"]
    if not any(value is not None for curve in shown for value in curve["values"]):
        return []
    metric = facts["run"]["metric"]
    traces = [_trace(curve) for curve in reversed(shown)]  # the best on top
    # What the best ones span is in sight; the others may go out of it.
    best = [curve for curve in shown if (curve["rank"] or COLOURED) <= facts["curves"]["best"]]
    values = [value for curve in best or shown for value in curve["values"]]
    epochs = titled("epoch", range=[0, 1.02 * max(curve["epochs"][-1] for curve in shown)])
    layout = {"showlegend": True, "legend": {"traceorder": "reversed"}}
    return [Panel("all", metric, traces, epochs, metric_axis(metric, values), height=460, layout=layout)]


def _trace(curve: Mapping[str, Any]) -> Trace:
    rank = curve["rank"]
    coloured = rank is not None and rank <= COLOURED
    color = COLORS[rank - 1] if coloured else GREY
    width = 3 if rank == 1 else 1.8 if coloured else 1
    place = f"rank {rank}" if rank is not None else curve["status"]
    return {
        "type": "scatter",
        "x": curve["epochs"],
        "y": curve["values"],
        "name": curve["trial"],
        "mode": "lines+markers" if len(curve["epochs"]) == 1 or rank == 1 else "lines",
        "line": {"color": color, "width": width},
        "marker": {"color": color, "size": 5 if coloured else 3},
        "opacity": 1 if coloured else 0.35,
        "hovertemplate": f"{curve['trial']}, {place}<br>epoch %{{x}}: %{{y:.5g}}<extra></extra>",
        "showlegend": coloured,
        "meta": {"trial": curve["trial"]},
    }
