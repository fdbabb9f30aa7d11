"""The pair plot's figures and picture, on runs that real trainers wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trained_run import trained_run

from raytune_hpo import Experiment, Float
from raytune_hpo.cli.main import main
from raytune_hpo.display.pair_plot import figure_of, pair_plot, validation_pairs
from raytune_hpo.errors import ExperimentError
from raytune_hpo.results.results import load_results
from raytune_hpo.tasks import Diabetes
from raytune_hpo.training.data import Split, Splits


def experiment(**fields: Any) -> Experiment:
    space = {"lr": Float(1e-3, 1e-1, "log"), "hidden_units": 8}
    return Experiment(**{"name": "x", "task": "diabetes", "space": space, "max_epochs": 2, "seed": 3, **fields})


CONFIGS = [{"lr": 0.001, "hidden_units": 8}, {"lr": 0.02, "hidden_units": 8}]


def test_the_pairs_are_the_winners_on_the_validation_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained_run(tmp_path / "run", experiment(), CONFIGS).path
    best = load_results(run).best
    assert best is not None
    splits = Diabetes().load(3)

    def without_test(task: Any, seed: int) -> Splits:
        return Splits(splits.train, splits.validation, Split(splits.test.x[:0], splits.test.y[:0]))

    monkeypatch.setattr(Diabetes, "load", without_test)
    pairs = validation_pairs(run)
    assert pairs.trial == best.trial_id == "t00001"
    np.testing.assert_allclose(pairs.y, splits.validation.y.ravel())
    assert pairs.rmse == pytest.approx(best.validation["validation_rmse"], rel=1e-5)
    variance = splits.validation.y.var()
    assert pairs.r2 == pytest.approx(1 - best.validation["validation_loss"] / variance, rel=1e-4)


def test_with_folds_every_sample_is_predicted_by_the_model_that_has_not_seen_it(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run", experiment(folds=4), CONFIGS).path
    pairs = validation_pairs(run)
    splits = Diabetes().load(3)
    pool = np.concatenate([splits.train.y, splits.validation.y]).ravel()
    np.testing.assert_allclose(np.sort(pairs.y), np.sort(pool))
    best = load_results(run).best
    assert best is not None
    parts = experiment(folds=4).resolved.recipe().data(splits.for_trials())
    sizes = [len(part.validation) for part in parts]
    squares = np.split((pairs.predicted - pairs.y) ** 2, np.cumsum(sizes)[:-1])
    # The trial's own figure is the mean over the folds.
    assert np.mean([s.mean() for s in squares]) == pytest.approx(best.validation["validation_loss"], rel=1e-4)


def test_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained_run(tmp_path / "run", experiment(), CONFIGS[:1]).path
    assert main(["pair-plot", str(run)]) == 0
    assert (run / "pair_plot.png").read_bytes().startswith(b"\x89PNG")
    assert "t00000: RMSE" in capsys.readouterr().out
    assert main(["pair-plot", str(run), "-o", str(tmp_path / "plot.svg")]) == 0
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    pairs = validation_pairs(run)
    (axes,) = figure_of(pairs).axes
    points = axes.collections[0].get_offsets()
    np.testing.assert_allclose(points, np.stack([pairs.y, pairs.predicted], axis=1))
    diagonal = axes.lines[0]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert axes.get_xlim() == axes.get_ylim()
    assert "disease progression" in axes.get_xlabel()
    assert "88 validation samples" in axes.get_title()
    assert pairs.experiment in axes.get_title()


def test_what_has_no_pair_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = trained_run(tmp_path / "empty", experiment(), []).path
    with pytest.raises(ExperimentError, match="no winner"):
        validation_pairs(empty)
    digits = trained_run(tmp_path / "digits", experiment(task="digits", max_epochs=1), CONFIGS[:1]).path
    with pytest.raises(ExperimentError, match="regression"):
        validation_pairs(digits)
    run = trained_run(tmp_path / "run", experiment(max_epochs=1), CONFIGS[:1]).path
    for target in (tmp_path / "nowhere" / "plot.png", tmp_path / "plot.nothing"):
        with pytest.raises(ExperimentError, match="--output"):
            pair_plot(run, target)
    assert main(["pair-plot", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
