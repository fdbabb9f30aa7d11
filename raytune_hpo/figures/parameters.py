"""Configs: all parameters side by side, each against the metric, and the space as it was narrowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_hpo.figures.panel import COLORS, GREY, SCALE, Axis, Panel, metric_axis, padded, short, text
from raytune_hpo.figures.scales import ABSENT, Scale, scales
from raytune_hpo.seeding import generator
from raytune_hpo.space.configs import Config

#: Points of a slice, and lines of parallel coordinates, at most. (Without a graphics card 10,000 take ten seconds.)
POINTS, LINES = 1200, 400
AXIS_WIDTH = 110  # pixels


def measured(facts: Mapping[str, Any]) -> list[tuple[dict[str, Any], Config]]:
    """(row, the config that gave its best value) of trials that may be the winner, the best first."""
    rows = [row for row in facts["trials"] if row["best"] is not None and row["status"] not in ("diverged", "failed")]
    rows.sort(key=lambda row: row["best"], reverse=facts["run"]["mode"] == "max")
    return [(row, row.get("best_config", row["config"])) for row in rows]


def parallel(facts: Mapping[str, Any]) -> list[Panel]:
    """One line a trial, LINES at most: the best, and evenly of the rest; customdata: their ids, in order."""
    trials = measured(facts)
    space, every = scales(facts["space"])
    if not trials or not every:
        return []
    count, chosen = len(trials), kept(len(trials), LINES)
    values = [space.values(trials[i][1]) for i in chosen]
    bests = [trials[i][0]["best"] for i in chosen]
    dimensions = [_dimension(scale, values) for scale in every]
    every_best = [row["best"] for row, _ in trials]
    ends = padded(min(every_best), max(every_best))
    dimensions.append({"label": text(short(facts["run"]["metric"])), "values": bests, "range": ends})
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        # By rank: a few that diverge would leave all others one colour.
        "line": {"color": [round(1 - i / count, 4) for i in chosen], "colorscale": SCALE, "cmin": 0, "cmax": 1},
        "customdata": [trials[i][0]["trial_id"] for i in chosen],
        "labelangle": -12 if len(dimensions) > 5 else 0,
        "unselected": {"line": {"opacity": 0.04, "color": GREY}},
    }
    room = max(60, 6 * len(short(facts["run"]["metric"])))  # for its label, which stands over the last axis
    layout = {"margin": {"l": 60, "r": room, "t": 70, "b": 24}}
    least = AXIS_WIDTH * len(dimensions)
    return [Panel("all", "all parameters", [trace], None, None, height=440, layout=layout, least_width=least)]


def places(facts: Mapping[str, Any]) -> list[list[float | None]]:
    """Of all trials, by the axes of `parallel`: where each crosses; None where it has no value."""
    space, every = scales(facts["space"])
    rows = facts["trials"]
    values = [space.values(row.get("best_config", row["config"])) for row in rows]
    found: list[list[float | None]] = [
        [round(scale.place(own[scale.path]), 6) if scale.path in own else ABSENT for own in values] for scale in every
    ]
    return [*found, [row["best"] for row in rows]]


def kept(count: int, most: int) -> list[int]:
    """Of so many, the best first, which are shown: the first quarter of `most`, and evenly of the rest."""
    if count <= most:
        return list(range(count))
    first, rest = most // 4, most - most // 4
    return [*range(first), *(first + i * (count - first) // rest for i in range(rest))]


def _dimension(scale: Scale, values: list[dict[str, Any]]) -> dict[str, Any]:
    own_places = [scale.place(own[scale.path]) if scale.path in own else ABSENT for own in values]
    ticks = scale.ticks
    absent = any(place == ABSENT for place in own_places)
    return {
        "label": text(short(scale.path)),
        "values": [round(place, 6) for place in own_places],
        "range": [ABSENT - 0.02 if absent else 0.0, 1.0],
        "tickvals": [*([ABSENT] if absent else []), *(place for place, _ in ticks)],
        # (Of parallel coordinates plotly shows these as they are.)
        "ticktext": [*(["not set"] if absent else []), *(label for _, label in ticks)],
    }


def slices(facts: Mapping[str, Any]) -> list[Panel]:
    """One panel a parameter, in its own scale; the best trials in colour."""
    trials = measured(facts)
    space, every = scales(facts["space"])
    if not trials:
        return []
    count = len(trials)
    shown = [trials[i] for i in kept(count, POINTS)]
    values = [space.values(config) for _, config in shown]
    metric = facts["run"]["metric"]
    y = metric_axis(metric, [row["best"] for row, _ in trials])
    top = max(1, min(20, count // 5))
    found = []
    for scale in every:
        there = [(i, row) for i, (row, _) in enumerate(shown) if scale.path in values[i]]
        traces = []
        for name, own, color, opacity in (
            ("others", [(i, row) for i, row in there if i >= top], GREY, 0.55),
            (f"the best {top}", [(i, row) for i, row in there if i < top], COLORS[5], 0.95),
        ):
            x = [scale.place(values[i][scale.path]) for i, _ in own]
            if scale.parameter.n is not None and scale.parameter.n <= 12:
                # Side by side within its cell: of a few values, many trials have the same.
                draws = generator(0, "slices", scale.path).random(len(x))
                x = [place + (draw - 0.5) * 0.5 / scale.parameter.n for place, draw in zip(x, draws, strict=True)]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": [round(place, 5) for place in x],
                    "y": [row["best"] for _, row in own],
                    "text": [f"{row['trial_id']}: {text(scale.shown(values[i][scale.path]))}" for i, row in own],
                    "marker": {"color": color, "size": 6, "opacity": opacity},
                    "hovertemplate": "%{text}<br>%{y:.5g}<extra></extra>",
                }
            )
        found.append(Panel(scale.path, scale.path, traces, _own_axis(scale), y, height=250))
    return found


def rounds(facts: Mapping[str, Any]) -> list[Panel]:
    """One panel a parameter: the part of its range that each round searched."""
    found = facts["rounds"]
    if not isinstance(found, list) or not found:
        return []
    _, every = scales(facts["space"])
    panels = []
    for scale in every:
        rows = [(own["round"], own["box"][scale.path]) for own in found if scale.path in own["box"]]
        if not rows:
            continue
        if scale.parameter.categories:
            spans = [(number, option, option) for number, options in rows for option in options]
        else:
            spans = [(number, side[0], side[-1]) for number, side in rows]
        n = scale.parameter.n
        half = 0.4 / n if n is not None and n <= 12 else 0.008
        x = [scale.place(low) - half for _, low, _ in spans]
        wide = [scale.place(high) + half - left for left, (_, _, high) in zip(x, spans, strict=True)]
        texts = [f"{scale.shown(low)} to {scale.shown(high)}" for _, low, high in spans]
        trace = {
            "type": "bar",
            "orientation": "h",
            "y": [f"round {number}" for number, _, _ in spans],
            "base": [round(left, 5) for left in x],
            "x": [round(own, 5) for own in wide],
            "text": [text(own) for own in texts],
            "textposition": "none",
            "marker": {"color": COLORS[0], "opacity": 0.8},
            "hovertemplate": "%{y}: %{text}<extra></extra>",
        }
        y = {"type": "category", "autorange": "reversed"}
        layout = {"barmode": "overlay"}
        panels.append(Panel(scale.path, scale.path, [trace], _own_axis(scale), y, height=180, layout=layout))
    return panels


def _own_axis(scale: Scale) -> Axis:
    ticks = scale.ticks
    return {
        "range": [-0.03, 1.03],
        "tickvals": [place for place, _ in ticks],
        "ticktext": [text(label) for _, label in ticks],
        "tickangle": 0 if sum(len(label) for _, label in ticks) < 40 else -35,
    }
