"""The task of a run whose trials are trained by whoever asks for them: `Experiment(task=None)`."""

from __future__ import annotations

from typing import Any

from raytune_hpo.errors import ExperimentError


def by_whoever_asks(config: dict[str, Any]) -> None:
    """Never called."""
    check_is_trained(by_whoever_asks)


def check_is_trained(task: Any) -> None:
    """Raise ExperimentError where nothing here could train a trial of it."""
    if task is by_whoever_asks:
        expected = "trials are trained by whoever asks for them: open_run, or raytune-hpo ask and tell"
        raise ExperimentError("task", None, expected)
