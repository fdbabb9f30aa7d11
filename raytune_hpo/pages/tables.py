"""The tables behind the figures, of a document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_hpo.display.summary import shown_config
from raytune_hpo.results.facts import Facts
from raytune_hpo.results.facts.family import changes
from raytune_hpo.space.space import SearchSpace, describe

#: Rows of a table on the page; `export --to csv` has them all.
ROWS = 200
CHANGES = 12  # of a config, that are named


@dataclass(frozen=True)
class Table:
    """cells: numbers as they are, all else as text. open: whether it is unfolded. of: rows that there are."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    open: bool = False
    of: int = 0

    @property
    def left_out(self) -> int:
        return max(0, self.of - len(self.rows))


class Share(float):
    """A number that is shown in per cent."""


def share(value: float | None) -> Share | None:
    return None if value is None else Share(value)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, open: bool = False) -> list[Table]:
    return [Table(title, columns, rows[:ROWS], open, len(rows))] if rows else []


def curves(one: Facts) -> list[Table]:
    shown = one["curves"]["shown"]
    rows = [
        [c["rank"], c["trial"], c["status"], epoch, value]
        for c in shown
        for epoch, value in zip(c["epochs"], c["values"], strict=True)
    ]
    return _table("The curves as a table", ["rank", "trial", "status", "epoch", one["run"]["metric"]], rows)


def best_so_far(one: Facts) -> list[Table]:
    found, metric = one["best_so_far"], one["run"]["metric"]
    by_trials = [[own["trials"], own["trial"], own["value"]] for own in found["trials"]]
    by_seconds = [[own["seconds"], own["trial"], own["epoch"], own["value"]] for own in found["seconds"]]
    return [
        *_table("Improvements over trials", ["trials", "trial", metric], by_trials),
        *_table("Improvements over seconds", ["seconds", "trial", "epoch", metric], by_seconds),
    ]


def importance(one: Facts) -> list[Table]:
    told = one["importance"]
    theirs = told["ped_anova"]["parameters"]
    ours = {entry["name"]: entry for entry in told["parameters"]}
    names = [*ours, *(name for name in theirs if name not in ours)]
    rows = [
        [
            name,
            share(ours.get(name, {}).get("share")),
            share(ours.get(name, {}).get("deviation")),
            share(theirs.get(name)),
            ours.get(name, {}).get("handbook"),
        ]
        for name in names
    ]
    columns = ["parameter", "share (forest)", "± over its trees", "share (PED-ANOVA)", "place in Andrew Ng's order"]
    return _table("Importance as a table", columns, rows)


def rounds(one: Facts) -> list[Table]:
    if not isinstance(one["rounds"], list):
        return []
    rows = [
        [own["round"], own["first_trial"], own["epochs_share"], ", ".join(map(str, own["carried"])), path, _plain(box)]
        for own in one["rounds"]
        for path, box in own["box"].items()
    ]
    columns = ["round", "first trial", "share of the epochs", "trials carried on", "parameter", "box"]
    return _table("The rounds as a table", columns, rows)


def rungs(one: Facts) -> list[Table]:
    names = ("epoch", "reached", "last", "stopped", "completed", "failed", "paused")
    rows = [[own[name] for name in names] for own in one["rungs"]]
    columns = ["epoch", "trials that reached it", "no further", "stopped", "completed", "failed or diverged", "paused"]
    return _table("The epochs as a table", columns, rows)


def lineage(one: Facts) -> list[Table]:
    family = one["lineage"]
    if not family:
        return []
    columns = ["trial", "generation", "epochs", "from", "why", "what changed"]
    every = {(own["trial"], own["generation"]): own for own in family["segments"]}
    return [
        *_table("The winner's line", columns, _segments(family["winner"], every), open=True),
        *_table("All segments", columns, _segments(family["segments"], every)),
    ]


def _segments(listed: Sequence[Mapping[str, Any]], every: Mapping[Any, Mapping[str, Any]]) -> list[list[Any]]:
    rows = []
    for own in listed:
        donor = every.get((own["donor"], own["donor_generation"]))
        changed = changes(donor["config"], own["config"]) if donor is not None else {}
        told = ", ".join(f"{path} {_plain(old)} → {_plain(new)}" for path, (old, new) in [*changed.items()][:CHANGES])
        epochs = f"{own['first'] + 1} to {own['last']}" if own["last"] > own["first"] else "none"
        rows.append([own["trial"], own["generation"], epochs, own["donor"], own["why"], told])
    return rows


def timeline(one: Facts) -> list[Table]:
    times = one["timeline"]
    shares = [[own["what"], own["seconds"], share(own["share"])] for own in times["shares"]]
    workers = [[own["worker"], own["busy_s"], own["trials"]] for own in times["workers"]]
    return [
        *_table("Where the workers' time went", ["what", "seconds of all workers", "share"], shares, open=True),
        *_table("The workers", ["worker", "seconds of training", "trials"], workers),
    ]


def failures(one: Facts) -> list[Table]:
    rows = [
        [own["count"], own["status"], own["text"], "; ".join(common(own)), ", ".join(own["trials"]), own["file"]]
        for own in one["failures"]
    ]
    warned = [[own["trials"], own["text"]] for own in one["warnings"]]
    return [
        *_table(
            "Causes",
            ["trials", "ended", "why", "what they have in common", "which", "traceback in the run's folder"],
            rows,
            open=True,
        ),
        *_table("Warnings of the trials' code", ["trials", "warning"], warned, open=not rows),
    ]


def common(cause: Mapping[str, Any]) -> list[str]:
    """What the trials of a cause have in common, in words."""
    told = []
    for own in cause["in_common"]:
        name = own["parameter"]
        lies = (
            f"{name} {_plain(own['value'])}"
            if "value" in own
            else f"{name} {_plain(own['low'])} to {_plain(own['high'])}"
        )
        told.append(f"{lies} (so {own['others_there']} of {own['others']} that ended well)")
    return told


def verdicts(one: Facts) -> list[Table]:
    told = one["verdicts"]
    found: list[Table] = []
    confirmed = told["confirmed"]
    if confirmed is not None and "damaged" not in confirmed:
        space = one["space"]
        rows = [
            [
                own["trial"],
                *_ends(own["mean"]),
                own["searched"],
                *_ends(own["behind"]),
                _standing(own),
                shown_config(own["config"], space).replace("  ", ", "),
            ]
            for own in confirmed["configs"]
        ]
        columns = [
            *("trial", "mean", "from", "to (95 %)", "in the search"),
            *("behind the first", "from", "to", "that is", "config"),
        ]
        found += _table(f"Confirmation: {confirmed['verdict']}, {confirmed['reason']}", columns, rows, open=True)
    if isinstance(told["retests"], list):
        rows = [
            [own["number"], own["date"], own["verdict"], own["reason"], "; ".join(own["changes"])]
            for own in told["retests"]
        ]
        found += _table("Retests", ["number", "date", "verdict", "why", "changed since"], rows, open=True)
    if isinstance(told["openings"], list):
        rows = [
            [own["begun"], own["purpose"], "yes" if own["again"] else "no", name, value]
            for own in told["openings"]
            for name, value in (own["metrics"] or {"never ended": None}).items()
        ]
        columns = ["opened", "for", "a second look", "metric", "value"]
        found += _table("Openings of the test split", columns, rows, open=True)
    return found


def _standing(own: Mapping[str, Any]) -> str:
    if own["mean"] is None:
        return "failed" if own["failures"] else "not judged"
    return "the first" if own["behind"] is None else "worse beyond noise" if own["beaten"] else "noise"


def _ends(interval: Mapping[str, float] | None) -> list[float | None]:
    return [None] * 3 if interval is None else [interval["estimate"], interval["low"], interval["high"]]


def setup(one: Facts) -> list[Table]:
    run, space = one["run"], SearchSpace.from_json(one["space"])
    parameters = [[path, describe(parameter)] for path, parameter in space.parameters.items()]
    constants = [[path, _plain(value)] for path, value in one["space"]["constants"].items()]
    settings = [
        [name, _plain(run[name])]
        for name in (
            *("run_dir", "created", "status", "task", "metric", "mode", "searcher", "scheduler", "num_samples"),
            *("max_epochs", "seed", "executors", "resources", "sessions", "git_commit"),
        )
    ] + [[f"version of {name}", version] for name, version in run["versions"].items()]
    commands = [[own["command"], own["does"]] for own in one["commands"]]
    return [
        *_table("Commands", ["command", "what it does"], commands, open=True),
        *_table("The space", ["parameter", "range"], parameters, open=True),
        *_table("Constants", ["name", "value"], constants),
        *_table("Settings", ["name", "value"], settings),
    ]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.5g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
