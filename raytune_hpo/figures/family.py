"""Who went on from whose checkpoint, and how configs changed on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raytune_hpo.figures.panel import COLORS, GREY, Axis, Panel, Trace, text, titled
from raytune_hpo.figures.scales import Scale, scales
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
    related = _related(every)
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
    last = max(x for x in others[0] if x is not None)
    epochs = titled("epoch", range=[-0.01 * last, 1.01 * last])
    return [Panel("all", "trials by epoch", traces, epochs, titled("", **ticks), height)]


def _related(segments: Sequence[Mapping[str, Any]]) -> set[str]:
    """The trials that went on from another one's checkpoint, or that others went on from."""
    return {trial for own in segments if own["donor"] for trial in (own["trial"], own["donor"])}


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
    """What varied between segments of one line, by epoch, one panel a parameter; the winner's line in front."""
    family = facts["lineage"]
    if not family:
        return []
    _, every = scales(facts["space"])
    related = _related(family["segments"])
    all_of_them = [own for own in family["segments"] if own["trial"] in related][: 20 * TRIALS]
    axis = titled("epoch", rangemode="tozero")
    found = []
    for scale in every:
        if scale.path in family["varying"]:
            traces = [
                _steps("trials", all_of_them, scale, GREY, 1.2, 0.5),
                _steps("the winner's line", family["winner"], scale, COLORS[5], 3, 1),
            ]
            ticks = {
                "tickvals": [place for place, _ in scale.ticks],
                "ticktext": [text(label) for _, label in scale.ticks],
            }
            found.append(Panel(scale.path, scale.path, traces, axis, {"range": [-0.05, 1.05], **ticks}, height=250))
    return found


def _steps(name: str, segments: list[Any], scale: Scale, color: str, width: float, opacity: float) -> Trace:
    x: list[Any] = []
    y: list[Any] = []
    texts: list[str] = []
    before = None
    for own in segments:
        config = flatten(own["config"])
        if scale.path not in config or own["last"] <= own["first"]:
            continue
        if own["donor"] is None or (own["donor"], own["donor_generation"]) != before:
            x.append(None)
            y.append(None)
            texts.append("")
        before = own["trial"], own["generation"]
        place, value = round(scale.place(config[scale.path]), 5), text(scale.shown(config[scale.path]))
        label = f"{own['trial']}, epochs {own['first'] + 1} to {own['last']}: {value}"
        x += [own["first"], own["last"]]
        y += [place, place]
        texts += [label, label]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "text": texts,
        "line": {"color": color, "width": width},
        "opacity": opacity,
        "hovertemplate": "%{text}<extra></extra>",
    }
