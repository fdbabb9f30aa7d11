"""What each worker did, and when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from raytune_hpo.figures.panel import COLORS, GREY, Axis, Panel, text, titled

TRAINING = "training"
WIDE = 700  # pixels that the names of all phases need
PHASES = (*COLORS[1:], GREY, "#3f6f8f", "#a0522d", "#2e8b57", "#b05d8f")


def timeline(facts: Mapping[str, Any]) -> list[Panel]:
    workers = [worker for worker in facts["timeline"]["workers"] if worker["spans"]]
    if not workers:
        return []
    by_what: dict[str, list[tuple[str, float, float, Any]]] = defaultdict(list)
    for worker in workers:
        for began, ended, what, trials in worker["spans"]:
            by_what[what].append((worker["worker"], began, ended - began, trials))
    others = [what for what in by_what if what != TRAINING]
    traces = []
    for what in [TRAINING, *others]:
        spans = by_what.get(what, [])
        color = COLORS[0] if what == TRAINING else PHASES[others.index(what) % len(PHASES)]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": text(what),
                "y": [text(name) for name, *_ in spans],
                "base": [round(began, 3) for _, began, *_ in spans],
                "x": [round(took, 3) for _, _, took, _ in spans],
                "text": [_told(trials) for *_, trials in spans],
                "textposition": "none",
                "marker": {"color": color, "line": {"width": 0.3, "color": "rgba(255,255,255,0.5)"}},
                "hovertemplate": "%{y}: %{fullData.name} %{text}<br>%{x:.3g} s from %{base:.4g} s<extra></extra>",
            }
        )
    names = [text(worker["worker"]) for worker in workers]
    y: Axis = {"type": "category", "categoryorder": "array", "categoryarray": names[::-1]}
    if len(names) > 40:
        y["showticklabels"] = False
    layout = {
        "barmode": "overlay",
        "bargap": 0.25,
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 60, "r": 16, "t": 60, "b": 44},
    }
    height = min(900, max(180, 130 + 30 * len(workers)))
    x = titled("seconds of running", range=[0, 1.01 * facts["timeline"]["wall_s"]])
    drawn = [trace for trace in traces if trace["x"]]
    return [Panel("all", "workers", drawn, x, y, height, layout, least_width=WIDE)]


def _told(trials: Any) -> str:
    return "" if trials is None else f"{trials} trials" if isinstance(trials, int) else str(trials)
