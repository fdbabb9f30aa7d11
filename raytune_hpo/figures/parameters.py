"""Configs: all parameters side by side, each against the metric, and the space as it was narrowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_hpo.figures import ticks
from raytune_hpo.figures.panel import BAD, COLORS, GREY, SCALE, Axis, Panel, bounded, metric_axis, padded, short, text
from raytune_hpo.figures.scales import ABSENT, Scale, scales
from raytune_hpo.seeding import generator
from raytune_hpo.space.configs import Config

#: Points of a slice, and lines of parallel coordinates, at most. (Without a graphics card 10,000 take ten seconds.)
POINTS, LINES = 1200, 400
AXIS_WIDTH = 110  # pixels
BADLY = ("failed", "diverged")


def measured(facts: Mapping[str, Any]) -> list[tuple[dict[str, Any], Config]]:
    """(row, the config that gave its best value) of trials that may be the winner, the best first."""
    rows = [row for row in facts["trials"] if row["best"] is not None and row["status"] not in BADLY]
    rows.sort(key=lambda row: row["best"], reverse=facts["run"]["mode"] == "max")
    return [(row, row.get("best_config", row["config"])) for row in rows]


def ended_badly(facts: Mapping[str, Any]) -> list[tuple[dict[str, Any], Config]]:
    """The others that have ended: they failed or diverged."""
    return [(row, row["config"]) for row in facts["trials"] if row["status"] in BADLY]


def parallel(facts: Mapping[str, Any]) -> list[Panel]:
    """One line a trial, LINES at most: the best, and evenly of the rest; customdata: their ids, in order. The metric's
    axis is the first; below it stand those that failed or diverged."""
    trials = measured(facts)
    space, every = scales(facts["space"])
    if not trials or not every:
        return []
    count, chosen = len(trials), kept(len(trials), LINES)
    bad = ended_badly(facts)
    bad = [bad[i] for i in kept(len(bad), LINES // 4)]
    values = [space.values(config) for _, config in [*(trials[i] for i in chosen), *bad]]
    low, high, worse = metric_ends(facts)
    metric = {
        "label": text(short(facts["run"]["metric"])),
        "values": [*(min(max(trials[i][0]["best"], low), high) for i in chosen), *(worse for _ in bad)],
        "range": [min(low, worse), max(high, worse)],
        **_metric_ticks(low, high, worse if bad else None),
    }
    trace = {
        "type": "parcoords",
        "dimensions": [metric, *(_dimension(scale, values) for scale in every)],
        # By rank: a few that are far behind would leave all others one colour.
        "line": {
            "color": [*(round(1 - i / count, 4) for i in chosen), *(0.0 for _ in bad)],
            "colorscale": SCALE,
            "cmin": 0,
            "cmax": 1,
        },
        "customdata": [*(trials[i][0]["trial_id"] for i in chosen), *(row["trial_id"] for row, _ in bad)],
        "labelangle": -12 if len(every) > 4 else 0,
        "rangefont": {"color": "rgba(0,0,0,0)"},  # ticks say it
        "unselected": {"line": {"opacity": 0.04, "color": GREY}},
    }
    room = max(60, 6 * len(short(every[-1].path)))  # for the last label, which begins over its axis
    layout = {"margin": {"l": 70, "r": room, "t": 70, "b": 24}}
    least = AXIS_WIDTH * (len(every) + 1)
    return [Panel("all", "all parameters", [trace], None, None, height=440, layout=layout, least_width=least)]


def metric_ends(facts: Mapping[str, Any]) -> tuple[float, float, float]:
    """The ends of the metric's axis, where lines stand that go beyond; and the place, behind the worst, of those that
    ended badly."""
    bests = [row["best"] for row, _ in measured(facts)]
    axis = metric_axis("", bests)
    low, high = bounded(min(bests)), bounded(max(bests))
    if axis.get("type") != "log":
        low, high = max(low, axis["range"][0]), min(high, axis["range"][1])
    if low == high:
        low, high = padded(low, high)
    beyond = 0.12 * (high - low)
    return low, high, low - beyond if facts["run"]["mode"] == "max" else high + beyond


def _metric_ticks(low: float, high: float, worse: float | None) -> dict[str, Any]:
    values = ticks.linear(low, high)
    own, shown = list(values), [f"{value:.4g}" for value in values]
    if worse is not None:
        own, shown = [*own, worse], [*shown, "failed"]
    return {"tickvals": own, "ticktext": shown}


def places(facts: Mapping[str, Any]) -> list[list[float | None]]:
    """Of all trials, by the axes of `parallel`: where each crosses; None where it has no value."""
    space, every = scales(facts["space"])
    rows = facts["trials"]
    if not measured(facts):
        return []
    low, high, worse = metric_ends(facts)
    values = [space.values(row.get("best_config", row["config"])) for row in rows]
    first: list[float | None] = [
        worse if row["status"] in BADLY else None if row["best"] is None else min(max(row["best"], low), high)
        for row in rows
    ]
    others: list[list[float | None]] = [
        [round(scale.place(own[scale.path]), 6) if scale.path in own else ABSENT for own in values] for scale in every
    ]
    return [first, *others]


def kept(count: int, most: int) -> list[int]:
    """Of so many, the best first, which are shown: the first quarter of `most`, and evenly of the rest."""
    if count <= most:
        return list(range(count))
    first, rest = most // 4, most - most // 4
    return [*range(first), *(first + i * (count - first) // rest for i in range(rest))]


def _dimension(scale: Scale, values: list[dict[str, Any]]) -> dict[str, Any]:
    own_places = [scale.place(own[scale.path]) if scale.path in own else ABSENT for own in values]
    marks = scale.ticks
    absent = any(place == ABSENT for place in own_places)
    return {
        "label": text(short(scale.path)),
        "values": [round(place, 6) for place in own_places],
        "range": [ABSENT - 0.02 if absent else 0.0, 1.0],
        "tickvals": [*([ABSENT] if absent else []), *(place for place, _ in marks)],
        # (Of parallel coordinates plotly shows these as they are.)
        "ticktext": [*(["not set"] if absent else []), *(label for _, label in marks)],
    }


def slices(facts: Mapping[str, Any]) -> list[Panel]:
    """One panel a parameter, in its own scale: the best trials in colour, those that were stopped early open, and those
    that ended badly as crosses at the edge of the worst."""
    trials = measured(facts)
    space, every = scales(facts["space"])
    if not trials:
        return []
    count = len(trials)
    chosen, bad = kept(count, POINTS), ended_badly(facts)
    bad = [bad[i] for i in kept(len(bad), POINTS // 4)]
    top = max(1, min(20, count // 5))
    y = metric_axis(facts["run"]["metric"], [row["best"] for row, _ in trials])
    edge = y["range"][0 if facts["run"]["mode"] == "max" else 1]
    edge = 10**edge if y.get("type") == "log" else edge
    groups: list[tuple[str, list[tuple[dict[str, Any], Config]], str, float]] = [
        ("failed or diverged", bad, BAD, 0.8),
        ("others", [trials[i] for i in chosen if i >= top], GREY, 0.6),
        (f"the best {top}", [trials[i] for i in chosen if i < top], COLORS[1], 1.0),
    ]
    found = []
    for scale in every:
        traces = []
        for name, group, color, opacity in groups:
            there = [(row, own) for row, config in group if scale.path in (own := space.values(config))]
            x = [scale.place(own[scale.path]) for _, own in there]
            if scale.parameter.n is not None and scale.parameter.n <= 12:
                # Side by side within its cell: of a few values, many trials have the same.
                draws = generator(0, "slices", scale.path, name).random(len(x))
                x = [place + (draw - 0.5) * 0.5 / scale.parameter.n for place, draw in zip(x, draws, strict=True)]
            shown = [text(scale.shown(own[scale.path])) for _, own in there]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": [round(place, 5) for place in x],
                    "y": [edge if group is bad else row["best"] for row, _ in there],
                    "text": [
                        f"{row['trial_id']}, {row['status']} at epoch {row['epochs']}: {value}"
                        for (row, _), value in zip(there, shown, strict=True)
                    ],
                    "marker": {
                        "color": color,
                        "size": 7 if group is bad else 6,
                        "opacity": opacity,
                        "symbol": [_symbol(row) for row, _ in there],
                        "line": {"color": color, "width": 1},
                    },
                    "cliponaxis": False,
                    "hovertemplate": "%{text}<br>%{y:.5g}<extra></extra>",
                }
            )
        drawn = [trace for trace in traces if trace["x"]]
        found.append(Panel(scale.path, scale.path, drawn, _own_axis(scale), y, height=250))
    return found


def _symbol(row: Mapping[str, Any]) -> str:
    return "x-thin" if row["status"] in BADLY else "circle-open" if row["status"] == "stopped" else "circle"


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
    marks = scale.ticks
    return {
        "range": [-0.03, 1.03],
        "tickvals": [place for place, _ in marks],
        "ticktext": [text(label) for _, label in marks],
        "tickangle": 0 if sum(len(label) for _, label in marks) < 40 else -35,
    }
