"""The search of experiments/digits.py as a user of Optuna writes it: one process, TPE, successive halving.

    python benchmarks/peers/optuna_digits.py --trials 64 --seed 0

Same data and split sizes, space, epochs and meaning of each hyperparameter; nothing of raytune_hpo is imported. A
trial's value is its best epoch's, and the weights of that epoch are tested: likewise there.

Printed: one JSON line, {"best": validation accuracy of the best trial, "test": its test accuracy, "epochs": trained
by all trials together}.
"""

from __future__ import annotations

import argparse
import copy
import json

import optuna
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

EPOCHS = 27
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


def load(seed: int) -> list[torch.Tensor]:
    """x: [n, 64] in [0, 1] and y: [n], of 60 % to train, 20 % to validate, 20 % to test, stratified."""
    x, y = load_digits(return_X_y=True)
    rest_x, test_x, rest_y, test_y = train_test_split(x / 16, y, test_size=0.2, stratify=y, random_state=seed)
    parts = train_test_split(rest_x, rest_y, test_size=0.25, stratify=rest_y, random_state=seed)
    train_x, validation_x, train_y, validation_y = parts
    xs, ys = (train_x, validation_x, test_x), (train_y, validation_y, test_y)
    return [t for a, b in zip(xs, ys, strict=True) for t in (torch.tensor(a).float(), torch.tensor(b))]


def build_model(trial: optuna.Trial) -> nn.Sequential:
    layers = trial.suggest_int("hidden_layers", 1, 3)
    units = 2 ** trial.suggest_int("log2_hidden_units", 4, 8)
    dropout = trial.suggest_float("dropout", 0.0, 0.5)
    batch_norm = trial.suggest_categorical("batch_norm", [False, True])
    activation = ACTIVATIONS[trial.suggest_categorical("activation", list(ACTIVATIONS))]
    modules: list[nn.Module] = []
    for width in [64, *[units] * (layers - 1)]:
        norm = [nn.BatchNorm1d(units)] if batch_norm else []
        modules += [nn.Linear(width, units), *norm, activation(), nn.Dropout(dropout)]
    return nn.Sequential(*modules, nn.Linear(units, 10))


def build_optimizer(trial: optuna.Trial, model: nn.Module) -> torch.optim.Optimizer:
    name = trial.suggest_categorical("optimizer", ["sgd", "adam"])
    lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
    weight_decay = trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
    if name == "adam":
        return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    momentum = 1 - trial.suggest_float("one_minus_momentum", 0.01, 0.5, log=True)
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    model.eval()
    return (model(x).argmax(1) == y).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # on 2 cores two threads took 15 % longer and twice the CPU: the models are too small
    torch.manual_seed(options.seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    train_x, train_y, validation_x, validation_y, test_x, test_y = load(options.seed)
    models: dict[int, nn.Module] = {}
    epochs = 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal epochs
        model = build_model(trial)
        optimizer = build_optimizer(trial, model)
        batch_size = 2 ** trial.suggest_int("log2_batch_size", 4, 8)
        schedule = CosineAnnealingLR(optimizer, EPOCHS)
        best, weights = -1.0, {}
        for epoch in range(1, EPOCHS + 1):
            model.train()
            for batch in torch.randperm(len(train_x)).split(batch_size):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(train_x[batch]), train_y[batch])
                loss.backward()
                optimizer.step()
            schedule.step()
            epochs += 1
            if not torch.isfinite(loss):
                raise optuna.TrialPruned
            score = accuracy(model, validation_x, validation_y)
            if score > best:
                best, weights = score, copy.deepcopy(model.state_dict())
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        model.load_state_dict(weights)
        models[trial.number] = model
        return best

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=options.seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    )
    study.optimize(objective, n_trials=options.trials)
    test = accuracy(models[study.best_trial.number], test_x, test_y)
    print(json.dumps({"best": study.best_value, "test": test, "epochs": epochs}))


if __name__ == "__main__":
    main()
