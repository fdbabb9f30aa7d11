"""Lightning and Hugging Face as two ranks on two CPUs: they find the process group, and report once a trial.

Skipped where there are none of them: `make integrations` has both.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from raytune_hpo import Experiment, Float, Resources, run
from raytune_hpo.journal.events import Reported, Retried

EPOCHS = 4


def with_lightning(config):
    import lightning
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from raytune_hpo.integrations.lightning import Report

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, index):
            return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

        def validation_step(self, batch, index):
            loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
            self.log("loss", loss, sync_dist=True)

        def on_train_epoch_start(self):
            wreck(config, torch.distributed.get_rank(), self.current_epoch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=config["lr"])

    torch.manual_seed(0)
    x = torch.randn(128, 4)
    rows = TensorDataset(x, x.sum(1, keepdim=True))
    report = Report()
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[report],
    )
    assert trainer.world_size == 2
    trainer.fit(Net(), DataLoader(rows, 16, shuffle=True), DataLoader(rows, 32), ckpt_path=report.checkpoint)


def with_transformers(config):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed

    from raytune_hpo.integrations.huggingface import Report

    class Wreck(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            wreck(config, torch.distributed.get_rank(), int(state.epoch or 0))

    set_seed(0)
    tokens = torch.randint(64, (96, 8), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": row} for row in tokens]
    report = Report()
    arguments = TrainingArguments(
        "out",
        learning_rate=config["lr"],
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=8,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    assert arguments.world_size == 2
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=8, vocab_size=64))
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:32], callbacks=[Wreck(), report])
    trainer.train(resume_from_checkpoint=report.checkpoint)


def wreck(config, rank, epoch):
    once = Path(config["folder"]) / "wrecked"
    if epoch == 2 and rank == config["wrecks"] and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def experiment(task, metric, tmp_path, wrecks):
    return Experiment(
        name="ranks",
        task=task,
        space={"lr": Float(0.01, 0.1), "wrecks": wrecks, "folder": str(tmp_path)},
        metric=metric,
        mode="min",
        searcher="random",
        scheduler="asha",
        num_samples=2,
        max_epochs=EPOCHS,
        resources=Resources(cpus=2, strategy="ddp"),
        storage=str(tmp_path / "runs"),
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("task", "metric", "needed"),
    [(with_lightning, "loss", "lightning"), (with_transformers, "eval_loss", "transformers")],
    ids=["Lightning", "Hugging Face"],
)
def test_two_ranks_and_one_of_them_killed(task, metric, needed, tmp_path):
    pytest.importorskip(needed)
    tables = []
    for wrecks in (-1, 1):
        results = run(experiment(task, metric, tmp_path / str(wrecks), wrecks), quiet=True)
        assert len(list(results.of(Retried))) == (wrecks == 1)
        tables.append([(t.id, t.status.value, t.epoch, t.best) for t in results.ledger.trials.values()])
        assert len(list(results.of(Reported))) == sum(row[2] for row in tables[-1])
    assert tables[0][0][1:3] == ("completed", EPOCHS)
    assert tables[0] == tables[1]
