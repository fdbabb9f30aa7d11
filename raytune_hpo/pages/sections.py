"""The sections of a report: of each its sentences, figures and the tables behind them, one block a run.

Sections are made of documents alone. A section that no run has anything for is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raytune_hpo.figures import Panel, panels
from raytune_hpo.figures.panel import short
from raytune_hpo.pages import tables
from raytune_hpo.pages.summary import ERROR, sentence
from raytune_hpo.pages.tables import Table
from raytune_hpo.results.facts import Facts


@dataclass(frozen=True)
class Block:
    """What one run has for a section. texts: plain sentences. outputs: (title, text as it was printed)."""

    texts: Sequence[str] = ()
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    outputs: Sequence[tuple[str, str]] = ()

    def __bool__(self) -> bool:
        return bool(self.texts or self.panels or self.tables or self.outputs)


@dataclass(frozen=True)
class Section:
    """lead: how to read it. blocks: one a run, in the order of the runs."""

    id: str
    title: str
    lead: str
    blocks: Sequence[Block] = field(default_factory=list)


def sections(documents: Sequence[Facts]) -> list[Section]:
    made = [
        Section(name, title, lead, [block(one) for one in documents]) for name, (title, lead, block) in SECTIONS.items()
    ]
    found = [section for section in made if any(section.blocks)]
    return [replace(section, blocks=alike(section.blocks)) for section in found]


def alike(blocks: Sequence[Block]) -> list[Block]:
    """The blocks of several runs with the same axes, as far as these are of the same thing, so that one can look from
    one to the other."""
    for side in ("x", "y"):
        blocks = _with_same(blocks, side)
    return list(blocks)


def _with_same(blocks: Sequence[Block], side: str) -> list[Block]:
    axes: dict[Any, list[dict[str, Any]]] = {}
    for block in blocks:
        for panel in block.panels:
            axes.setdefault(_axis_of(panel, side), []).append(getattr(panel, side) or {})
    ranges = {}
    for name, every in axes.items():
        same = {axis.get("type") for axis in every}
        if len(every) > 1 and len(same) == 1 and all("range" in axis for axis in every):
            ranges[name] = [min(axis["range"][0] for axis in every), max(axis["range"][1] for axis in every)]
    return [
        replace(
            block,
            panels=[
                panel.with_range(side, ranges[key]) if (key := _axis_of(panel, side)) in ranges else panel
                for panel in block.panels
            ],
        )
        for block in blocks
    ]


def _axis_of(panel: Panel, side: str) -> tuple[str, Any]:
    """What the axis is of: runs of different metrics have nothing in common."""
    return panel.name, (getattr(panel, side) or {}).get("title", {}).get("text")


def _curves(one: Facts) -> Block:
    curves = one["curves"]
    shown = len(curves["shown"])
    texts = []
    if shown < curves["of"]:
        thinned = any(curve["thinned"] for curve in curves["shown"])
        texts = [
            f"{shown} of {curves['of']:,} curves: the best {curves['best']} and those that still run in full, the "
            f"others evenly by rank{', and of long ones some epochs' if thinned else ''}."
        ]
    return Block(texts, panels(one, "curves"), tables.curves(one))


def _best(one: Facts) -> Block:
    return Block((), panels(one, "best"), tables.best_so_far(one))


def _importance(one: Facts) -> Block:
    told = one["importance"]
    texts = []
    if told["ped_anova"]["parameters"] and told["can_tell"]:
        texts = [
            "A trial that was stopped counts with the best that it had reached, one that failed or diverged as the "
            "worst. The two may differ: the forest tells what moves the metric over all the space, bad configs "
            "included; PED-ANOVA what the best tenth of the trials have in common."
        ]
    missing = told["ped_anova"]["missing"]
    texts = [f"{sentence(told['verdict'])}.", *texts]
    if missing and told["can_tell"]:
        texts.append(f"{missing}.")
    return Block(texts if one["cost"]["trials"] else (), panels(one, "importance"), tables.importance(one))


def _slices(one: Facts) -> Block:
    return Block((), panels(one, "slices"))


def _rounds(one: Facts) -> Block:
    rounds = one["rounds"]
    texts = [rounds["damaged"]] if isinstance(rounds, dict) else ()
    return Block(texts, panels(one, "rounds"), tables.rounds(one))


def _rungs(one: Facts) -> Block:
    found = panels(one, "rungs")  # none where all trials went as far
    return Block((), found, tables.rungs(one) if found else ())


def _lineage(one: Facts) -> Block:
    return Block((), panels(one, "lineage"), tables.lineage(one))


def _schedule(one: Facts) -> Block:
    return Block((), panels(one, "schedule"))


def _timeline(one: Facts) -> Block:
    return Block((), panels(one, "timeline"), tables.timeline(one))


def _failures(one: Facts) -> Block:
    outputs = [
        (f"{cause['count']} {cause['status']}: {short(cause['text'], ERROR)}", cause["traceback"])
        for cause in one["failures"]
        if cause["traceback"]
    ]
    return Block((), (), tables.failures(one), outputs)


def _verdicts(one: Facts) -> Block:
    verdicts = one["verdicts"]
    damaged = [part["damaged"] for part in verdicts.values() if isinstance(part, dict) and "damaged" in part]
    return Block(damaged, (), tables.verdicts(one))


def _setup(one: Facts) -> Block:
    return Block((), (), tables.setup(one))


#: Id -> (title, how to read it, what a run has for it). The summary and the trials' own table stand before them.
SECTIONS: dict[str, tuple[str, str, Callable[[Facts], Block]]] = {
    "curves": (
        "Learning curves",
        "The objective by epoch: the best eight trials in colour, the winner thick, the others grey. What is far from "
        "the best is out of sight: a double click shows it.",
        _curves,
    ),
    "best": ("Best so far", "How the best value grew with the trials that were tried, and with time.", _best),
    "importance": (
        "What mattered",
        "Shares of the variance of the trials' ranks that each parameter explains.",
        _importance,
    ),
    "slices": (
        "The metric by each parameter",
        "One point a trial, in the parameter's own scale; the best fifth, at most 20, in colour. Filled: to the end; "
        "open: stopped early, with its best until then; crosses at the edge: failed or diverged.",
        _slices,
    ),
    "rounds": ("The space of each round", "The part of each range that a round of the search drew from.", _rounds),
    "rungs": ("How far trials came", "Trials by the epochs that they reached, and what became of them there.", _rungs),
    "lineage": (
        "Who went on from whom",
        "Epochs from left to right, a row a trial; from row to row copies of checkpoints. The winner's line is thick.",
        _lineage,
    ),
    "schedule": (
        "Configs by epoch",
        "What changed on the way: the winner's line in colour, all others grey.",
        _schedule,
    ),
    "timeline": (
        "Where the time went",
        "What the driver and each worker did. Seconds of running: the time between two sessions is left out.",
        _timeline,
    ),
    "failures": ("What failed", "One row a cause, with the end of one traceback each.", _failures),
    "verdicts": (
        "Verdicts and the test split",
        "What was judged since, and who has looked at the test split.",
        _verdicts,
    ),
    "setup": ("How the run was set up", "The space, the settings and the versions: what repeats it.", _setup),
}
