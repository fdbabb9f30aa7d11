from pathlib import Path

import lightning
import torch
from ray import tune
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback
from ray.tune.schedulers import ASHAScheduler
from torch.utils.data import DataLoader, TensorDataset


class Net(lightning.LightningModule):
    def __init__(self, lr, width):
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(8, width), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(width, 1)
        )

    def training_step(self, batch, index):
        loss = torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1])
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)]


class Data(lightning.LightningDataModule):
    def setup(self, stage):
        x = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
        self.rows = TensorDataset(x, x[:, :1] * x[:, 1:2] + 0.1 * x[:, 2:3])

    def train_dataloader(self):
        return DataLoader(torch.utils.data.Subset(self.rows, range(400)), 32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(torch.utils.data.Subset(self.rows, range(400, 512)), 64)


class NewRate(lightning.Callback):
    """After another trial's checkpoint."""

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["lr"] = pl_module.hparams.lr

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        self.then = checkpoint["lr"]

    def on_train_start(self, trainer, pl_module):
        then, now = getattr(self, "then", pl_module.hparams.lr), pl_module.hparams.lr
        if then != now:
            for group in trainer.optimizers[0].param_groups:
                group["lr"] *= now / then
                group["initial_lr"] = now
            schedule = trainer.lr_scheduler_configs[0].scheduler
            schedule.base_lrs = [now for _ in schedule.base_lrs]


def train(config):
    path = None
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        path = str(Path(checkpoint.to_directory()) / "checkpoint")
    trainer = lightning.Trainer(
        max_epochs=9,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[NewRate(), TuneReportCheckpointCallback(on="train_epoch_end")],
    )
    trainer.fit(Net(**config), datamodule=Data(), ckpt_path=path)


if __name__ == "__main__":
    tuner = tune.Tuner(
        train,
        param_space={"lr": tune.loguniform(1e-4, 1e-1), "width": tune.choice([8, 16, 32, 64])},
        tune_config=tune.TuneConfig(
            metric="val_loss", mode="min", num_samples=6, scheduler=ASHAScheduler(max_t=9), max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(name="lightning", failure_config=tune.FailureConfig(max_failures=1)),
    )
    print(tuner.fit().get_best_result().config)
