"""How the run went on: the best value so far; how many trials came how far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_hpo.figures.panel import BAD, COLORS, GOOD, GREY, Panel, metric_axis, titled


def best(facts: Mapping[str, Any]) -> list[Panel]:
    metric, found = facts["run"]["metric"], []
    ends = {"trials": facts["cost"]["trials"], "seconds": facts["cost"]["wall_s"]}
    titles = {"trials": "trials", "seconds": "seconds of running"}
    for over, steps in facts["best_so_far"].items():
        if not steps:
            continue
        x, y = [step[over] for step in steps], [step["value"] for step in steps]
        x, y = [*x, max(ends[over], x[-1])], [*y, y[-1]]
        names = [step["trial"] for step in steps]
        along = titled(titles[over], range=[0, 1.02 * x[-1]])
        trace = {
            "type": "scatter",
            "x": x,
            "y": y,
            "text": [*names, names[-1]],
            "mode": "lines+markers",
            "line": {"shape": "hv", "color": COLORS[0], "width": 2.5},
            "marker": {"size": 5, "color": COLORS[0]},
            "hovertemplate": f"%{{text}}: %{{y:.5g}} after %{{x:.5g}} {over}<extra></extra>",
        }
        found.append(
            Panel(
                over,
                f"over {titles[over]}",
                [trace],
                along,
                metric_axis(metric, y),
            )
        )
    return found


def rungs(facts: Mapping[str, Any]) -> list[Panel]:
    found = facts["rungs"]
    if len(found) < 2:  # all went as far
        return []
    epochs = [str(rung["epoch"]) for rung in found]
    parts = [
        ("went on", [rung["reached"] - rung["last"] for rung in found], COLORS[0]),
        ("stopped early", [rung["stopped"] for rung in found], COLORS[1]),
        ("completed", [rung["completed"] for rung in found], GOOD),
        ("failed or diverged", [rung["failed"] for rung in found], BAD),
        ("not ended, or by the end of the run", [_open(rung) for rung in found], GREY),
    ]
    traces = [
        {
            "type": "bar",
            "x": epochs,
            "y": counts,
            "name": name,
            "marker": {"color": color},
            "hovertemplate": f"epoch %{{x}}: %{{y}} {name}<extra></extra>",
        }
        for name, counts, color in parts
        if any(counts)
    ]
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    layout: dict[str, Any] = {"barmode": "stack", "showlegend": True, "legend": legend}
    layout["margin"] = {"l": 60, "r": 16, "t": 40, "b": 44}
    return [Panel("all", "trials by epoch", traces, titled("epoch", type="category"), titled("trials"), layout=layout)]


def _open(rung: Mapping[str, int]) -> int:
    return rung["last"] - rung["stopped"] - rung["completed"] - rung["failed"]
