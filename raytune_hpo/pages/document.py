"""The document of `report --json`: everything that is said of a run."""

from __future__ import annotations

import shlex
from typing import Any

from raytune_hpo.pages.summary import configs_to_confirm, summary
from raytune_hpo.pages.verdicts_said import verdicts
from raytune_hpo.printable import printable
from raytune_hpo.results.facts import Facts, facts
from raytune_hpo.results.facts.facts import strict
from raytune_hpo.results.results import Results

#: Of the document: raised where a part's meaning changes.
FORMAT = 1


def document(results: Results) -> Facts:
    """The facts of the run; with them `verdicts`, `commands` and the `summary` of all in sentences."""
    made = {"format": FORMAT, **facts(results), "verdicts": strict(verdicts(results.run_dir))}
    made["commands"] = commands(results, made)
    made["summary"] = summary(made)
    return made


def confirmed_other(results: Results, found: Facts) -> str | None:
    """The trial that `confirm` found best, where the search had another one first and its model is there."""
    trial = results.ledger.trials.get(str((found["verdicts"]["confirmed"] or {}).get("winner")))
    if trial is None or trial.id == found["best"]["trial_id"]:
        return None
    return trial.id if results.kept(trial).checkpoints else None


def commands(results: Results, found: Facts) -> list[dict[str, Any]]:
    """What to type next, the first first: command, and what it does."""
    where = shlex.quote(printable(str(results.run_dir)))
    run, best, confirmed = found["run"], found["best"], found["verdicts"]["confirmed"]
    status = run["status"]
    told: list[tuple[str, str]] = []
    if status in ("interrupted", "killed"):
        told.append((f"raytune-hpo resume {where}", "goes on with the run"))
    if status == "running":
        told.append((f"raytune-hpo watch {where}", "shows the run as it goes on"))
    if found["cost"]["counts"]["failed"] and status != "running" and run["stop_reason"] is None:
        retry = f"raytune-hpo retry {where}", "tries the failed trials again, once their cause is mended"
        told.insert(0 if run["close_reason"] else len(told), retry)  # first where that is why it stopped
    if best is not None and status not in ("running", "killed"):
        if confirmed is None and configs_to_confirm(found) > 1:
            told.append((f"raytune-hpo confirm {where}", "trains the best configs again and says which is best"))
        other = confirmed_other(results, found)
        if other is not None:
            told.append((f"raytune-hpo export {where} --trial {other} -o model", "writes the confirmed winner's model"))
        elif best["checkpoint"] is not None:
            told.append((f"raytune-hpo export {where} -o model", "writes the winner for plain PyTorch"))
        # Of a task, whose models are known.
        if best["checkpoint"] is not None and run["train_samples"] is not None and found["cost"]["trials"] > 1:
            told.append((f"raytune-hpo ensemble {where}", "combines the run's models into one"))
    told.append((f"raytune-hpo run {where}", "runs the same experiment again, with the same seed, by today's code"))
    return [{"command": command, "does": does} for command, does in told]
