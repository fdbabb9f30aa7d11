"""The texts round a run: its header, its closing table, its commands."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from raytune_hpo.listeners.listener import RunView
from raytune_hpo.printable import printable
from raytune_hpo.results.best import Best
from raytune_hpo.results.failures import causes
from raytune_hpo.results.results import Results
from raytune_hpo.results.text_table import plural, text_table
from raytune_hpo.results.winner import read_test
from raytune_hpo.space.configs import flatten
from raytune_hpo.space.named import shown_texts

SHOWN = 3  # reasons


WARNINGS_SHOWN = 5


def duration(seconds: float) -> str:
    """1 h 5 min, 3 min 20 s, 12 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def shown_path(path: Path) -> str:
    """A path as a command typed here would name it."""
    try:
        short = path.relative_to(Path.cwd())
    except ValueError:
        short = path
    return shlex.quote(printable(str(short)))


def shown_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def shown_config(config: dict[str, Any], space: Mapping[str, Any] | None = None) -> str:
    """space: of the run, as JSON: its constants are left out, and names shortened."""
    without, texts = (space["constants"], shown_texts(space)) if space else ({}, {})

    def shown(path: str, value: Any) -> str:
        return texts[path].get(value, str(value)) if path in texts else shown_value(value)

    return "  ".join(f"{k}={shown(k, v)}" for k, v in flatten(config).items() if k not in without)


def header(run: RunView) -> str:
    """One block of lines: what runs, how, on what, where."""
    e = run.experiment
    cpus, gpus = e["resources"]["cpus"], e["resources"]["gpus"]
    each = f"{cpus:g} CPU" + (f" + {gpus:g} GPU" if gpus else "")
    verb = "resuming " if run.resumed else ""
    trials, epochs = plural(e["num_samples"], "trial"), plural(e["max_epochs"], "epoch")
    return (
        f"{verb}{e['name']}: {trials} of up to {epochs}, {shown_name(e['searcher'])} + {shown_name(e['scheduler'])}, "
        f"{e['mode']} {e['metric']}, {each} a trial, seed {e['seed']}\n"
        f"run directory: {shown_path(run.path)}"
    )


def shown_name(chosen: Mapping[str, Any]) -> str:
    """Of a searcher or scheduler as a description holds it; an object's is its class's."""
    return str(chosen.get("class", chosen["name"])).rpartition(":")[2]


def whys(results: Results) -> list[str]:
    """A line for each cause for which trials diverged or failed, the most frequent first, SHOWN at most; but not for
    what stopped the run, which is said by itself."""
    lines = []
    for cause in causes(results):
        first, count = cause.trials[0], len(cause.trials)
        if (first.error or "-") in (results.close_reason or ""):
            continue
        file = f" (traceback: {cause.file})" if cause.file else ""
        more = f", {first.id} for one" if count > 1 else f", {first.id}"
        lines.append(f"{count} {cause.status}{more}: {cause.text}{file}")
    left = len(lines) - SHOWN
    where = f"and {plural(left, 'other reason')}: raytune-hpo trials {shown_path(results.run_dir)}"
    return lines[:SHOWN] + ([where] if left > 0 else [])


def stopped_line(results: Results) -> str | None:
    """Of a run that stopped by itself before its end: why, and what to do about it. None of any other."""
    if results.close_reason is None:
        return None
    where = shown_path(results.run_dir)
    return (
        f"stopped: {results.close_reason}; once that is mended, raytune-hpo retry {where} tries the failed trials "
        f"again (with --code current, if it was in the code), raytune-hpo resume {where} goes on without them"
    )


def codes_line(results: Results) -> str | None:
    """That the trials were not all trained by the same code; None if they were."""
    codes = results.codes
    if len(codes) < 2:
        return None
    number = "two" if len(codes) == 2 else str(len(codes))
    return f"{number} versions of the code trained these trials, which are ranked together: `trials` says which"


def amended_lines(results: Results) -> list[str]:
    """What was changed of the experiment since the run began, and what its searcher was told from elsewhere."""
    found = [f"amended: {amendment.asked}" for amendment in results.ledger.amendments if not amendment.grown]
    told = results.ledger.evidence
    return [*found, *(f"evidence: {len(configs)} configs of {source}" for source, configs in told.items())]


def test_line(results: Results, best: Best) -> str | None:
    """That the test split was opened, but not for what is the winner now; None where it was for it, or for nobody."""
    sealed = read_test(results.run_dir)
    if best.test is not None or sealed is None:
        return None
    where = shown_path(results.run_dir)
    return (
        f"the test split was opened for {sealed['trial']} at epoch {sealed['epoch']}, the winner then, and is not "
        f"opened again for this one: raytune-hpo confirm {where} opens it for what it confirms"
    )


def warning_lines(results: Results) -> list[str]:
    """What the trials' code warned of, the most frequent first."""
    seen = sorted(results.ledger.warnings.values(), key=lambda one: -len(one.trials))
    lines = [f"warned: {plural(len(one.trials), 'trial')}: {one.line}" for one in seen[:WARNINGS_SHOWN]]
    others = len(seen) - len(lines)
    return lines if others <= 0 else [*lines, f"warned: {others} others: see {results.run_dir / 'logs'}"]


def closing_lines(results: Results, since: float | None) -> list[str]:
    """How it ended, how long it took and what came of its trials; then why some failed, and what warned.

    since: when the command was given, in seconds since 1970; None where that is not known.
    """
    counts = {k: v for k, v in results.counts.items() if v}
    ended = results.status + (f" ({results.stop_reason})" if results.stop_reason else "")
    listed = ", ".join(f"{v} {k}" for k, v in counts.items()) or "no trials"
    if results.ledger.sessions > 1:
        taken = f"{duration(results.seconds)} of {results.ledger.sessions} sessions"
    else:
        taken = duration(results.seconds if since is None else time.time() - since)
    return [f"{ended} in {taken}: {listed}", *whys(results), *warning_lines(results)]


def summarize(results: Results, console: Console, since: float | None = None) -> None:
    """The closing lines, the best five, what to do next. since: as of `closing_lines`."""
    for line in closing_lines(results, since):
        console.print(printable(line), soft_wrap=True, highlight=False, markup=False)
    top = results.top(5)
    if top:
        space = results.experiment["space"]
        rows = [
            [t.id, shown_value(t.best), str(t.best_epoch), t.status, shown_config(t.best_config, space)] for t in top
        ]
        lines = text_table(["trial", results.metric, "epoch", "status", "config"], rows)
        console.print(lines, soft_wrap=True, highlight=False, markup=False)
    versions = codes_line(results)
    if versions is not None:
        console.print(printable(versions), style="yellow", soft_wrap=True, highlight=False, markup=False)
    best = results.best
    if best is not None and best.test:
        figures = printable(", ".join(f"{k} {'-' if v is None else f'{v:.5g}'}" for k, v in best.test.items()))
        console.print(f"{best.trial_id} on the test split: {figures}", soft_wrap=True, highlight=False, markup=False)
    told = [] if best is None else [test_line(results, best)]
    for line in [*amended_lines(results), *(t for t in told if t is not None)]:
        console.print(printable(line), soft_wrap=True, highlight=False, markup=False)
    where = shown_path(results.run_dir)
    stopped = stopped_line(results)
    if stopped is not None:
        console.print(printable(stopped), style="red", soft_wrap=True, highlight=False, markup=False)
    elif results.status != "finished":
        console.print(f"go on:      raytune-hpo resume {where}", soft_wrap=True, highlight=False, markup=False)
    elif results.counts["failed"] and results.stop_reason is None:
        console.print(f"once more:  raytune-hpo retry {where}", soft_wrap=True, highlight=False, markup=False)
    if top:
        console.print(f"the winner: raytune-hpo best {where}", soft_wrap=True, highlight=False, markup=False)
