"""The trials of a run, and the rounds of its search, as tables for people."""

from __future__ import annotations

from typing import Any

from raytune_hpo.display.summary import shown_config, shown_value
from raytune_hpo.results.results import Results
from raytune_hpo.results.text_table import text_table
from raytune_hpo.space.named import shown_texts

WIDTH = 80


def trial_table(results: Results) -> str:
    """One row a trial, in the order of suggestion."""
    rows = [
        [
            row["trial_id"],
            row["status"],
            short(row["error"] if row["status"] == "failed" else row["reason"]),
            str(row["epochs"]),
            "-" if row["best"] is None else f"{shown_value(row['best'])} @{row['best_epoch']}",
            "-" if row["last"] is None else shown_value(row["last"]),
            f"{row['seconds']:.1f}",
            shown_config(row["config"], results.experiment["space"]),
        ]
        for row in results.rows()
    ]
    header = ["trial", "status", "reason", "epochs", f"best {results.metric}", "last", "seconds", "config"]
    if len(results.codes) > 1:
        header.insert(-1, "code")
        for row, trial in zip(rows, results.rows(), strict=True):
            row.insert(-1, "+".join(map(str, trial["code"])) or "-")
    return text_table(header, rows)


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
