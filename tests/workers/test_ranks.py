"""Trials of several processes: torch.distributed over gloo, two ranks on two CPUs, in runs of Ray's."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from raytune_hpo import (
    Experiment,
    ExperimentError,
    Float,
    Resources,
    get_checkpoint,
    report,
    run,
    trial_dir,
)
from raytune_hpo.journal.events import Reported, Retried

EPOCHS = 6


def train(config):
    """A model under DistributedDataParallel, each rank on its half of the data; checkpoints are rank 0's."""
    import torch
    from torch import distributed, nn
    from torch.nn.parallel import DistributedDataParallel

    rank, world = distributed.get_rank(), distributed.get_world_size()
    assert (rank, world) == (int(os.environ["RANK"]), 2)
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    y = x @ torch.tensor([1.0, -2.0, 0.5])
    model = DistributedDataParallel(nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    epoch, start = 0, get_checkpoint()
    if start is not None:
        state = torch.load(start / "state.pt", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        epoch = state["epoch"]
    mine = slice(rank, None, world)
    while epoch < EPOCHS:
        loss = nn.functional.mse_loss(model(x[mine])[:, 0], y[mine])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        epoch += 1
        total = loss.detach().clone()
        distributed.all_reduce(total)
        _wreck(config, rank, epoch)
        metrics = {"loss": total.item() / world, "rank": rank}
        if rank == 0:
            folder = Path(trial_dir()) / "state"
            folder.mkdir(exist_ok=True)
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, folder / "state.pt"
            )
            report(metrics, folder)
        elif config["all_report"]:
            report(metrics)


def _wreck(config, rank, epoch):
    kind, _, where = config["wreck"].partition(":")
    if kind and rank == int(where) and epoch == 3:
        once = Path(config["folder"]) / "wrecked"
        if kind == "raise":
            raise ValueError(f"of rank {rank}")
        if kind == "sleep":
            time.sleep(600)
        if kind == "kill" and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def experiment(tmp_path, wreck="", all_report=True, **fields):
    return Experiment(
        **{
            "name": "ranks",
            "task": train,
            "space": {"lr": Float(0.01, 0.3), "wreck": wreck, "folder": str(tmp_path), "all_report": all_report},
            "metric": "loss",
            "mode": "min",
            "searcher": "random",
            "scheduler": "asha",
            "num_samples": 3,
            "max_epochs": EPOCHS,
            "resources": Resources(cpus=2, strategy="ddp"),
            "storage": str(tmp_path / "runs"),
            "max_failures": 0,
            **fields,
        }
    )


def table(results):
    return [(t.id, t.config["lr"], t.status, t.epoch, t.best) for t in results.ledger.trials.values()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(experiment(tmp_path_factory.mktemp("whole")), quiet=True)


def test_two_ranks_train_one_model_and_one_reports(whole):
    assert "completed" in [t.status.value for t in whole.ledger.trials.values()]
    assert {e.metrics["rank"] for e in whole.of(Reported)} == {0}
    assert len(list(whole.of(Reported))) == sum(row[3] for row in table(whole))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_is_a_lost_worker(tmp_path, whole, rank):
    results = run(experiment(tmp_path, f"kill:{rank}", max_failures=1), quiet=True)
    (again,) = results.of(Retried)
    assert again.lost_worker
    assert ("rank 1 of 2 was lost" if rank else "killed (SIGKILL") in again.error
    assert [row[2:] for row in table(results)] == [row[2:] for row in table(whole)]


def test_only_rank_0_reports(tmp_path, whole):
    results = run(experiment(tmp_path, all_report=False), quiet=True)
    assert [row[2:] for row in table(results)] == [row[2:] for row in table(whole)]


def test_a_rank_that_raises_fails_the_trial_with_its_own_error(tmp_path):
    for rank in (1, 0):
        results = run(experiment(tmp_path / str(rank), f"raise:{rank}", num_samples=1), quiet=True)
        (trial,) = results.ledger.trials.values()
        assert trial.status.value == "failed"
        assert f"ValueError: of rank {rank}" in trial.error
        assert trial.error.startswith("rank 1: ") == (rank == 1)


WRONG = {
    "one CPU": (
        {"resources": {"cpus": 1, "strategy": "ddp"}},
        'resources.cpus = 1: with strategy="ddp", must be 2 or more',
    ),
    "part of a GPU": (
        {"resources": {"cpus": 2, "gpus": 0.5, "strategy": "ddp"}},
        'resources.gpus = 0.5: with strategy="ddp", must be 2 or more',
    ),
    "another strategy": ({"resources": {"cpus": 2, "strategy": "fsdp"}}, "resources.strategy = 'fsdp'"),
    "in this process": ({"executor": "inline"}, "executor = 'inline': is one process"),
    "a task": (
        {"task": "digits", "space": {"lr": Float(0.01, 0.1)}, "metric": None, "mode": None},
        "is of function trainables",
    ),
}


@pytest.mark.parametrize(("fields", "said"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_line(tmp_path, fields, said):
    with pytest.raises(ExperimentError) as found:
        experiment(tmp_path, **fields)
    assert said in str(found.value)


def test_shares_of_a_rank():
    assert Resources(cpus=4, gpus=4, strategy="ddp").of_rank == Resources(cpus=1, gpus=1)
    assert Resources(cpus=1, gpus=4, strategy="ddp").of_rank == Resources(cpus=0.25, gpus=1)
    assert Resources(cpus=2, strategy="ddp").ranks == 2
    assert Resources(cpus=2).of_rank == Resources(cpus=2)
