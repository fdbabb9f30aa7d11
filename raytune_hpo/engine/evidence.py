"""Evidence from elsewhere, on its way to a run's searcher: what an experiment begins with, what a person imports.

warm_start of the experiment -> first_evidence ---------------------> events.EvidenceGiven, in the first session
raytune-hpo import -> import_trials -> a command -> desk.Desk ------^
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.evidence import Fitted, fitted, read
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal.events import EvidenceGiven
from raytune_hpo.objective import Objective
from raytune_hpo.results.results import load_results
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.storage.run_directory import RunDirectory


def first_evidence(experiment: ResolvedExperiment) -> tuple[list[EvidenceGiven], list[str]]:
    """What the experiment's `warm_start` tells, and a line of each. Raises ExperimentError."""
    found, lines = [], []
    for number, source in enumerate(experiment.warm_start):
        try:
            told = fitted(
                read(source, experiment.objective, experiment.space.paths), experiment.space, experiment.objective
            )
        except ExperimentError as error:
            raise ExperimentError(f"warm_start[{number}]", error.value, error.expected) from error
        if not told.rows:
            raise ExperimentError(f"warm_start[{number}]", source, told.text or "holds no trial")
        found += [EvidenceGiven(told.source, config, curve) for config, curve in told.rows]
        text = f"{some_trials(len(told.rows))} of {told.source}: {use_of_evidence(experiment)}"
        lines.append(f"{text}; {told.text}" if told.text else text)
    return found, lines


def trials_for(run_dir: str | Path, source: str, metric: str | None) -> Fitted:
    """What `source` tells a run. Raises ExperimentError."""
    directory = RunDirectory.open(run_dir)
    if not isinstance(source, str):
        raise ExperimentError("--from", source, "must be text")
    same = source.partition(":")[2] if source.startswith("run:") else source
    if Path(same).is_dir() and Path(same).resolve() == directory.path.resolve():
        raise ExperimentError("--from", source, "is the run itself")
    experiment = load_results(directory.path).experiment
    objective = Objective(experiment["metric"], experiment["mode"])
    looked_up = Objective(metric or objective.metric, objective.mode)
    space = SearchSpace.from_json(experiment["space"])
    return fitted(read(source, looked_up, space.paths), space, objective)


def evidence_of(where: str, row: Any) -> tuple[Config, dict[int, float]]:
    """Of a command's row, [config, [[epoch, value or null], ...]]. Raises ExperimentError for what is none."""
    try:
        config, points = row
        curve = {int(epoch): math.nan if value is None else float(value) for epoch, value in points}
        if not isinstance(config, Mapping) or any(epoch < 1 for epoch in curve):
            raise ValueError("no config, or an epoch below 1")
    except (TypeError, ValueError) as error:
        raise ExperimentError(where, row, f"must be [config, [[epoch, value], ...]]: {error}") from error
    return dict(config), curve


def rows_of(told: Fitted) -> list[Any]:
    """The inverse of `evidence_of`, of each."""
    return [
        [config, [[epoch, value if math.isfinite(value) else None] for epoch, value in curve.items()]]
        for config, curve in told.rows
    ]


def use_of_evidence(experiment: ResolvedExperiment) -> str:
    """What the run's searcher makes of it, in words."""
    kind, name = experiment.searcher.kind, experiment.searcher.name
    use = "nothing" if kind is None else kind.uses_evidence
    if use == "observations":
        return f"{name} learns from them"
    if experiment.scheduler.kind.is_population:
        return f"half of the population of {experiment.scheduler.name} begins with the best of them"
    if use == "starts":
        return f"{name} tries the best of them"
    return f"kept, but {name} makes no use of them (bayesopt and hyperopt would)"


def some_trials(count: int) -> str:
    return f"{count:,} trial{'s' * (count != 1)}"
