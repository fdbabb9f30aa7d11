"""Axes of a panel as matplotlib's."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from raytune_hpo.figures.panel import Axis, Panel, bounded

#: Of a letter, as a share of the font's size.
LETTER, WIDE_LETTER = 0.58, 1.0
POINT = 1 / 72  # inches
FONT = 8.0  # points, of ticks
DECADES = 200.0  # of an axis of logarithms: matplotlib's ticks go beyond its ends


def read(text: Any) -> str:
    """What `panel.text` has escaped for plotly, as it was. No control character is in it."""
    return html.unescape(str(text))


def wide(text: str, points: float) -> float:
    """About so many inches."""
    letters = sum(WIDE_LETTER if unicodedata.east_asian_width(own) in "WF" else LETTER for own in text)
    return letters * points * POINT


def fitting(own: str, inches: float, points: float) -> str:
    """A text as it is, cut where there is no more room."""
    if wide(own, points) <= inches:
        return own
    while len(own) > 8 and wide(own, points) > inches:
        own = own[: max(8, int(len(own) * 0.95))]
    return own + "…"


def title_of(axis: Axis | None) -> str:
    return str(((axis or {}).get("title") or {}).get("text", ""))


def dress(
    axes: Any, panel: Panel, places: Mapping[str, Mapping[str, float]], room: tuple[float, float],
    titles: tuple[bool, bool],
) -> None:  # fmt: skip
    """Ranges, ticks and titles. places: of the categories of each side. room: inches of the axes. titles: whether to
    show that of x and of y."""
    for side, own, inches, shown in zip("xy", (panel.x or {}, panel.y or {}), room, titles, strict=True):
        if places[side]:
            _categories(axes, side, places[side], inches, room[0])
        else:
            whole = all(type(value) is int for trace in panel.traces for value in trace[side] if value is not None)
            _numbers(axes, side, own, inches, whole=whole)
        if own.get("autorange") == "reversed":
            (axes.invert_xaxis if side == "x" else axes.invert_yaxis)()
        if not own.get("showticklabels", True):
            axes.tick_params(axis=side, labelleft=False, labelbottom=False)
        if shown and title_of(own):
            (axes.set_xlabel if side == "x" else axes.set_ylabel)(fitting(read(title_of(own)), inches, FONT + 1))
    # Lines between categories would part what is one; where there are names instead of numbers they lead the eye.
    axes.grid(not places["x"], axis="x")
    axes.grid(not places["y"], axis="y")
    axes.tick_params(labelsize=FONT, length=3, width=0.6)


def _categories(axes: Any, side: str, places: Mapping[str, float], inches: float, across: float) -> None:
    names = [read(name) for name in places]
    if side == "y":
        every = max(1, math.ceil(len(names) * 0.16 / inches))
        shown = [fitting(name, min(2.4, 0.45 * across), FONT) for name in names]
    else:
        every = max(1, math.ceil(sum(wide(name, FONT) + 0.1 for name in names) / inches))
        shown = [fitting(name, inches / 2, FONT) for name in names]
    _set_ticks(axes, side, list(places.values())[::every], shown[::every])
    (axes.set_xlim if side == "x" else axes.set_ylim)(-0.6, len(names) - 0.4)


def _numbers(axes: Any, side: str, own: Axis, inches: float, *, whole: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter, ScalarFormatter

    axis = axes.xaxis if side == "x" else axes.yaxis
    limit = axes.set_xlim if side == "x" else axes.set_ylim
    logarithmic = own.get("type") == "log"
    ends = own.get("range")
    if ends is not None and ends[0] < ends[1]:
        low, high = (10.0 ** min(max(end, -DECADES), DECADES) if logarithmic else bounded(end) for end in ends)
        limit(low, high)
    elif own.get("rangemode") == "tozero":
        low, high = axes.get_xlim() if side == "x" else axes.get_ylim()
        limit(min(low, 0.0) if low < -0.05 * high else -0.02 * high, high)
    if logarithmic:
        (axes.set_xscale if side == "x" else axes.set_yscale)("log")
    if "tickvals" in own:
        _own_ticks(axes, side, own, inches)
        return
    if logarithmic:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    elif str(own.get("tickformat", "")).endswith("%"):
        axis.set_major_locator(MaxNLocator(max(2, int(inches / 0.6))))
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    else:
        most = max(2, min(9, int(inches / (0.55 if side == "x" else 0.35))))
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10], integer=whole))
        axis.set_major_formatter(ScalarFormatter(useOffset=False))


def _own_ticks(axes: Any, side: str, own: Axis, inches: float) -> None:
    places, texts = list(own["tickvals"]), [read(text) for text in own["ticktext"]]
    if side == "y":
        _set_ticks(axes, side, places, [fitting(text, 1.5, FONT) for text in texts])
        return
    needed = sum(wide(text, FONT) + 0.08 for text in texts)
    if needed <= inches:
        _set_ticks(axes, side, places, texts)
        return
    _set_ticks(axes, side, places, [fitting(text, 1.2, FONT) for text in texts])
    for label in axes.get_xticklabels():
        label.set(rotation=35, ha="right", rotation_mode="anchor")


def _set_ticks(axes: Any, side: str, places: Sequence[float], texts: Sequence[str]) -> None:
    (axes.set_xticks if side == "x" else axes.set_yticks)(places, texts)
