"""What stands before the sections of one theme each: the summary, several runs beside each other, the trials."""

from __future__ import annotations

from collections.abc import Sequence

from raytune_hpo.figures import panels
from raytune_hpo.figures.compare import compared
from raytune_hpo.figures.parameters import LINES
from raytune_hpo.pages.sections import Block, Section
from raytune_hpo.pages.tables import Table
from raytune_hpo.results.facts import Facts

TRIALS = "trials"  # the section that has the trials' own table, too


def overview(documents: Sequence[Facts], labels: Sequence[str]) -> list[Section]:
    summaries = [
        Block(tables=[Table("", ("", ""), [[own["topic"], own["text"]] for own in one["summary"]], open=True)])
        for one in documents
    ]
    found = [Section("summary", "Summary", "", summaries)]
    if len(documents) > 1:
        found.append(Section("compare", "The runs beside each other", "", [_compared(documents, labels)]))
    lead = (
        "A line a trial, by rank: from orange, the best, over light blue to grey. Drag along an axis to keep the lines "
        "that cross it there: the table follows, the best first. Or type conditions, as lr<0.01 status=completed."
    )
    blocks = [Block(_left_out(one), panels(one, "parallel")) for one in documents]
    if any(one["trials"] for one in documents):
        found.append(Section(TRIALS, "Trials", lead, blocks))
    return found


def _left_out(one: Facts) -> list[str]:
    count = sum(row["best"] is not None for row in one["trials"])
    if count <= LINES:
        return []
    return [
        f"{LINES:,} of {count:,} lines: the best, and evenly of the rest. The table and the brushes have all trials."
    ]


def _compared(documents: Sequence[Facts], labels: Sequence[str]) -> Block:
    rows = []
    for label, one in zip(labels, documents, strict=True):
        best, cost = one["best"], one["cost"]
        own = [best["trial_id"], best["metric"]] if best else [None, None]
        run = one["run"]
        told = [run["status"], run["metric"], *own, run["searcher"], run["scheduler"]]
        rows.append([label, *told, cost["trials"], cost["epochs"], cost["wall_s"]])
    columns = ("run", "status", "metric", "winner", "best", "searcher", "scheduler", "trials", "epochs", "seconds")
    return Block((), compared(documents, labels), [Table("", columns, rows, open=True)])
