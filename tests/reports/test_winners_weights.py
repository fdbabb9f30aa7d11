"""Row A13: what `results.best.checkpoint` names can be read, whoever trained it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raytune_hpo import Experiment, Float, load_state, run
from raytune_hpo.tasks import Digits


@pytest.mark.parametrize("folds", [None, 2])  # folds keep trials from being lanes
def test_a13_the_winners_weights_are_read_by_one_function(folds: int | None, tmp_path: Path) -> None:
    space = {"lr": Float(1e-3, 1e-1, scale="log"), "hidden_units": 8}
    made = Experiment(name="x", task=Digits(), space=space, num_samples=2, max_epochs=2, executor="inline", folds=folds)
    best = run(made, tmp_path / "run", quiet=True).best
    assert best is not None
    assert best.checkpoint is not None
    assert ("#" in best.checkpoint.name) == (folds is None)
    state = load_state(best.checkpoint)
    if folds is not None:
        assert len(state["folds"]) == folds
        return
    task = Digits()
    model = task.build_model(task.resolved(best.config))
    model.load_state_dict(state["model"])
    validation = task.splits(0).validation
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(validation.x)).argmax(1).numpy()
    assert (found == validation.y).mean() == pytest.approx(best.metric)
