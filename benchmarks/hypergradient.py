"""Hypergradients against the best fixed learning rate, on the real digits: from far too low and far too high.

    python benchmarks/hypergradient.py                          # 8 seeds, 30 epochs: about 15 minutes on one core
    python benchmarks/hypergradient.py --seeds 3 --epochs 20

For each optimizer a sweep of fixed learning rates, half a decade apart, gives the best one: the one with the
highest median final validation accuracy over the seeds. Then the same model trains for the same epochs by
hypergradients, from 100 times less, from that rate itself, and from 10 times more. A seed decides the split, the
weights and the order of the data, alike for fixed and moved rates. Printed: final validation accuracy, median,
minimum and maximum over the seeds; `below` is the best fixed rate's median less this one's.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable
from typing import Any

from raytune_hpo import Float
from raytune_hpo.settings import Hypergradient
from raytune_hpo.tasks import Digits
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.hypergradient import HypergradientTrainer
from raytune_hpo.training.trainer import SupervisedTrainer, Trainer, fit

SPACE = {"lr": Float(1e-4, 10.0, "log")}
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
FACTORS = (0.01, 1, 10)
ROW = "{:10} {:34} {:>8} {:>8} {:>8} {:>8} {:>10}"


def trainer(data: TrialData, epochs: int, settings: Hypergradient | None) -> Trainer:
    if settings is None:
        return SupervisedTrainer(Digits(), data, max_epochs=epochs, device="cpu")
    return HypergradientTrainer(
        Digits(), data, max_epochs=epochs, device="cpu", hypergradient=settings, space_parameters=SPACE
    )


def final(
    config: dict[str, Any], seeds: Iterable[int], epochs: int, settings: Hypergradient | None
) -> list[dict[str, float]]:
    """The last epoch's metrics of each seed."""
    found = []
    for seed in seeds:
        trial = trainer(Digits().load(seed).for_trials(), epochs, settings)
        trial.setup(config, seed)
        found.append(list(fit(trial, epochs))[-1])
    return found


def show(optimizer: str, label: str, metrics: list[dict[str, float]], best: float | None = None) -> float:
    """Print a row; the median score."""
    scores = [m["validation_accuracy"] for m in metrics]
    median, last = statistics.median(scores), statistics.median(m["lr"] for m in metrics)
    shown = [f"{score:.4f}" for score in (median, min(scores), max(scores))]
    below = "" if best is None else f"{best - median:.4f}"
    print(ROW.format(optimizer, label, *shown, below, f"{last:.2g}"), flush=True)
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--optimizers", nargs="+", default=["sgd", "adam", "rmsprop"])
    options = parser.parse_args()
    print(ROW.format("optimizer", "learning rate", "median", "min", "max", "below", "last lr"))
    seeds = range(options.seeds)
    for optimizer in options.optimizers:
        config = {"optimizer": optimizer, "hidden_units": 64}
        best, best_lr = 0.0, 0.0
        for lr in RATES:
            found = final({**config, "lr": lr}, seeds, options.epochs, None)
            best, best_lr = max((best, best_lr), (show(optimizer, f"fixed {lr:g}", found), lr))
        for factor in FACTORS:
            found = final({**config, "lr": best_lr * factor}, seeds, options.epochs, Hypergradient())
            show(optimizer, f"moved from {best_lr * factor:.3g} ({factor:g} x {best_lr:g})", found, best)


if __name__ == "__main__":
    main()
