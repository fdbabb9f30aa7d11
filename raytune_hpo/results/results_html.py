"""Results in a notebook: where the run stands, its best trials, and what is to be said of them.

What comes from a run is escaped. Colours are the notebook's own, so that light and dark ones show the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.printable import printable
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space.configs import flatten
from raytune_hpo.space.named import shown_texts

if TYPE_CHECKING:
    from raytune_hpo.results.results import Results

SHOWN, PARAMETERS = 5, 8  # trials; columns of their configs
LONG = 120  # characters of a cell
LEFT = ' style="text-align:left"'


def safe(text: str) -> str:
    """Text of a run, or of anybody, as HTML of one line."""
    return escape(printable(text))


def table_html(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Texts as a table; what is too long for a cell is its title."""
    head = "".join(f"<th{LEFT}>{safe(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    if len(text) <= LONG:
        return f"<td{LEFT}>{safe(text)}</td>"
    return f'<td{LEFT} title="{safe(text)}">{safe(text[: LONG - 3])}...</td>'


def list_html(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{safe(line)}</li>' for line in lines)}</ul>"


def results_html(results: Results) -> str:
    """Status and counts, the winner with its test, the five best, and advice."""
    counts = ", ".join(f"{n} {status}" for status, n in results.counts.items() if n) or "no trials"
    reason = results.stop_reason or results.close_reason
    status = results.status + (f" ({reason})" if reason else "")
    parts = [f"<p><b>{safe(results.run_dir.name)}</b>: {safe(status)}, {safe(counts)}</p>"]
    parts += [f"<p>{safe(line)}</p>" for line in _best(results)]
    top = results.top(SHOWN)
    if top:
        parts.append(_top(results, top))
    notes = _notes(results)
    if notes:
        parts.append(list_html(notes))
    return f"<div>{''.join(parts)}</div>"


def _best(results: Results) -> list[str]:
    try:
        best = results.best
    except ExperimentError as error:  # of a damaged record of the test; what shows itself does not raise
        return [str(error)]
    if best is None:
        return []
    line = f"best: {best.trial_id}, {results.metric} {best.metric:.5g} at epoch {best.epoch}"
    if best.test:
        line += "; " + ", ".join(f"{k} {'-' if v is None else f'{v:.5g}'}" for k, v in best.test.items())
    return [line]


def _top(results: Results, trials: Sequence[TrialState]) -> str:
    """A column for each parameter that any of them has; one for all where that would be too many."""
    space: Mapping[str, Any] = results.experiment["space"]
    texts = shown_texts(space)
    configs = [{k: v for k, v in flatten(t.best_config).items() if k not in space["constants"]} for t in trials]
    paths = list(dict.fromkeys(path for config in configs for path in config))
    rows = [[t.id, f"{t.best:.5g}", str(t.best_epoch), t.status.value] for t in trials]
    for row, config in zip(rows, configs, strict=True):
        values = {path: _value(value, texts.get(path, {})) for path, value in config.items()}
        if len(paths) > PARAMETERS:
            row.append("  ".join(f"{path}={value}" for path, value in values.items()))
        else:
            row.extend(values.get(path, "") for path in paths)
    of_config = paths if len(paths) <= PARAMETERS else ["config"]
    return table_html(["trial", results.metric, "epoch", "status", *of_config], rows)


def _value(value: Any, texts: Mapping[str, str]) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return texts.get(value, value) if isinstance(value, str) else str(value)


def _notes(results: Results) -> list[str]:
    """Advice; none of a journal that can no longer be read."""
    from raytune_hpo.results.advice import advice

    try:
        return [one.text for one in advice(results)]
    except (ExperimentError, OSError):
        return []
