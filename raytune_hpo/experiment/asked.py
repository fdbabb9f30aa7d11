"""The task of a run whose trials are trained by whoever asks for them: `Experiment(task=None)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError

if TYPE_CHECKING:
    from raytune_hpo.experiment.resolved import ResolvedExperiment


def by_whoever_asks(config: dict[str, Any]) -> None:
    """Never called."""
    check_is_trained(by_whoever_asks)


def check_is_trained(task: Any) -> None:
    """Raise ExperimentError where nothing here could train a trial of it."""
    if task is by_whoever_asks:
        expected = "trials are trained by whoever asks for them: open_run, or raytune-hpo ask and tell"
        raise ExperimentError("task", None, expected)


def check_can_be_asked(experiment: ResolvedExperiment) -> None:
    """Raise ExperimentError for what needs workers of ours."""
    refused = {
        "folds": experiment.folds,
        "hypergradient": experiment.hypergradient,
        "lr_range": experiment.lr_range,
        "resources.strategy": experiment.resources.strategy,
    }
    for name, value in refused.items():
        if value is not None:
            raise ExperimentError(name, value, "is done by workers of ours: who asks for a trial trains it himself")
