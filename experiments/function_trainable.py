"""A training function of one's own, as it is written for Ray Tune, on scikit-learn's diabetes data (regression).

raytune-hpo run experiments/function_trainable.py

Nothing in `train` is of this package: it is f(config), calls tune.report with a checkpoint, and starts from
tune.get_checkpoint. What it must do to be paused, resumed and perturbed without loss is in its comments.
"""

import tempfile
from pathlib import Path

from raytune_hpo import Choice, Experiment, Float, Int, run_file

EPOCHS = 20


def train(config):
    import torch
    from ray import tune
    from sklearn.datasets import load_diabetes

    x, y = (torch.tensor(a, dtype=torch.float32) for a in load_diabetes(return_X_y=True, scaled=True))
    y = ((y - y.mean()) / y.std())[:, None]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    training, validation = order[100:], order[:100]

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(10, config["units"]), torch.nn.ReLU(), torch.nn.Linear(config["units"], 1)
    )
    optimizer = getattr(torch.optim, config["optimizer"])(model.parameters(), lr=config["lr"])
    epoch = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:  # a trial that was paused, interrupted or given another one's state goes on here
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / "state.pt", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for group in optimizer.param_groups:  # the config may have changed since
            group["lr"] = config["lr"]
        epoch = state["epoch"]

    while epoch < EPOCHS:
        shuffled = training[torch.randperm(len(training), generator=torch.Generator().manual_seed(epoch))]
        for batch in shuffled.split(config["batch_size"]):
            loss = torch.nn.functional.mse_loss(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epoch += 1
        with torch.no_grad():
            loss = torch.nn.functional.mse_loss(model(x[validation]), y[validation]).item()
        with tempfile.TemporaryDirectory() as folder:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            torch.save(state, Path(folder) / "state.pt")
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(folder))


experiment = Experiment(
    name="function_trainable",
    task=train,
    space={
        "units": Int(4, 64, scale="power_of_two"),
        "optimizer": Choice(["SGD", "Adam"]),
        "lr": Float(1e-3, 1.0, scale="log"),
        "batch_size": Int(8, 64, scale="power_of_two"),
    },
    metric="loss",
    mode="min",
    searcher="random",
    scheduler="asha",
    num_samples=16,
    max_epochs=EPOCHS,
)

if __name__ == "__main__":
    run_file(__file__)
