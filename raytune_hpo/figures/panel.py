"""A panel: traces on one pair of axes, as plotly's JSON."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raytune_hpo.printable import printable

#: Seen on a light and on a dark page, and told apart by those who do not see all colours (after Okabe & Ito 2008).
COLORS = ("#1c86c9", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a7fd1", "#b8a200")
GREY = "#8e98a4"
GOOD, BAD = "#009e73", "#d55e00"
#: From the worst to the best; neither end is near a page's own colour.
SCALE = [[0.0, "#7d8a9c"], [0.6, "#7d9cc0"], [0.85, "#56b4e9"], [0.95, "#e69f00"], [1.0, "#d55e00"]]
HEIGHT = 320  # pixels
TEMPLATE = "plotly_white"  # of a figure that stands by itself; a page has colours of its own
#: An axis takes differences of its numbers: of the largest that there are they would be infinite.
LARGEST = 1e300
#: Of a composed figure: pixels of its title, of its legend, and across; letters of a panel's name.
TITLE, LEGEND, WIDTH, NAME = 44, 28, 1000, 40

Trace = dict[str, Any]
Axis = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """name: within its kind. x, y: axes of plotly's, None where the traces have their own place (parallel
    coordinates). layout: what else the figure is told. height, least_width: pixels."""

    name: str
    title: str
    traces: list[Trace]
    x: Axis | None = field(default_factory=dict)
    y: Axis | None = field(default_factory=dict)
    height: int = HEIGHT
    layout: dict[str, Any] = field(default_factory=dict)
    least_width: int = 0

    def with_range(self, side: str, ends: list[float]) -> Panel:
        """side: "x" or "y"."""
        if side == "x":
            return replace(self, x={**(self.x or {}), "range": ends})
        return replace(self, y={**(self.y or {}), "range": ends})

    @property
    def spec(self) -> dict[str, Any]:
        """Of this panel alone, its title left to the page."""
        layout: dict[str, Any] = {"height": self.height, "showlegend": False, "hovermode": "closest", **self.layout}
        layout.setdefault("margin", {"l": 60, "r": 16, "t": 12, "b": 44})
        if self.x is not None and self.y is not None:
            layout |= {"xaxis": _axis(self.x), "yaxis": _axis(self.y)}
        return {"data": self.traces, "layout": layout}


def composed(panels: Sequence[Panel], title: str, columns: int = 3) -> dict[str, Any]:
    """One figure of several panels, in rows of so many; its title, and its legend if it has one, stand above them."""
    title = headline(panels, title)
    legend = next((panel.layout.get("legend", {}) for panel in panels if panel.layout.get("showlegend")), None)
    top = TITLE if legend is None else TITLE + LEGEND
    if len(panels) == 1:
        spec = panels[0].spec
        margin = spec["layout"]["margin"]
        height = panels[0].height + top
        own: dict[str, Any] = {
            "height": height,
            "margin": {**margin, "l": margin["l"] + 10, "r": margin["r"] + 10, "t": top + 16},
        }
        if panels[0].x is None:  # its own names stand above it
            own["margin"]["t"] += margin["t"]
            own["width"] = max(WIDTH, panels[0].least_width)
        return {"data": spec["data"], "layout": {**spec["layout"], **own, **_head(title, legend, height)}}
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    # Pixels from a row to the next: ticks, a title, the next panel's name.
    between = 140 if any((panel.x or {}).get("tickangle") for panel in panels) else 70
    inner = rows * max(panel.height for panel in panels) + (rows - 1) * between
    height = inner + top + 40 + between
    layout = {
        "height": height,
        "margin": {"l": 70, "r": 26, "t": top + 40, "b": between},
        "showlegend": False,
        "hovermode": "closest",
        "annotations": [],
        **_head(title, legend, height),
    }
    gap_x, gap_y = 0.09, between / inner
    wide, high = (1 - gap_x * (columns - 1)) / columns, (1 - gap_y * (rows - 1)) / rows
    data: list[Trace] = []
    for i, panel in enumerate(panels):
        row, column = divmod(i, columns)
        left, up = column * (wide + gap_x), 1 - row * (high + gap_y)
        suffix = "" if i == 0 else str(i + 1)
        place = {
            "x": {"domain": [left, min(left + wide, 1.0)], "anchor": f"y{suffix}"},
            "y": {"domain": [max(up - high, 0.0), up], "anchor": f"x{suffix}"},
        }
        for side, axis in (("x", panel.x), ("y", panel.y)):
            layout[f"{side}axis{suffix}"] = _axis(axis or {}) | place[side]
        above = {"xref": "paper", "yref": "paper", "x": left + wide / 2, "y": up, "xanchor": "center"}
        name = {"text": text(short(panel.title, NAME)), "yanchor": "bottom", "showarrow": False}
        layout["annotations"].append({**above, **name})
        data += [{**trace, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"} for trace in panel.traces]
        layout |= {key: value for key, value in panel.layout.items() if key in ("barmode", "bargap")}
    return {"data": data, "layout": layout}


def headline(panels: Sequence[Panel], title: str) -> str:
    """The title of a figure; a panel that has no others beside it stands under it without a name of its own."""
    alone = panels[0] if len(panels) == 1 else None
    return title if alone is None or alone.name == "all" else f"{title}, {short(alone.title, NAME)}"


def _head(title: str, legend: Axis | None, height: int) -> dict[str, Any]:
    """Of a layout: the title, and below it the legend, at the figure's upper edge."""
    place = {"x": 0, "xref": "paper", "xanchor": "left", "yref": "container"}
    head: dict[str, Any] = {"title": {"text": text(title), "y": 1 - 14 / height, "yanchor": "top", **place}}
    if legend is not None:
        below = {"orientation": "h", "y": 1 - TITLE / height, "yanchor": "top", **place}
        head |= {"showlegend": True, "legend": {"traceorder": "normal", **legend, **below}}
    return head


def _axis(own: Axis) -> Axis:
    apart = {"ticks": "outside", "ticklen": 4, "tickcolor": "rgba(0,0,0,0)"}  # labels from the axis
    return {"automargin": True, "zeroline": False, **apart, **own}


def text(own: Any) -> str:
    """What plotly shows as it stands: it reads some tags."""
    return html.escape(printable(str(own)), quote=False)


def short(own: str, most: int = 24) -> str:
    """The same, of a name that may be longer than there is room for."""
    return own if len(own) <= most else own[: most - 1] + "…"


def titled(title: str, **more: Any) -> Axis:
    return {"title": {"text": text(title)}, **more}


def metric_axis(metric: str, values: Sequence[float | None], **more: Any) -> Axis:
    """An axis of the objective: logarithmic where it is positive and goes over more than two decades; what lies far
    away from most values is out of sight until somebody zooms out."""
    sound = sorted(value for value in values if value is not None and math.isfinite(value))
    axis = titled(metric, **more)
    if not sound:
        return axis
    low, high = sound[0], sound[-1]
    if low > 0 and high / low > 100:
        return {**axis, "type": "log", "range": padded(math.log10(low), math.log10(high))}
    tenth, nine_tenths = sound[len(sound) // 10], sound[-1 - len(sound) // 10]
    far = 3 * (nine_tenths - tenth)
    if far > 0:
        low, high = max(low, tenth - far), min(high, nine_tenths + far)
    return {**axis, "range": padded(low, high)}


def bounded(value: float) -> float:
    return min(max(value, -LARGEST), LARGEST)


def padded(low: float, high: float) -> list[float]:
    room = 0.05 * high - 0.05 * low or max(abs(high) * 0.05, 1e-6)
    return [bounded(low - room), bounded(high + room)]
