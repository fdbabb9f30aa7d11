"""optuna_quadratic.py as a user of raytune_hpo writes it: the same 100 evaluations, by TPE.

    python benchmarks/peers/ours_quadratic.py
    python benchmarks/peers/ours_quadratic.py --tune --executor processes    # reports by ray.tune.report

The run is put below the current folder, as it is by default. Printed: one JSON line, {"best": the smallest value}.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import raytune_hpo


def quadratic(config: dict[str, Any]) -> None:
    raytune_hpo.report({"y": (config["x"] - 2) ** 2})


def quadratic_of_tune(config: dict[str, Any]) -> None:
    from ray import tune

    tune.report({"y": (config["x"] - 2) ** 2})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--executor", default="inline")
    parser.add_argument("--tune", action="store_true", help="report by ray.tune.report")
    options = parser.parse_args()
    experiment = raytune_hpo.Experiment(
        name="quadratic",
        task=quadratic_of_tune if options.tune else quadratic,
        space={"x": raytune_hpo.Float(-10, 10)},
        metric="y",
        mode="min",
        searcher="hyperopt",
        scheduler="fifo",
        num_samples=options.trials,
        seed=options.seed,
        executor=options.executor,
    )
    results = raytune_hpo.run(experiment)
    assert results.best is not None
    print(json.dumps({"best": results.best.metric}))


if __name__ == "__main__":
    main()
