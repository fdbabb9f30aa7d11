"""Folds in processes of their own train exactly as they do one after the other in this one."""

from __future__ import annotations

import pytest
import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.tasks import Digits
from raytune_hpo.training.folded import FoldedTrainer
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.workers.fold_process import RemoteTrainer, start_processes


def test_side_by_side_is_one_after_the_other(ray_session: None) -> None:
    torch.set_num_threads(1)
    recipe = Recipe(Digits(), max_epochs=4, seed=0, folds=3)
    parts = recipe.data(Digits().load(0).for_trials())
    process = start_processes(recipe, 1)[0]
    remote = FoldedTrainer([RemoteTrainer(process, i, part) for i, part in enumerate(parts)], side_by_side=True)
    here = FoldedTrainer([recipe.trainer(part, "cpu") for part in parts])
    config = {"lr": 0.01, "dropout": 0.3, "batch_size": 128}
    for trainer in (here, remote):
        trainer.setup(config, seed=3)
    assert [remote.train_epoch() for _ in range(2)] == [here.train_epoch() for _ in range(2)]
    state = here.state_dict()
    again = FoldedTrainer([RemoteTrainer(process, i, part) for i, part in enumerate(parts)], side_by_side=True)
    again.setup(config, seed=9)
    again.load_state_dict(state)
    assert again.epoch == 2
    assert again.train_epoch() == here.train_epoch()  # (a process holds the folds of one trial at a time)
    with pytest.raises(TrialError, match="folds"):
        again.load_state_dict({"folds": state["folds"][:2]})
    with pytest.raises(TrialError, match="does not fit"):
        again.load_state_dict({"folds": [{**s, "model": {}} for s in state["folds"]]})
