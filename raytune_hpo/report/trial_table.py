"""The trials of a run as a table for people."""

from __future__ import annotations

from raytune_hpo.report.summary import shown_config, shown_value
from raytune_hpo.report.text_table import text_table
from raytune_hpo.results.results import Results


def trial_table(results: Results) -> str:
    """One row a trial, in the order of suggestion."""
    constants = frozenset(results.experiment["space"]["constants"])
    rows = [
        [
            row["trial_id"],
            row["status"] + (f" ({row['reason']})" if row["reason"] not in (None, "max_epochs", "error") else ""),
            str(row["epochs"]),
            "-" if row["best"] is None else f"{shown_value(row['best'])} @{row['best_epoch']}",
            "-" if row["last"] is None else shown_value(row["last"]),
            f"{row['seconds']:.1f}",
            row["error"] if row["status"] == "failed" else shown_config(row["config"], constants),
        ]
        for row in results.rows()
    ]
    return text_table(["trial", "status", "epochs", f"best {results.metric}", "last", "seconds", "config"], rows)
