"""Stretch pants against the size that fits: equal trials, epochs and data, several seeds, one table.

    python benchmarks/stretch_pants.py                 # 5 seeds: some 10 minutes
    python benchmarks/stretch_pants.py --seeds 2 --samples 4 --epochs 5

held        experiments/stretch_pants.py: 2 x 512 units; dropout and weight decay are searched, early stopping
not held    the same 2 x 512 units; only the learning rate is searched, nothing stops a trial
size fits   experiments/fitted_size.py: layers and units are searched, without regularisation

A seed is a data split, the same for all three. Test figures are of the winner by validation loss. Deviations are over
the seeds; the last column is the mean difference from "held" with the standard error of the paired differences.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytune_hpo import load_experiment, run
from raytune_hpo.results.text_table import text_table
from raytune_hpo.workers.ray_runtime import ray_session

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
NOT_HELD = {"space.dropout": 0.0, "space.weight_decay": 0.0, "early_stopping": None}
WAYS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "held": ("stretch_pants", {}),
    "not held": ("stretch_pants", NOT_HELD),
    "size fits": ("fitted_size", {}),
}
SHOWN = ("validation_loss", "test_loss", "test_accuracy")


def figures(way: str, changes: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """One run: what SHOWN names, of its winner, and `epochs`, trained by all trials."""
    file, own = WAYS[way]
    results = run(load_experiment(EXPERIMENTS / f"{file}.py").override({**own, **changes}), folder, quiet=True)
    best = results.best
    assert best is not None
    assert best.test is not None
    return {"epochs": float(len(results.curves)), "validation_loss": best.metric, **best.test}


def table(found: Mapping[str, list[dict[str, float]]]) -> str:
    """found: way -> the figures of each seed, in one order of the seeds."""
    rows = []
    for way, runs in found.items():
        cells = [way]
        for name in SHOWN:
            values = [figures[name] for figures in runs]
            cells.append(f"{statistics.fmean(values):.4f} ({_deviation(values):.4f})")
        cells.append(f"{statistics.fmean(figures['epochs'] for figures in runs):.0f}")
        pairs = zip(runs, found["held"], strict=True)
        differences = [one["test_accuracy"] - other["test_accuracy"] for one, other in pairs]
        error = _deviation(differences) / len(differences) ** 0.5
        cells.append("-" if way == "held" else f"{statistics.fmean(differences):+.4f} +- {error:.4f}")
        rows.append(cells)
    return text_table(["way", *(f"{name} (deviation)" for name in SHOWN), "epochs", "test accuracy less held's"], rows)


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=16, help="trials of each run")
    parser.add_argument("--epochs", type=int, default=27)
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, ray_session(None, verbose=False):
        for seed in range(options.seeds):
            for way, runs in found.items():
                changes = {"seed": seed, "num_samples": options.samples, "max_epochs": options.epochs}
                runs.append(figures(way, changes, Path(folder) / f"{way} {seed}"))
                print(f"seed {seed}, {way}: {runs[-1]}", file=sys.stderr, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
