"""The program of Ray's issue 11004: 100 evaluations of (x - 2)**2, x in [-10, 10], by Optuna's TPE.

Printed: one JSON line, {"best": the smallest value}.
"""

from __future__ import annotations

import argparse
import json

import optuna


def objective(trial: optuna.Trial) -> float:
    return (trial.suggest_float("x", -10, 10) - 2) ** 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=options.seed))
    study.optimize(objective, n_trials=options.trials)
    print(json.dumps({"best": study.best_value}))


if __name__ == "__main__":
    main()
