"""What a trial costs besides its training: do-nothing trials, ours against plain Ray Tune, in turns.

    python benchmarks/overhead.py                      # 200 trials of 10 epochs, 5 repeats, about 10 minutes
    python benchmarks/overhead.py --trials 50 --repeats 1

Contestants, each in a process of its own with a Ray of its own, started before the clock:
    raytune_hpo    run(), results durable (every step is journaled and synced before the next)
    tuned          tune.Tuner with reuse_actors=True and loggers off: nothing but Ray's snapshots on disk
    durable        the same with Ray's result loggers on: results on disk, not synced
    default        tune.Tuner as it comes, of fewer trials (--default-trials), since each starts a process

Printed: the median over the repeats with minimum and maximum; CPU seconds are of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measured import watched

CONTESTANTS = ("raytune_hpo", "tuned", "durable", "default")


def nothing(config: dict[str, Any]) -> None:
    from ray import tune

    for epoch in range(config["epochs"]):
        tune.report({"score": config["x"] + epoch})


def one(contestant: str, trials: int, epochs: int, folder: str) -> dict[str, float]:
    """One run, measured from the call that starts it to the one that has its results."""
    from raytune_hpo.workers.ray_runtime import ray_session

    if contestant in ("durable", "default"):
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "0"
    # watched: workers have ended before the run has, and nobody waits for their CPU time.
    with ray_session(None, verbose=False), watched() as spent:
        began = time.perf_counter()
        reported = (
            _ours(trials, epochs, folder) if contestant == "raytune_hpo" else _ray(contestant, trials, epochs, folder)
        )
        wall = time.perf_counter() - began
    assert reported == trials * epochs, (reported, trials * epochs)
    return {
        "trials_per_s": trials / wall,
        "results_per_s": trials * epochs / wall,
        "wall_s": wall,
        "cpu_ms_per_trial": spent.cpu_s / trials * 1e3,
    }


def _ours(trials: int, epochs: int, folder: str) -> int:
    from raytune_hpo import Experiment, Float, run

    experiment = Experiment(
        name="overhead",
        task=nothing,
        space={"x": Float(0, 1), "epochs": epochs},
        metric="score",
        mode="max",
        scheduler="fifo",
        num_samples=trials,
        max_epochs=epochs + 1,
    )
    return len(run(experiment, Path(folder) / "run").curves)


def _ray(contestant: str, trials: int, epochs: int, folder: str) -> int:
    from ray import tune

    # Ray's own console output would be measured as well.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    tuner = tune.Tuner(
        nothing,
        param_space={"x": tune.uniform(0, 1), "epochs": epochs},
        tune_config=tune.TuneConfig(
            metric="score", mode="max", num_samples=trials, reuse_actors=contestant != "default"
        ),
        run_config=tune.RunConfig(storage_path=folder, name="ray", verbose=0),
    )
    results = tuner.fit()
    assert not results.errors
    return sum(r.metrics["training_iteration"] for r in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--default-trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(one(options.only, options.trials, options.epochs, folder)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(options.repeats):
        for name in CONTESTANTS:
            trials = options.default_trials if name == "default" else options.trials
            done = subprocess.run(
                [sys.executable, __file__, "--only", name, "--trials", str(trials), "--epochs", str(options.epochs)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(done.stderr)
            found[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
    sizes = f"{options.trials} trials of {options.epochs} epochs ({options.default_trials} for default)"
    print(f"{sizes}, {options.repeats} repeats, {os.cpu_count()} cores")
    print(f"{'':12}  {'trials/s':>22}  {'results/s':>22}  {'CPU ms/trial':>22}")
    for name, rows in found.items():
        cells = []
        for key in ("trials_per_s", "results_per_s", "cpu_ms_per_trial"):
            values = [row[key] for row in rows]
            cells.append(f"{statistics.median(values):.3g} ({min(values):.3g}..{max(values):.3g})")
        print(f"{name:12}  " + "  ".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
