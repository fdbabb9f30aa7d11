"""Panda against caviar on the digits: the same compute in epochs, spent on one model with care, or on many at once.

python experiments/panda_vs_caviar.py                        (both ways and one table, about two minutes)
python experiments/panda_vs_caviar.py --set num_samples=64   (more of both)
raytune-hpo run experiments/panda_vs_caviar.py               (the caviar way alone)
raytune-hpo panda experiments/panda_vs_caviar.py             (the panda way alone)
"""

import argparse

import pandas as pd

from raytune_hpo import Choice, Experiment, Float, Int, parse_changes, run

experiment = Experiment(
    name="panda_vs_caviar",
    task="digits",
    space={
        "optimizer": Choice(["sgd", "adam"]),
        "lr": Float(1e-4, 1.0, scale="log"),
        "batch_size": Int(16, 256, scale="power_of_two"),
        "hidden_units": Int(16, 256, scale="power_of_two"),
        "dropout": Float(0.0, 0.5),
    },
    searcher="random",
    scheduler="asha",
    num_samples=27,
    max_epochs=27,
)

FORKS = 1.2  # the panda trains 2 epochs in 10 twice, with a nudge and without


def compare(caviar: Experiment) -> str:
    """Run both ways, one after the other, and tell both results as a table."""
    rows = []
    many = run(caviar)
    epochs = len(many.curves)
    one = run(caviar.as_panda({"name": "panda", "max_epochs": max(1, int(epochs / FORKS))}))
    for way, results in (("caviar: many models, the best kept", many), ("panda: one model, cared for", one)):
        assert results.best is not None
        assert results.best.test is not None
        row = {"way": way, "models": len(results.trials), "epochs": len(results.curves)}
        row |= {"best validation": round(results.best.metric, 4), "test": round(results.best.test["test_accuracy"], 4)}
        rows.append({**row, "seconds": round(results.seconds)})
    return pd.DataFrame(rows).to_string(index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", dest="changes")
    print(compare(experiment.override(parse_changes(parser.parse_args().changes))))
