import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def data():
    x = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] * x[:, 1:2] + 0.1 * x[:, 2:3]
    return TensorDataset(x[:400], y[:400]), (x[400:], y[400:])


def train(config):
    rows, (x, y) = data()
    loader = DataLoader(rows, config["batch_size"], shuffle=True, num_workers=2)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / "state.pt", weights_only=False)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
        start = state["epoch"] + 1
        if state["lr"] != config["lr"]:  # another trial's checkpoint
            for group in optimizer.param_groups:
                group["lr"] *= config["lr"] / state["lr"]
                group["initial_lr"] = config["lr"]
            schedule.base_lrs = [config["lr"] for _ in schedule.base_lrs]
    for epoch in range(start, 9):
        for a, b in loader:
            loss = nn.functional.mse_loss(model(a), b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            loss = nn.functional.mse_loss(model(x), y).item()
        model.train()
        with tempfile.TemporaryDirectory() as folder:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "python": random.getstate(),
                "numpy": np.random.get_state(),
                "torch": torch.get_rng_state(),
                "epoch": epoch,
                "lr": config["lr"],
            }
            torch.save(state, Path(folder) / "state.pt")
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(folder))


if __name__ == "__main__":
    tuner = tune.Tuner(
        train,
        param_space={"lr": tune.loguniform(1e-4, 1e-1), "batch_size": tune.choice([16, 32, 64])},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=6, scheduler=ASHAScheduler(max_t=9), max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(name="plain", failure_config=tune.FailureConfig(max_failures=1)),
    )
    print(tuner.fit().get_best_result().config)
