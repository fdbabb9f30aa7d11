"""A task that names its own metrics is measured by them wherever a model is: nothing else is to be written.

Costs one run of this session's Ray, of 3 trials of 2 epochs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_metrics import MeasuredDiabetes, MeasuredDigits
from repeated_run import trained_repetitions
from sklearn.metrics import f1_score

from raytune_hpo import Choice, Experiment, Float, load_experiment, run
from raytune_hpo.ensembles.ensemble import Builder
from raytune_hpo.results.results import Results, load_results
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.data import Split
from raytune_hpo.training.folded import FoldedTrainer
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.task import Task
from raytune_hpo.training.trainer import SupervisedTrainer
from raytune_hpo.verdicts import confirm as confirming
from raytune_hpo.verdicts.confirm import confirm

SPACE = {"lr": Float(1e-3, 0.1, "log"), "hidden_units": Choice([8, 16])}
CONFIGS = [{"lr": lr, "hidden_units": units} for lr in (0.005, 0.01, 0.03) for units in (8, 16)]
TASKS = {"macro_f1": MeasuredDigits(), "mae": MeasuredDiabetes()}


def value_of(name: str, model: torch.nn.Module, split: Split) -> float:
    """By another's hand."""
    with torch.no_grad():
        outputs = model.eval()(torch.tensor(split.x)).numpy()
    if name == "macro_f1":
        return float(f1_score(split.y, outputs.argmax(1), average="macro"))
    return float(np.abs(outputs - split.y).mean())


@pytest.mark.parametrize("name", TASKS)
def test_trainers_report_them(name: str) -> None:
    """Alone, in lanes and in folds."""
    task = TASKS[name]
    data = task.load(0).for_trials()
    alone = SupervisedTrainer(task, data, max_epochs=2, device="cpu")
    lanes = FusedTrainer(task, data, max_epochs=2, device="cpu")
    for seed, config in enumerate(CONFIGS):
        lanes.enter(f"t{seed}", config, seed)
    reported = lanes.train_epoch()
    for seed, config in enumerate(CONFIGS):
        alone.setup(config, seed)
        metrics = alone.train_epoch()
        assert metrics[f"validation_{name}"] == pytest.approx(value_of(name, alone.model, data.validation), rel=1e-5)
        assert list(reported[f"t{seed}"]) == list(metrics)
        assert reported[f"t{seed}"] == pytest.approx(metrics, rel=1e-3)
    recipe = Recipe(task, max_epochs=2, seed=0, folds=3)
    parts = recipe.data(data)
    folds = [recipe.trainer(part, "cpu") for part in parts]
    folded = FoldedTrainer(folds)
    folded.setup(CONFIGS[0], 0)
    metrics = folded.train_epoch()
    values = [value_of(name, t.model, part.validation) for t, part in zip(folds, parts, strict=True)]  # type: ignore[attr-defined]
    assert metrics[f"validation_{name}"] == pytest.approx(np.mean(values), rel=1e-5)
    assert metrics[f"validation_{name}_std"] == pytest.approx(np.std(values, ddof=1), rel=1e-3)


@pytest.mark.usefixtures("ray_session")
def test_a_run_optimizes_and_tests_by_one(tmp_path: Path) -> None:
    """It was one that validated, and then every trial failed."""
    results = run(
        Experiment(
            name="own", task=MeasuredDigits(), space=SPACE, metric="validation_macro_f1", searcher="random",
            num_samples=3, max_epochs=2, storage=str(tmp_path), executor="lanes", max_concurrent=2,
            resources={"cpus": 2},
        )
    )  # fmt: skip
    best = results.best
    assert best is not None
    assert {t.status for t in results.ledger.trials.values()} <= {"completed", "stopped"}
    assert best.metric == max(t.best for t in results.ledger.trials.values() if t.best is not None)
    assert set(best.test) == {"test_loss", "test_macro_f1", "test_accuracy"}
    assert best.test["test_macro_f1"] == pytest.approx(best.metric, abs=0.1)


def in_process(path: Path, experiment: Experiment, **_: Any) -> Results:
    """`begin_or_go_on` with the same trainers and without Ray."""
    trained_repetitions(path, experiment)
    return load_results(path)


@pytest.mark.parametrize("name", TASKS)
def test_ensembles_and_confirm(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task: Task = TASKS[name]
    experiment = Experiment(
        name="own", task=task, space=SPACE, metric=f"validation_{name}", max_epochs=2, searcher="random",
        num_samples=len(CONFIGS),
    )  # fmt: skip
    path = trained_repetitions(tmp_path / "run", experiment).path
    directory = RunDirectory.open(path)
    directory.lock()
    builder = Builder(directory, load_results(path), load_experiment(path).resolved)
    chosen = builder.choose("greedy", 5)
    assert chosen.metric == name
    single, better = chosen.single.validation[name], chosen.validation[name]
    assert single == pytest.approx(load_results(path).best.metric, rel=1e-5)  # type: ignore[union-attr]
    assert better >= single if name == "macro_f1" else better <= single
    splits = task.load(experiment.seed)
    assert better == pytest.approx(value_of(name, builder.model(chosen), splits.validation), rel=1e-5)
    tested = builder.test(chosen).metrics
    assert tested is not None
    assert tested[f"test_{name}"] == pytest.approx(value_of(name, builder.model(chosen), splits.test), rel=1e-5)
    assert tested[f"gain_{name}_low"] <= tested[f"gain_{name}"] <= tested[f"gain_{name}_high"]
    directory.unlock()

    monkeypatch.setattr(confirming, "begin_or_go_on", in_process)
    made = confirm(path, 2, 2)
    assert made is not None
    assert made.naive is None  # these metrics name no baseline
    assert made.opening is not None
    assert made.opening.metrics is not None
    assert made.opening.metrics[f"test_{name}_std"] > 0
