import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from raytune_hpo import Experiment, Float, Int
from raytune_hpo.integrations.lightning import Report


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


def train(config):
    report = Report()
    trainer = lightning.Trainer(
        max_epochs=9,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[report],
    )
    trainer.fit(Net(**config), datamodule=Data(), ckpt_path=report.checkpoint)


experiment = Experiment(
    name="lightning",
    task=train,
    space={"lr": Float(1e-4, 1e-1, "log"), "width": Int(8, 64, "power_of_two")},
    metric="val_loss",
    mode="min",
    num_samples=6,
    max_epochs=9,
)
