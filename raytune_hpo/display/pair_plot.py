"""The pair plot of a regression: what the winner predicts against what is, a point a validation sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raytune_hpo.atomic import replaced
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.experiment.reopened import CodeChoice, reopened
from raytune_hpo.results.best import Best
from raytune_hpo.results.results import load_results
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.data import Array
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = 6.0
DOTS_PER_INCH = 120
FEW = 500
"""Up to so many points each is drawn well visible; more are drawn fainter, so that the crowd shows."""


@dataclass(frozen=True)
class Pairs:
    """y, predicted: [n], in the units of the task's targets, of validation samples. experiment, trial: who predicts.

    Of a trial with folds every sample is predicted by the model that was not trained on it.
    """

    experiment: str
    trial: str
    target: str
    y: Array
    predicted: Array

    @property
    def rmse(self) -> float:
        """In the units of the targets."""
        return float(np.sqrt(np.mean((self.predicted - self.y) ** 2)))

    @property
    def r2(self) -> float:
        """The explained share of the variance, 1 - residual / total sum of squares; NaN where y is constant."""
        total = float(np.sum((self.y - self.y.mean()) ** 2))
        return 1 - float(np.sum((self.predicted - self.y) ** 2)) / total if total else float("nan")


def validation_pairs(run_dir: str | Path, *, code: CodeChoice = "recorded") -> Pairs:
    """What the best checkpoint of a run's winner predicts of the validation split. The test split stays closed.

    Raises ExperimentError where the run has no winner yet or its task is no regression of one value, TrialError
    where the checkpoint is damaged.
    """
    results = load_results(run_dir)
    best = results.best
    if best is None or best.checkpoint is None:
        raise ExperimentError("run directory", str(run_dir), "has no winner with a checkpoint yet")
    with reopened(RunDirectory.open(results.run_dir), code=code) as taken:
        return _pairs(taken.say().resolved, best, best.checkpoint, run_dir)


def _pairs(experiment: ResolvedExperiment, best: Best, checkpoint: Path, run_dir: str | Path) -> Pairs:
    task = experiment.task
    if not isinstance(task, Task) or task.kind != "regression":
        raise ExperimentError("run directory", str(run_dir), "a pair plot is of a regression task")

    from raytune_hpo.training.checkpoint import load_state
    from raytune_hpo.training.ensemble_model import model_of, predictions

    state = load_state(checkpoint)
    config = task.resolved(best.config)
    recipe = experiment.recipe()
    parts = recipe.data(recipe.load())
    y, predicted = [], []
    for part, of_part in zip(parts, state.get("folds", [state]), strict=True):
        found, of_data = predictions(model_of(task, config, of_part), part.validation, task, part.statistics)
        y.append(of_data)
        predicted.append(found)
    if y[0].shape[1] != 1:
        raise ExperimentError("run directory", str(run_dir), f"its task has {y[0].shape[1]} targets; a plot takes one")
    return Pairs(
        experiment.name,
        best.trial_id,
        task.target,
        np.concatenate(y).ravel(),
        np.concatenate(predicted).astype(np.float64).ravel(),
    )


def figure_of(pairs: Pairs) -> Figure:
    """y on the horizontal axis, its prediction on the vertical one, on equal scales; the diagonal is perfection."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(INCHES, INCHES), layout="constrained")
    axes = figure.add_subplot()
    low = float(min(pairs.y.min(), pairs.predicted.min()))
    high = float(max(pairs.y.max(), pairs.predicted.max()))
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color="0.55", linewidth=1, zorder=1)
    few = len(pairs.y) <= FEW
    axes.scatter(
        pairs.y, pairs.predicted, s=18 if few else 7, alpha=0.6 if few else 0.25, linewidths=0, color="C0", zorder=2
    )
    axes.set(xlim=limits, ylim=limits, xlabel=f"y: {pairs.target}", ylabel="ŷ, predicted")
    axes.set_aspect("equal")
    axes.set_title(
        f"{pairs.experiment}, {pairs.trial}\n"
        f"{len(pairs.y):,} validation samples: RMSE {pairs.rmse:.3g}, R² {pairs.r2:.3f}",
        fontsize=11,
    )
    return figure


def pair_plot(run_dir: str | Path, path: str | Path, *, code: CodeChoice = "recorded") -> Pairs:
    """Write the pair plot of a run to `path`, a PNG or whatever its ending says. Raises as `validation_pairs`.

    Also raises ExperimentError where the file cannot be written, or matplotlib has no such format.
    """
    pairs = validation_pairs(run_dir, code=code)
    try:
        with replaced(Path(path)) as file:  # not through a link that may stand in its place
            figure_of(pairs).savefig(file, dpi=DOTS_PER_INCH, format=Path(path).suffix[1:] or "png")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExperimentError("--output", str(path), f"cannot be written: {reason}") from error
    return pairs
