"""Stretch pants: a model larger than needed, held by dropout, weight decay and early stopping. Digits, 359 to train on.

raytune-hpo run experiments/stretch_pants.py
raytune-hpo run experiments/stretch_pants.py --set num_samples=64

The other way, to search the size that fits, is experiments/fitted_size.py: same data, trials, epochs and search.
benchmarks/stretch_pants.py runs both from several seeds and prints the table.
"""

from raytune_hpo import Digits, EarlyStopping, Experiment, Float, run_file

experiment = Experiment(
    name="stretch_pants",
    task=Digits(validation_fraction=0.4, test_fraction=0.4),
    space={
        "lr": Float(1e-4, 3e-2, scale="log"),
        "dropout": Float(0.0, 0.8),
        "weight_decay": Float(1e-5, 1.0, scale="log"),
        "optimizer": "adamw",
        "hidden_layers": 2,
        "hidden_units": 512,
        "batch_size": 32,
    },
    metric="validation_loss",
    early_stopping=EarlyStopping(patience=4),
    searcher="hyperopt",
    scheduler="fifo",
    num_samples=16,
    max_epochs=27,
)

if __name__ == "__main__":
    run_file(__file__)
