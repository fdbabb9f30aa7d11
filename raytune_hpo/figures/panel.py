"""A panel: traces on one pair of axes, as plotly's JSON."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raytune_hpo.printable import printable

#: Seen on a light and on a dark page, and told apart by those who do not see all colours (after Okabe & Ito 2008).
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a7fd1", "#b8a200")
GREY = "#8e98a4"
GOOD, BAD = "#009e73", "#d55e00"
#: From the worst to the best; neither end is near a page's own colour.
SCALE = [[0.0, "#7d8a9c"], [0.6, "#7d9cc0"], [0.85, "#56b4e9"], [0.95, "#e69f00"], [1.0, "#d55e00"]]
HEIGHT = 320  # pixels
#: As far as an axis goes: its ends are to have a finite difference.
WIDEST = 1e307

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
    """One figure of several panels, in rows of so many."""
    if len(panels) == 1:
        spec = panels[0].spec
        layout = {**spec["layout"], "title": {"text": text(title)}, "margin": {"l": 70, "r": 30, "t": 60, "b": 50}}
        return {"data": spec["data"], "layout": {**layout, "height": panels[0].height + 80}}
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    height = max(panel.height for panel in panels)
    layout = {
        "title": {"text": text(title)},
        "height": rows * (height + 70) + 60,
        "showlegend": False,
        "hovermode": "closest",
        "annotations": [],
    }
    gap_x, gap_y = 0.09, 0.35 / (rows + 0.35 * (rows - 1)) if rows > 1 else 0.0
    wide, high = (1 - gap_x * (columns - 1)) / columns, (1 - gap_y * (rows - 1)) / rows
    data: list[Trace] = []
    for i, panel in enumerate(panels):
        row, column = divmod(i, columns)
        left, top = column * (wide + gap_x), 1 - row * (high + gap_y)
        suffix = "" if i == 0 else str(i + 1)
        own = (
            {"domain": [left, min(left + wide, 1.0)], "anchor": f"y{suffix}"},
            {"domain": [max(top - high, 0.0), top], "anchor": f"x{suffix}"},
        )
        layout[f"xaxis{suffix}"], layout[f"yaxis{suffix}"] = (
            _axis(panel.x or {}) | own[0],
            _axis(panel.y or {}) | own[1],
        )
        place = {"xref": "paper", "yref": "paper", "x": left + wide / 2, "y": top, "xanchor": "center"}
        layout["annotations"].append({**place, "yanchor": "bottom", "showarrow": False, "text": text(panel.title)})
        data += [{**trace, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"} for trace in panel.traces]
        layout |= {key: value for key, value in panel.layout.items() if key in ("barmode", "bargap")}
    return {"data": data, "layout": layout}


def _axis(own: Axis) -> Axis:
    return {"automargin": True, "zeroline": False, **own}


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


def padded(low: float, high: float) -> list[float]:
    low, high = (min(max(end, -WIDEST), WIDEST) for end in (low, high))
    room = 0.05 * (high - low) or max(abs(high) * 0.05, 1e-6)
    return [low - room, high + room]
