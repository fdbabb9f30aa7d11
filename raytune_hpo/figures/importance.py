"""Which parameters mattered: by a forest over all the space, and by PED-ANOVA where the best trials are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_hpo.figures.panel import COLORS, GREY, Panel, short, text, titled


def importance(facts: Mapping[str, Any]) -> list[Panel]:
    found = facts["importance"]
    ours = {entry["name"]: entry for entry in found["parameters"]}
    theirs = found["ped_anova"]["parameters"]
    panels = []
    if ours:
        names = list(ours)
        errors = {"type": "data", "array": [ours[name]["deviation"] for name in names], "thickness": 1.2, "color": GREY}
        panels.append(_bars("forest", "over all the space (forest)", names, [ours[n]["share"] for n in names], errors))
    if theirs:
        names = list(ours) or list(theirs)
        names += [name for name in theirs if name not in names]
        bars = _bars("ped_anova", "among the best (PED-ANOVA)", names, [theirs.get(name) for name in names], None)
        panels.append(bars)
    return panels


def _bars(name: str, title: str, names: list[str], shares: list[float | None], errors: dict[str, Any] | None) -> Panel:
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": _labels(names),
        "x": shares,
        "text": [text(own) for own in names],
        "textposition": "none",
        "marker": {"color": COLORS[0] if name == "forest" else COLORS[1]},
        "hovertemplate": "%{text}: %{x:.1%}<extra></extra>",
    }
    if errors is not None:
        trace["error_x"] = errors
    y = {"type": "category", "autorange": "reversed"}
    height = max(160, 70 + 26 * len(names))
    return Panel(name, title, [trace], titled("share", tickformat=".0%", rangemode="tozero"), y, height=height)


def _labels(names: list[str]) -> list[str]:
    """The names, short, and told apart where they are the same as far as they are shown."""
    found: list[str] = []
    for name in names:
        label = short(name, 32)
        same = sum(own.startswith(label) for own in found)
        found.append(f"{label} ({same + 1})" if label in found else label)
    return [text(label) for label in found]
