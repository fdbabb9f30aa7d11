"""The run itself: what it was, what won, what it cost, what failed."""

from __future__ import annotations

import os
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import DataLoaded, Executor, ExecutorChanged, Reported, SessionOpened
from raytune_hpo.owned import inside, opened
from raytune_hpo.results.facts.common import in_common
from raytune_hpo.results.failures import causes
from raytune_hpo.results.results import Results
from raytune_hpo.space import SearchSpace
from raytune_hpo.storage.run_directory import RunDirectory

#: Of a traceback, its last bytes; and trials that are named of one cause.
TRACEBACK_BYTES, NAMED = 8192, 10


def run(results: Results) -> dict[str, Any]:
    """status: as of Results, "killed" where nobody has it that says it is running."""
    experiment, directory = results.experiment, RunDirectory(results.run_dir)
    description = directory.description()
    status = results.status
    if status == "running" and not directory.in_use():
        status = "killed"
    data = next(results.of(DataLoaded), None)
    task = experiment["task"]
    return {
        "name": experiment["name"],
        "run_dir": str(results.run_dir),
        "status": status,
        "stop_reason": results.stop_reason,
        "close_reason": results.close_reason,
        "damage": results.damage,
        "created": description.get("created"),
        "task": task.get("builtin") or task.get("class") or task.get("function") or task.get("name"),
        "metric": results.metric,
        "mode": results.mode,
        "searcher": _name(experiment["searcher"]),
        "scheduler": _name(experiment["scheduler"]),
        "num_samples": experiment["num_samples"],
        "max_epochs": experiment["max_epochs"],
        "seed": experiment["seed"],
        "resources": experiment["resources"],
        "executors": list(dict.fromkeys(executor.value for executor in _executors(results))),
        "sessions": results.ledger.sessions,
        "code_versions": len(results.codes),
        "amendments": [amendment.asked for amendment in results.ledger.amendments if not amendment.grown],
        "evidence": {source: len(configs) for source, configs in results.ledger.evidence.items()},
        "train_samples": data.train if data else None,
        "validation_samples": data.validation if data else None,
        "versions": description.get("versions") or {},
        "git_commit": description.get("git_commit"),
    }


def _executors(results: Results) -> list[Executor]:
    """Of the sessions, then those that they went over to."""
    opened = [event.executor for event in results.of(SessionOpened)]
    return opened + [event.executor for event in results.of(ExecutorChanged)]


def _name(chosen: dict[str, Any]) -> str:
    return str(chosen.get("class", chosen["name"])).rpartition(":")[2]


def best(results: Results) -> dict[str, Any] | None:
    """As of `best --json`. runner_up: the best other trial; margin: how much better than that, never negative,
    None where no float is as much."""
    try:
        found = results.best
    except ExperimentError:  # the record of the test split is damaged, which `verdicts` says
        found = results.best_with(None)
    if found is None:
        return None
    second = next((trial for trial in results.top(2) if trial.id != found.trial_id), None)
    own: dict[str, Any] = {**found.to_json(), "runner_up": None, "margin": None}
    if second is not None and second.best is not None:
        own["runner_up"] = {"trial_id": second.id, "metric": second.best, "epoch": second.best_epoch}
        if found.replicates is None:  # by the mean, it need not be
            own["margin"] = abs(found.metric - second.best)
    return own


def cost(results: Results, times: dict[str, Any]) -> dict[str, Any]:
    """epochs: that were trained, all reports of all trials. saved: that trials which were stopped early were spared, of
    their limits; not of those that the end of the run stopped. cpu_hours, gpu_hours: of what workers held while they
    trained."""
    experiment = results.experiment
    trials = results.ledger.trials.values()
    epochs = sum(1 for _ in results.of(Reported))
    stopped = [trial for trial in trials if trial.stopped_early(results.stop_reason)]
    saved = sum(max(0, (trial.limit or experiment["max_epochs"]) - trial.epoch) for trial in stopped)
    hours = times["training_s"] / 3600
    gpus = experiment["resources"]["gpus"]
    if gpus and any(executor.of_lanes for executor in _executors(results)):
        gpus = 1  # an array of lanes has its GPU to itself
    return {
        "trials": len(trials),
        "counts": results.counts,
        "epochs": epochs,
        "saved": saved,
        "saved_share": saved / (saved + epochs) if saved else 0.0,
        "wall_s": times["wall_s"],
        "training_s": times["training_s"],
        "workers": sum(1 for worker in times["workers"] if worker["busy_s"]),
        "most_at_once": times["most"],
        "cpu_hours": hours * experiment["resources"]["cpus"],
        "gpu_hours": hours * gpus,
        "failures": sum(trial.failures for trial in trials),
    }


def failures(results: Results) -> list[dict[str, Any]]:
    """One entry a cause, the most frequent first. in_common: of its trials' configs, against those that ended well.
    traceback: the end of one, None where there is none."""
    space = SearchSpace.from_json(results.experiment["space"])
    well = [trial.config for trial in results.ledger.trials.values() if trial.finished and trial.eligible]
    return [
        {
            "status": cause.status.value,
            "text": cause.text,
            "count": len(cause.trials),
            "trials": [trial.id for trial in cause.trials[:NAMED]],
            "in_common": in_common(space, [trial.config for trial in cause.trials], well),
            "file": cause.file,
            "traceback": _traceback(results, cause.file),
        }
        for cause in causes(results)
    ]


def _traceback(results: Results, file: str | None) -> str | None:
    if file is None:
        return None
    try:
        with os.fdopen(opened(inside(results.run_dir, file)), "rb") as found:
            found.seek(max(0, os.fstat(found.fileno()).st_size - TRACEBACK_BYTES))
            return found.read(TRACEBACK_BYTES).decode("utf-8", "replace")
    except (OSError, ExperimentError):  # gone, or not the run's own
        return None


def warnings(results: Results) -> list[dict[str, Any]]:
    seen = sorted(results.ledger.warnings.values(), key=lambda one: -len(one.trials))
    return [{"text": one.line, "trials": len(one.trials)} for one in seen]
