"""Legends for panels that are drawn once and for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from raytune_hpo.figures.panel import GREY, Panel, Trace


def with_legends(panels: Sequence[Panel]) -> list[Panel]:
    """The panels with `showlegend` in each trace and each layout, as far as they have not said so themselves. A name
    stands once in a figure, and where there is but one it tells nothing."""
    named = [trace for panel in panels for trace in panel.traces if trace.get("name") and trace.get("x")]
    if any(panel.layout.get("showlegend") for panel in panels):
        names = {trace["name"] for trace in named if trace.get("showlegend", True)}
        order = {}
    else:
        names = {trace["name"] for trace in named}
        order = {"traceorder": "reversed"}  # what is drawn last lies on top: the best
    seen: set[str] = set()
    made = []
    for panel in panels:
        traces = []
        for trace in panel.traces:
            name = trace.get("name")
            told = len(names) > 1 and name in names and name not in seen and bool(trace.get("x"))
            seen |= {str(name)} if told else set()
            marks = told and not isinstance(trace.get("marker", {}).get("symbol", ""), str)
            traces.append({**trace, "showlegend": told and not marks} if "x" in trace else trace)
            traces += [_key(trace)] if marks else []
        legend = {**panel.layout.get("legend", {}), **order}
        layout = {**panel.layout, "showlegend": len(names) > 1, "legend": legend}
        made.append(replace(panel, traces=traces, layout=layout))
    if len(names) > 1 and any("circle-open" in symbols for symbols in _symbols(panels)):
        opened = {"name": "stopped early", "marker": {"color": GREY, "size": 6, "symbol": "circle-open"}}
        made[0].traces.insert(0, {**NOWHERE, **opened})
    return made


#: A trace that is seen in the legend alone.
NOWHERE = {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "showlegend": True}


def _key(trace: Trace) -> Trace:
    """What stands in the legend for points of several marks: a point, or the one mark that they all have."""
    symbols = set(trace["marker"]["symbol"])
    symbol = symbols.pop() if len(symbols) == 1 and symbols != {"circle-open"} else "circle"
    return {**NOWHERE, "name": trace["name"], "marker": {**trace["marker"], "symbol": symbol}}


def _symbols(panels: Sequence[Panel]) -> Iterator[Sequence[str]]:
    for panel in panels:
        for trace in panel.traces:
            yield trace.get("marker", {}).get("symbol", "")
