"""Legends for panels that are drawn once and for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raytune_hpo.figures.panel import GREY, Panel, Trace


def with_legends(panels: Sequence[Panel]) -> list[Panel]:
    """The panels with `showlegend` in each trace and each layout. A name stands once in a figure; of many in grey none
    does, and where there is but one name it tells nothing."""
    named = [trace for panel in panels for trace in panel.traces if trace.get("name") and trace.get("x")]
    grey = {trace["name"] for trace in named if color(trace) == GREY}
    every = len(grey) == 1 or any(panel.layout.get("showlegend") for panel in panels)
    names = {trace["name"] for trace in named if every or color(trace) != GREY}
    seen: set[str] = set()
    made = []
    for panel in panels:
        traces = []
        for trace in panel.traces:
            name = trace.get("name")
            told = len(names) > 1 and name in names and name not in seen and bool(trace.get("x"))
            seen |= {str(name)} if told else set()
            traces.append({**trace, "showlegend": told} if "x" in trace else trace)
        # What is drawn last lies on top: of lines the best.
        order = {} if panel.layout.get("showlegend") else {"traceorder": "reversed"}
        legend = {**panel.layout.get("legend", {}), **order}
        made.append(replace(panel, traces=traces, layout={**panel.layout, "showlegend": len(names) > 1,
                                                          "legend": legend}))  # fmt: skip
    return made


def color(trace: Trace) -> str | None:
    """Of its lines, else of its markers."""
    own = (trace.get("line") if "lines" in trace.get("mode", "") else None) or trace.get("marker") or {}
    found = own.get("color")
    return found if isinstance(found, str) else None
