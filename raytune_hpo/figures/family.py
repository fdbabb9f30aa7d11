"""Who went on from whose checkpoint, and how configs changed on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_hpo.figures.panel import COLORS, GREY, Axis, Panel, Trace, text, titled
from raytune_hpo.figures.scales import scales
from raytune_hpo.space.configs import flatten

#: Trials of a tree; with more, those with descendants and the winner's line alone.
TRIALS = 120


def lineage(facts: Mapping[str, Any]) -> list[Panel]:
    """Epochs from left to right, one row a trial; a line down or up is a copy of a checkpoint."""
    family = facts["lineage"]
    if not family:
        return []
    every = family["segments"]
    shown: dict[str, int] = {}
    winner = {(own["trial"], own["generation"]) for own in family["winner"]}
    related = {own["donor"] for own in every if own["donor"]} | {own["trial"] for own in every if own["donor"]}
    for own in every:
        if own["trial"] in related and (len(shown) < TRIALS or (own["trial"], own["generation"]) in winner):
            shown.setdefault(own["trial"], len(shown))
    others: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    line: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    until = {(own["trial"], own["generation"]): own["last"] for own in family["winner"]}
    by_key = {(own["trial"], own["generation"]): own for own in every}
    for key, own in by_key.items():
        if own["trial"] not in shown:
            continue
        row, label = shown[own["trial"]], _label(own, family["varying"])
        _add(others, own, row, own["last"], shown, label)
        if key in winner:
            _add(line, own, row, until[key], shown, label)
    traces: list[Trace] = [
        _lines("trials", others, GREY, 1.2, 4),
        _lines("the winner's line", line, COLORS[5], 3, 7),
    ]
    ticks: Axis = {"tickvals": list(shown.values()), "ticktext": list(shown), "autorange": "reversed"}
    if len(shown) > 40:
        ticks = {"autorange": "reversed", "showticklabels": False}
    height = min(900, max(200, 90 + 20 * len(shown)))
    return [Panel("all", "trials by epoch", traces, titled("epoch", rangemode="tozero"), titled("", **ticks), height)]


def _add(
    to: tuple[list[Any], list[Any], list[Any]], own: Mapping[str, Any], row: int, last: int, shown: Mapping[str, int],
    label: str,
) -> None:  # fmt: skip
    x, y, texts = to
    if own["donor"] in shown:
        x += [own["first"], own["first"]]
        y += [shown[own["donor"]], row]
        texts += ["", label]
    else:
        x.append(own["first"])
        y.append(row)
        texts.append(label)
    x += [last, None]
    y += [row, None]
    texts += [label, ""]


def _lines(name: str, points: tuple[list[Any], list[Any], list[Any]], color: str, width: float, size: int) -> Trace:
    x, y, texts = points
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": y,
        "text": texts,
        "line": {"color": color, "width": width},
        "marker": {"color": color, "size": size},
        "connectgaps": False,
        "hovertemplate": "%{text}<extra></extra>",
    }


def _label(own: Mapping[str, Any], varying: list[str]) -> str:
    config = flatten(own["config"])
    pairs = [f"{path} = {_shown(config[path])}" for path in varying if path in config][:12]
    begun = f"{own['why']}, from {own['donor']} at epoch {own['first']}" if own["donor"] else own["why"]
    head = f"{own['trial']}, epochs {own['first'] + 1} to {own['last']} ({begun})"
    return "<br>".join(text(line) for line in (head, *pairs))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def schedule(facts: Mapping[str, Any]) -> list[Panel]:
    """What varied along the winner's line, by epoch, one panel a parameter."""
    family = facts["lineage"]
    if not family or len(family["winner"]) < 2:
        return []
    _, every = scales(facts["space"])
    found = []
    for scale in every:
        if scale.path not in family["varying"]:
            continue
        x: list[Any] = []
        y: list[Any] = []
        texts: list[str] = []
        for own in family["winner"]:
            value = flatten(own["config"]).get(scale.path)
            if scale.path in flatten(own["config"]):
                x += [own["first"], own["last"]]
                y += [round(scale.place(value), 5)] * 2
                texts += [f"{own['trial']}: {text(scale.shown(value))}"] * 2
        trace = {
            "type": "scatter",
            "mode": "lines+markers",
            "x": x,
            "y": y,
            "text": texts,
            "line": {"color": COLORS[5], "width": 2.5},
            "marker": {"size": 5},
            "hovertemplate": "%{text}<br>epoch %{x}<extra></extra>",
        }
        ticks = scale.ticks
        axis = {
            "range": [-0.05, 1.05],
            "tickvals": [place for place, _ in ticks],
            "ticktext": [label for _, label in ticks],
        }
        if x:
            found.append(Panel(scale.path, scale.path, [trace], titled("epoch", rangemode="tozero"), axis, height=230))
    return found
