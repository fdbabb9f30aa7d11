"""Traces of a panel as matplotlib draws them. What it draws for one has the gid "trace N": it can be read back."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raytune_hpo.figures.panel import COLORS, Axis, Panel, Trace, bounded

POINTS = 0.72  # of a pixel of a panel's
BAR = 0.8  # of a category's room

Places = dict[str, dict[str, float]]


def draw_traces(axes: Any, panel: Panel) -> Places:
    """Answers where the categories of each side stand; none of an axis of numbers."""
    places = {side: _places(side, own or {}, panel.traces) for side, own in (("x", panel.x), ("y", panel.y))}
    stacked: dict[float, float] = {}
    for i, trace in enumerate(panel.traces):
        if trace["type"] == "bar":
            _bars(axes, trace, places, panel, stacked, i)
        else:
            _points(axes, trace, i)
    return places


def _places(side: str, axis: Axis, traces: Sequence[Trace]) -> dict[str, float]:
    names = [str(own) for trace in traces for own in trace[side]] if axis.get("type") == "category" else []
    order = [str(own) for own in axis.get("categoryarray", ())]
    every = dict.fromkeys([*(name for name in order if name in set(names)), *names])
    return {name: float(i) for i, name in enumerate(every)}


def _points(axes: Any, trace: Trace, i: int) -> None:
    mode, line, marker = trace["mode"], trace.get("line", {}), trace.get("marker", {})
    x, y, symbols = _numbers(trace["x"]), _numbers(trace["y"]), marker.get("symbol", "circle")
    groups = [(symbols, slice(None))] if isinstance(symbols, str) else _groups(symbols)
    for symbol, own in groups:
        axes.plot(
            x[own],
            y[own],
            color=(line if "lines" in mode else marker).get("color", COLORS[0]),
            linewidth=line.get("width", 2) * POINTS if "lines" in mode else 0,
            drawstyle="steps-post" if line.get("shape") == "hv" else "default",
            **(_mark(symbol, marker.get("size", 6)) if "markers" in mode else {}),
            alpha=trace.get("opacity", 1) * (marker.get("opacity", 1) if mode == "markers" else 1),
            solid_joinstyle="round",
            clip_on=trace.get("cliponaxis", True),
            gid=f"trace {i}",
            zorder=2 + i * 1e-4,
        )


def _groups(symbols: Sequence[str]) -> list[tuple[str, Any]]:
    """(symbol, where it stands)."""
    return [(own, np.array([symbol == own for symbol in symbols])) for own in dict.fromkeys(symbols)]


def _mark(symbol: str, size: float) -> dict[str, Any]:
    """plotly's name of a mark, and its pixels, as matplotlib's."""
    own = {"marker": "x" if symbol.startswith("x") else "o", "markersize": size * POINTS}
    if symbol == "circle":
        return {**own, "markeredgewidth": 0}
    return {**own, "markeredgewidth": 0.8, "fillstyle": "none" if symbol.endswith("-open") else "full"}


def _bars(axes: Any, trace: Trace, places: Places, panel: Panel, stacked: dict[float, float], i: int) -> None:
    """Of any number one collection: a timeline has thousands."""
    from matplotlib.collections import PolyCollection

    lying = trace.get("orientation") == "h"
    along, across = ("x", "y") if lying else ("y", "x")
    bars = []
    for name, own, base in zip(
        trace[across], _numbers(trace[along]), trace.get("base", itertools.repeat(0.0)), strict=False
    ):
        if math.isnan(own):
            continue
        place = places[across][str(name)]
        if panel.layout.get("barmode") == "stack":
            base = stacked.get(place, 0.0)  # noqa: PLW2901
            stacked[place] = base + own
        half = BAR / 2
        corners = [(base, place - half), (base, place + half), (base + own, place + half), (base + own, place - half)]
        bars.append(corners if lying else [(y, x) for x, y in corners])
    color, opacity = trace["marker"]["color"], trace["marker"].get("opacity", 1)
    # Also where there is no bar: the trace is then one of none.
    made = PolyCollection(
        bars, facecolors=color, edgecolors=_edge(trace), linewidths=0.3, alpha=opacity, gid=f"trace {i}"
    )
    axes.add_collection(made)
    if not lying:
        axes.set_ylim(0, 1.05 * max([axes.get_ylim()[1] / 1.05 if stacked else 0, *stacked.values(), 1e-9]))
    else:
        axes.autoscale_view(scaley=False)
    error = trace.get("error_x")
    if error is not None:
        there = [
            (x, places["y"][str(y)], e)
            for x, y, e in zip(_numbers(trace["x"]), trace["y"], error["array"], strict=True)
        ]
        x, y, e = (np.array(own) for own in zip(*there, strict=True))
        axes.errorbar(x, y, xerr=e, fmt="none", ecolor=error["color"], elinewidth=error["thickness"], capsize=2.5)


def _edge(trace: Trace) -> tuple[float, ...] | str:
    """CSS's rgba(...) as matplotlib's."""
    color = trace["marker"].get("line", {}).get("color", "none")
    found = re.fullmatch(r"rgba\((\d+),(\d+),(\d+),([\d.]+)\)", color)
    return color if found is None else (*(int(own) / 255 for own in found.groups()[:3]), float(found[4]))


def _numbers(values: Sequence[Any]) -> Any:
    return np.array([math.nan if value is None else bounded(float(value)) for value in values])


def key(trace: Mapping[str, Any]) -> Any:
    """What stands for a trace in a legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if trace["type"] == "bar":
        return Patch(facecolor=trace["marker"]["color"])
    lines = "lines" in trace["mode"]
    own = trace["line"] if lines else trace["marker"]
    mark = {} if lines else _mark(own.get("symbol", "circle"), own.get("size", 6))
    return Line2D([], [], color=own["color"], linewidth=own.get("width", 2) * POINTS if lines else 0, **mark)
