"""Trials of several processes: torch.distributed over gloo, two ranks on two CPUs, in runs of Ray's."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray.tune

from raytune_hpo import (
    Choice,
    Digits,
    Experiment,
    ExperimentError,
    Float,
    Hypergradient,
    Resources,
    get_checkpoint,
    report,
    run,
    trial_dir,
)
from raytune_hpo.journal.events import Reported, Retried
from raytune_hpo.results.winner import read_test
from raytune_hpo.verdicts.replay import replay
from raytune_hpo.workers.outcomes import Returned
from raytune_hpo.workers.rank_process import RankSession
from raytune_hpo.workers.reporting import checkpoint_folder
from raytune_hpo.workers.surroundings import Place

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
    if epoch != 3 or not kind:
        return
    if kind == "alone" and rank != int(where):
        time.sleep(600)  # for nothing that the other rank does
    if rank != int(where):
        return
    if kind in ("raise", "alone"):
        raise ValueError(f"of rank {rank}")
    once = Path(config["folder"]) / f"wrecked-{rank}"
    if not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def experiment(tmp_path, **fields):
    return Experiment(
        **{
            "name": "ranks",
            "task": train,
            "space": {
                "lr": Float(0.01, 0.3),
                "wreck": Choice(["", "kill:0", "kill:1", "raise:0", "raise:1", "alone:1"]),
                "all_report": Choice([True, False]),
                "folder": str(tmp_path),
            },
            "metric": "loss",
            "mode": "min",
            "searcher": "random",
            "scheduler": "fifo",
            "max_epochs": EPOCHS,
            "resources": Resources(cpus=2, strategy="ddp"),
            "storage": str(tmp_path / "runs"),
            "max_failures": 0,
            **fields,
        }
    )


def test_ranks_of_one_model(tmp_path):
    """One run, each trial another fate with the same learning rate."""
    fates = ["", "kill:1", "raise:1", "kill:0", "raise:0", "", "alone:1"]
    starts = [{"lr": 0.1, "wreck": fate, "all_report": i != 5} for i, fate in enumerate(fates)]
    results = run(experiment(tmp_path, start_points=starts, num_samples=len(starts)), quiet=True)
    whole, killed_1, raised_1, killed_0, raised_0, silent, alone = results.ledger.trials.values()

    for trial in (whole, killed_1, killed_0, silent):  # rank 0 alone reports, or both
        assert (trial.status.value, trial.epoch, trial.best) == ("completed", EPOCHS, whole.best)
    assert {e.metrics["rank"] for e in results.of(Reported)} == {0}
    again = {e.trial: e for e in results.of(Retried)}
    assert set(again) == {killed_0.id, killed_1.id}
    assert all(e.lost_worker for e in again.values())
    assert "rank 1 of 2 was lost" in again[killed_1.id].error
    assert "killed (SIGKILL" in again[killed_0.id].error

    for rank, trial in ((1, raised_1), (0, raised_0), (1, alone)):
        assert trial.status.value == "failed"
        assert f"ValueError: of rank {rank}" in trial.error
    assert raised_1.error.startswith("rank 1: test_ranks.py, line ")
    assert "of rank 1" in (results.run_dir / raised_1.error_file).read_text()


@pytest.mark.parametrize("told", ["allowed", "ended"])
def test_another_rank_waits_ends_and_keeps_nothing(tmp_path, told):
    """Without Ray: what it reports is dropped, its checkpoints too, and it answers when the trial is over."""
    folders = iter(range(100))
    done = []

    def function(config):
        for _ in range(3):
            with checkpoint_folder() as folder:
                (folder / "state").write_text("large")
                report({"loss": 1.0}, folder)
            done.append(folder)
        return {"loss": 2.0}

    def scratch():
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        return folder

    session = RankSession(
        function,
        {},
        trial_id="t0",
        checkpoint=None,
        scratch=scratch,
        prepare_thread=lambda: None,
        place=Place("t0", 0, changes_directory=False),
    )
    told_later = threading.Timer(0.3, lambda: session.allow(99 if told == "allowed" else None))
    told_later.start()
    assert session.next() == Returned()
    assert len(done) == (3 if told == "allowed" else 0)
    assert session.stop()
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Wrecked(Digits):
    """Rank 1's process dies in its first trial's third epoch, once, where there is a folder to note it in."""

    folder: str = ""

    def augment(self, x):
        wrecked = Path(self.folder) / "wrecked"
        if self.folder and os.environ.get("RANK") == "1" and not wrecked.exists():
            passes = Path(self.folder) / "passes"
            count = int(passes.read_text()) + 1 if passes.exists() else 1
            passes.write_text(str(count))
            if count > 25:
                wrecked.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return x


def test_a_task_of_ranks(tmp_path):
    """With folds and a scheduler that pauses trials; a lost rank changes nothing, and the winner is tested in one
    process."""
    tables = []
    for folder in ("", str(tmp_path)):
        task = Wrecked(folder=folder)
        fields = {"scheduler": "hyperband", "searcher": "random", "folds": 2, "max_concurrent": 1, "num_samples": 4}
        space = {"lr": Float(0.01, 0.3), "batch_size": 128, "dropout": 0.2}
        found = experiment(tmp_path, **{**OF_TASK, "task": task, "space": space}, **fields, max_epochs=4)
        results = run(found, quiet=True)
        tables.append([(t.status.value, t.epoch, t.best) for t in results.ledger.trials.values()])
        assert len(list(results.of(Retried))) == bool(folder)
    assert tables[0] == tables[1]
    assert read_test(results.run_dir)["metrics"]["test_accuracy"] > 0.5
    with pytest.raises(ExperimentError, match="replay trains in one"):
        replay(results)


OF_TASK = {"task": "digits", "space": {"lr": Float(0.01, 0.1)}, "metric": None, "mode": None}


@dataclass(frozen=True)
class Steps(Digits):
    def train_step(self, model, batch, optimizer, config):
        raise NotImplementedError


class Trainable(ray.tune.Trainable):
    pass


WRONG = {
    "one CPU": (
        {"resources": {"cpus": 1, "strategy": "ddp"}},
        'resources.cpus = 1.0: with strategy="ddp", must be 2 or more',
    ),
    "part of a GPU": (
        {"resources": {"cpus": 2, "gpus": 0.5, "strategy": "ddp"}},
        'resources.gpus = 0.5: with strategy="ddp", must be 2 or more',
    ),
    "another strategy": ({"resources": {"cpus": 2, "strategy": "fsdp"}}, "resources.strategy = 'fsdp'"),
    "in this process": ({"executor": "inline"}, "executor = 'inline': is one process"),
    "a class": ({"task": Trainable}, "several processes: a class Trainable trains in one process"),
    "a step of its own": ({**OF_TASK, "task": Steps()}, "this task takes its steps itself"),
    "hypergradients": (
        {**OF_TASK, "hypergradient": Hypergradient(["lr"])},
        "hypergradients look ahead in one process",
    ),
    "a range test": ({**OF_TASK, "lr_range": "auto"}, "a learning-rate range test is one process"),
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
