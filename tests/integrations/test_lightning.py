"""A Lightning training that is cut off after any report and goes on from there is the one that was not cut off.

Skipped where there is no Lightning: `make integrations` has it.
"""

from __future__ import annotations

import logging

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from raytune_hpo.workers.outcomes import Raised, Returned

lightning = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint  # noqa: E402

from raytune_hpo.integrations.lightning import Report  # noqa: E402

EPOCHS = 5
pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning warns of is its own matter
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(lightning.LightningModule):
    def __init__(self, lr=0.01, decay=0.0, schedule="step", interval="epoch", validates=True):
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1)
        )
        self.register_buffer("ended", torch.zeros(()))

    def training_step(self, batch, index):
        loss = ((self.layers(batch[0]) - batch[1]) ** 2).mean() * (1 + self.ended / 10)
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", ((self.layers(batch[0]) - batch[1]) ** 2).mean())

    def on_train_epoch_end(self):
        self.ended += torch.rand(())  # after every callback's
        self.log("ended", self.ended)

    def configure_optimizers(self):
        lr = torch.optim.lr_scheduler
        optimizer = torch.optim.SGD(
            self.parameters(), lr=self.hparams.lr, momentum=0.9, weight_decay=self.hparams.decay
        )
        made = {
            "step": lambda: lr.StepLR(optimizer, 1, 0.7),
            "plateau": lambda: lr.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.5),
            "cosine": lambda: lr.CosineAnnealingLR(optimizer, 40),
        }[self.hparams.schedule]()
        schedule = {"scheduler": made, "monitor": "val_loss", "interval": self.hparams.interval}
        return {"optimizer": optimizer, "lr_scheduler": schedule}


class TrainsOnly(Module):
    validation_step = lightning.LightningModule.validation_step


class Average(Callback):
    """Has a state, and changes the model when an epoch begins."""

    def __init__(self):
        self.count = 0

    def on_train_epoch_start(self, trainer, pl_module):
        self.count += 1
        with torch.no_grad():
            pl_module.layers[0].weight.mul_(1 - 0.01 * self.count)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.log("count", float(self.count))

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state_dict):
        self.count = state_dict["count"]


def data(kind=DataLoader, **options):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    dataset = TensorDataset(x, x.sum(1, keepdim=True))
    return kind(dataset, 8, shuffle=True, **options), DataLoader(dataset, 32)


class Data(lightning.LightningDataModule):
    def train_dataloader(self):
        return data()[0]

    def val_dataloader(self):
        return data()[1]


def fitting(module=Module, report=Report, loaders=data, callbacks=lambda: [Average()], datamodule=False, **options):
    def train(config):
        torch.manual_seed(1)
        ours = report()
        trainer = lightning.Trainer(
            **{
                "max_epochs": EPOCHS,
                "callbacks": [*callbacks(), ours],
                "logger": False,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "accelerator": "cpu",
                **options,
            }
        )
        what = {"datamodule": Data()} if datamodule else dict(zip(LOADERS, loaders(), strict=False))
        model = module(**config)
        trainer.fit(model, **what, ckpt_path=ours.checkpoint)
        if model.trainer.enable_validation:
            trainer.validate(model, dataloaders=data()[1], verbose=False)  # reports nothing more

    return train


LOADERS = ("train_dataloaders", "val_dataloaders")

CASES = {
    "steps": (fitting(), {"schedule": "step"}),
    "a schedule that waits for a metric": (fitting(), {"schedule": "plateau"}),
    "a schedule by batches, accumulated": (
        fitting(accumulate_grad_batches=3, gradient_clip_val=0.5),
        {"schedule": "cosine", "interval": "step"},
    ),
    "a data module": (fitting(datamodule=True), {}),
    "every second epoch": (fitting(check_val_every_n_epoch=2, max_epochs=10), {}),
    "counted in steps": (fitting(max_epochs=-1, max_steps=40), {"schedule": "plateau"}),
    "no validation": (fitting(TrainsOnly, lambda: Report(on="train_epoch"), lambda: data()[:1]), {}),
    "early stopping": (
        fitting(callbacks=lambda: [EarlyStopping("val_loss", patience=3, mode="max"), Average()]),
        {"schedule": "plateau"},
    ),
    "workers that read": (fitting(loaders=lambda: data(num_workers=1)), {}),
}


@pytest.mark.parametrize(("train", "config"), CASES.values(), ids=CASES)
def test_cut_off_after_any_report_it_goes_on_to_the_bit(trial, train, config):
    whole, end, _ = trial(train, config)
    assert len(whole) >= 4, end
    for cut in (1, 2, len(whole) - 1):
        first, _, paused = trial(train, config, reports=cut)
        assert [r.metrics for r in first] == [r.metrics for r in whole[:cut]]
        for start in (first[-1].checkpoint, paused)[: 1 if cut == 1 else 2]:
            rest, end, _ = trial(train, config, start=start)
            assert [r.metrics for r in rest] == [r.metrics for r in whole[cut:]], (cut, end)
            assert end == Returned()


def test_validations_within_an_epoch(trial):
    """A loader that keeps its place goes on in the middle of an epoch; from a plain one that is not possible."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    train = fitting(loaders=lambda: data(stateful), val_check_interval=0.5)
    whole, end, _ = trial(train)
    assert len(whole) == 2 * EPOCHS, end
    losses = [r.metrics["val_loss"] for r in whole]  # Lightning keeps no sums of an epoch's batches so far
    for cut in (1, 2, 3, 7, 8):
        first, _, _ = trial(train, reports=cut)
        rest, end, _ = trial(train, start=first[-1].checkpoint)
        assert [r.metrics["val_loss"] for r in rest] == losses[cut:], (cut, end)

    train = fitting(val_check_interval=0.5)
    whole, _, _ = trial(train)
    assert [r.checkpoint is not None for r in whole] == [False, True] * EPOCHS
    rest, _, _ = trial(train, start=whole[3].checkpoint)
    assert [r.metrics for r in rest] == [r.metrics for r in whole[4:]]


def test_checkpoints_come_as_often_as_the_experiment_says(trial):
    whole, _, _ = trial(CASES["steps"][0], every=2)
    assert [r.checkpoint is not None for r in whole] == [False, True, False, True, True]


def test_what_is_reported(trial):
    (first,), _, _ = trial(CASES["steps"][0], reports=1)
    assert set(first.metrics) == {"train_loss", "val_loss", "ended", "count"}
    assert first.metrics["ended"] > 0  # logged after all callbacks


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_a_donors_checkpoint_does_not_bring_its_learning_rate(trial, schedule):
    seen = []

    class Rates(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            group = trainer.optimizers[0].param_groups[0]
            seen.append((trainer.global_step, group["lr"], group["weight_decay"]))

    train = fitting(callbacks=lambda: [Rates()])
    trial(train, {"lr": 0.002, "decay": 0.1, "schedule": schedule})
    alone = seen[16:]
    seen.clear()
    donor, _, _ = trial(train, {"lr": 0.01, "decay": 0.0, "schedule": schedule}, reports=2)
    seen.clear()
    trial(train, {"lr": 0.002, "decay": 0.1, "schedule": schedule}, start=donor[-1].checkpoint)
    assert len(seen) == 8 * (EPOCHS - 2)
    assert [s[::2] for s in seen] == [s[::2] for s in alone]
    assert [s[1] for s in seen] == pytest.approx([s[1] for s in alone])


def forgetful(config):
    trainer = lightning.Trainer(max_epochs=3, callbacks=[Report()], logger=False, enable_checkpointing=False)
    trainer.fit(Module(), *data())


def two_fits(config):
    report = Report()
    for _ in range(2):
        trainer = lightning.Trainer(max_epochs=1, callbacks=[report], logger=False, enable_checkpointing=False)
        trainer.fit(Module(), *data())


WRONG = {
    "no validation": (fitting(TrainsOnly, loaders=lambda: data()[:1]), "the Trainer validates nothing"),
    "no batches of it": (fitting(limit_val_batches=0), "the Trainer validates nothing"),
    "a dry run": (fitting(fast_dev_run=True), "fast_dev_run=True"),
    "two reports": (fitting(callbacks=lambda: [Report()]), "more than one stateful callback of type `Report`"),
    "two fits": (two_fits, "a trial is one fit"),
    "another unit": (fitting(report=lambda: Report(on="batch")), "Report(on='batch'): must be"),
}


@pytest.mark.parametrize(("train", "said"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_line(trial, train, said):
    _, end, _ = trial(train)
    assert isinstance(end, Raised)
    assert said in end.summary
    assert "\n" not in end.summary


def test_a_fit_without_its_checkpoint_is_named(trial):
    first, _, _ = trial(CASES["steps"][0], reports=1)
    _, end, _ = trial(forgetful, start=first[0].checkpoint)
    assert "fit() was not given the trial's checkpoint: Trainer.fit(..., ckpt_path=report.checkpoint)" in end.summary


def test_a_checkpoint_of_another_kind_is_named(trial, tmp_path):
    _, end, _ = trial(CASES["steps"][0], start=tmp_path)
    assert "holds no lightning.ckpt" in end.summary


def test_outside_of_a_trial_it_does_nothing():
    report = Report()
    trainer = lightning.Trainer(
        max_epochs=2, callbacks=[report], logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(Module(), *data(), ckpt_path=report.checkpoint)
    assert trainer.current_epoch == 2


def test_beside_a_model_checkpoint_of_the_users(trial, tmp_path):
    kept = tmp_path / "kept"
    train = fitting(callbacks=lambda: [ModelCheckpoint(kept, monitor="val_loss")], enable_checkpointing=True)
    whole, end, _ = trial(train)
    assert len(whole) == EPOCHS, end
    assert len(list(kept.iterdir())) == 1
