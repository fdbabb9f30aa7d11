"""The trials of a run, and the rounds of its search, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raytune_hpo.display.summary import shown_config, shown_value
from raytune_hpo.results.results import Results
from raytune_hpo.results.selection import value_of
from raytune_hpo.results.text_table import text_table
from raytune_hpo.space.named import shown_texts

WIDTH = 80


def trial_table(
    results: Results,
    rows: Sequence[Mapping[str, Any]] | None = None,
    columns: Sequence[str] | None = None,
    width: int | None = None,
) -> str:
    """One row a trial, of all in the order of suggestion, or of these (`selection.selected`). columns: of its fields;
    width: as of `text_table`."""
    rows = results.rows() if rows is None else rows
    if columns is None:
        columns = ["trial_id", "status", "reason", "epochs", "best", "last", "seconds", "config"]
        if len(results.codes) > 1:
            columns.insert(-1, "code")
        columns += [column for column in ("tags", "remark") if any(row.get(column) for row in rows)]
    heads = {"trial_id": "trial", "best": f"best {results.metric}"}
    table = [[_cell(results, row, column) for column in columns] for row in rows]
    return text_table([heads.get(column, column) for column in columns], table, width)


def _cell(results: Results, row: Mapping[str, Any], column: str) -> str:
    match column:
        case "reason":
            return short(row["error"] if row["status"] == "failed" else row["reason"])
        case "best":
            return "-" if row["best"] is None else f"{shown_value(row['best'])} @{row['best_epoch']}"
        case "seconds":
            return f"{row['seconds']:.1f}"
        case "tags" | "remark":
            text = row.get(column)
            return short(text if isinstance(text, str) else " ".join(text or ()))
        case "config":
            return shown_config(row["config"], results.experiment["space"])
    value = "+".join(map(str, row["code"])) or None if column == "code" else value_of(row, column)
    return "-" if value is None else shown_value(value)


def short(reason: str | None) -> str:
    """A reason in the width of a column; JSON has all of it."""
    text = " ".join((reason or "-").split())
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def round_table(results: Results) -> str:
    """One row a round of a coarse-to-fine search: where it looked, and for how long."""
    rows = [
        [
            str(r["round"]),
            r["first_trial"],
            f"{r['epochs_share']:.3g}",
            str(len(r["carried"])),
            "  ".join(f"{path}={_shown_side(path, side, results)}" for path, side in r["box"].items()),
        ]
        for r in results.rounds
    ]
    return text_table(["round", "from", "of max_epochs", "carried", "box"], rows)


def _shown_side(path: str, side: list[Any], results: Results) -> str:
    parameter = results.experiment["space"]["parameters"][path]
    if parameter["kind"] == "choice":
        texts = shown_texts(results.experiment["space"]).get(path, {})
        shown = (texts.get(option, option) if isinstance(option, str) else str(option) for option in side)
        return "{" + ", ".join(shown) + "}"
    return f"{shown_value(side[0])}..{shown_value(side[1])}"
