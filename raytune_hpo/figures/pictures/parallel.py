"""Parallel coordinates, which matplotlib has not: a line a trial, over an upright axis a parameter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from raytune_hpo.figures.panel import Trace, bounded
from raytune_hpo.figures.pictures.axes import FONT, fitting, read, wide

AXIS = "#8e98a4"
#: Behind a tick's text, which lines cross.
BOX = {"facecolor": (1, 1, 1, 0.75), "edgecolor": "none", "pad": 0.6}


def draw_parallel(axes: Any, trace: Trace, width: float) -> None:
    """trace: of plotly's parcoords, the best line first. width: inches of the figure."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    dimensions = trace["dimensions"]
    count = len(dimensions)
    heights = np.array([_heights(own, own["values"]) for own in dimensions])
    lines = [list(enumerate(own)) for own in heights.T.tolist()]
    colors = LinearSegmentedColormap.from_list("trials", [tuple(stop) for stop in trace["line"]["colorscale"]])
    share = np.clip(np.array(trace["line"]["color"], dtype=float), 0, 1)
    # The best are drawn last, a little thicker, and are seen through any number of others.
    best = np.arange(len(lines)) < max(1, min(20, len(lines) // 20))
    opacity = np.where(best, 0.95, min(0.8, max(0.05, 4 / math.sqrt(len(lines)))))
    widths = np.where(best, 1.5, 0.7)
    made = LineCollection(
        lines[::-1], colors=colors(share[::-1]), linewidths=widths[::-1], alpha=opacity[::-1], gid="trace 0"
    )
    axes.add_collection(made)
    room = width / count
    axes.set(xlim=(-0.35, count - 1 + 0.35), ylim=(-0.03, 1.03), yticks=[])
    names = [fitting(read(own["label"]), 2.2, FONT + 1) for own in dimensions]
    slanted = max(wide(name, FONT + 1) for name in names) > room
    axes.set_xticks(range(count), names)
    axes.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False, length=0, labelsize=FONT + 1)
    if slanted:
        for label in axes.get_xticklabels():
            label.set(rotation=20, ha="left", rotation_mode="anchor")
    for side in ("left", "bottom", "top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(False)
    for i, own in enumerate(dimensions):
        axes.plot([i, i], [0, 1], color=AXIS, linewidth=0.9, zorder=2.1)
        for height, text in _ticks(own):
            axes.plot([i], [height], color=AXIS, marker="_", markersize=5, markeredgewidth=0.8, zorder=2.1)
            shown, place = fitting(text, 0.95 * room, FONT), (i - 0.05 / room, height)
            axes.text(*place, shown, ha="right", va="center", fontsize=FONT, zorder=3, bbox=BOX)


def _heights(dimension: dict[str, Any], values: list[float]) -> list[float]:
    low, high = (bounded(end) for end in dimension["range"])
    span = high - low
    return [(bounded(value) - low) / span if span > 0 else 0.5 for value in values]


def _ticks(dimension: dict[str, Any]) -> list[tuple[float, str]]:
    """(height, text). Their texts are as they stand, of plotly's parallel coordinates."""
    from matplotlib.ticker import MaxNLocator

    if "tickvals" in dimension:
        places, texts = dimension["tickvals"], dimension["ticktext"]
    else:
        low, high = (bounded(end) for end in dimension["range"])
        places = [own for own in MaxNLocator(6).tick_values(low, high) if low <= own <= high]
        texts = [f"{own:.10g}" for own in places]
    return list(zip(_heights(dimension, places), texts, strict=True))
