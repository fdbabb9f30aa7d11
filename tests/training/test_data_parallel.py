"""Trials of several processes: two ranks over gloo, against the trainer of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, nn

from raytune_hpo import Splits, Task
from raytune_hpo.training.checkpoint import load_state, save_state
from raytune_hpo.training.metrics import AUROC, Accuracy, WholeMetric
from raytune_hpo.training.recipe import Recipe

EPOCHS = 3
WORLD = 2


class Median(WholeMetric):
    name, direction, flat = "median", "min", False

    def value(self, outputs, targets):
        return (outputs - targets).abs().median()


@dataclass(frozen=True)
class Line(Task):
    """Uneven shares, a last batch of one sample, a second head that is in no loss, a metric of the whole split."""

    kind = "regression"
    rows: int = 36
    how: str = "arrays"

    def load(self, seed):
        r = np.random.default_rng(seed)
        x = r.normal(size=(self.rows + 23, 3)).astype(np.float32)
        y = (x @ [1.0, -2.0, 0.5]).astype(np.float32)
        parts = [(x[: self.rows], y[: self.rows]), (x[self.rows :], y[self.rows :])]
        if self.how == "samples":
            parts = [list(zip(*part, strict=True)) for part in parts]
        return Splits(*parts)

    loader_workers = 0
    decode_bytes = 0

    def build_model(self, config):
        return nn.ModuleDict({"used": nn.Linear(3, 1), "unused": nn.Linear(3, 1)})

    def predict(self, model, batch):
        return model["used"](batch.x)

    def metrics(self):
        return [Median()]


@dataclass(frozen=True)
class Noisy(Task):
    """Draws in its model and its augmentation, and has statistics of batch norm."""

    def load(self, seed):
        r = np.random.default_rng(seed)
        x = r.normal(size=(85, 4)).astype(np.float32)
        y = (x.sum(1) > 0).astype(np.int64)
        return Splits((x[:53], y[:53]), (x[53:], y[53:]))

    def build_model(self, config):
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))

    def augment(self, x):
        return x + 0.1 * torch.randn_like(x)

    def metrics(self):
        return [Accuracy(), AUROC()]


CASES = {
    "arrays": (Line(), {"batch_size": 7, "lr": 0.05, "accumulate": 2, "clip_norm": 1.0}),
    "samples": (Line(how="samples"), {"batch_size": 7, "lr": 0.05, "optimizer": "sgd"}),
    "one each": (Line(rows=5), {"batch_size": 1, "lr": 0.05, "optimizer": "sgd"}),
    "noisy": (Noisy(), {"batch_size": 13, "lr": 0.01}),
}


def trained(case, folder, ranks):
    """Epochs' metrics, the model's numbers; and both again, of a trainer that went on from the first epoch's state."""
    task, config = CASES[case]
    recipe = Recipe(task, EPOCHS, 0, ranks=ranks)
    data = recipe.data(recipe.load())[0]
    found = []
    for begins in (0, 1):
        trainer = recipe.trainer(data, "cpu")
        trainer.setup(config, 7)
        if begins:
            trainer.load_state_dict(load_state(folder))
        metrics = []
        while trainer.epoch < EPOCHS:
            metrics.append(trainer.train_epoch())
            if trainer.epoch == 1 and (ranks == 1 or distributed.get_rank() == 0):
                save_state(trainer.state_dict(), folder / "state.pt")
            if ranks > 1:
                distributed.barrier()
        numbers = [value.double().sum().item() for value in trainer.state_dict()["model"].values()]
        found.append({"metrics": metrics[-2:], "numbers": numbers})
        trainer.close()
    return found


def of_a_rank(rank: int, folder: Path) -> None:
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    found = {}
    for case in CASES:
        (folder / case).mkdir(exist_ok=True)
        distributed.barrier()
        found[case] = trained(case, folder / case, WORLD)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    code = "import sys, torch; torch.set_num_threads(1); from pathlib import Path; "
    code += f"sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_data_parallel as t; "
    started = [
        subprocess.Popen([sys.executable, "-c", f"{code} t.of_a_rank({rank}, Path({str(folder)!r}))"])
        for rank in range(WORLD)
    ]
    assert [process.wait(100) for process in started] == [0] * WORLD
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)]


@pytest.mark.parametrize("case", CASES)
def test_ranks_are_one_model(ranks, case, tmp_path):
    first, second = (found[case] for found in ranks)
    assert first == second  # metrics, and the weights and statistics
    assert first[0] == first[1]  # to the bit, after it was loaded again
    if case != "noisy":  # which draws in each process what is its own
        alone = trained(case, tmp_path, 1)[0]
        assert first[0]["numbers"] == pytest.approx(alone["numbers"], rel=1e-4, abs=1e-5)
        for ours, theirs in zip(first[0]["metrics"], alone["metrics"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_a_batch_that_batch_norm_cannot_share():
    from raytune_hpo.training.data_order import TooFewSamplesError, samples_of_pass

    model = nn.BatchNorm1d(3)
    assert samples_of_pass(model, 53, 10, 2) == 50  # 3 are 2 and 1
    assert samples_of_pass(model, 54, 10, 2) == 54
    assert samples_of_pass(model, 51, 10) == 50
    with pytest.raises(TooFewSamplesError, match="in batches of 3, which 2 processes share: batch norm needs 4"):
        samples_of_pass(model, 50, 3, 2)
