"""The size that fits: layers and units are searched, nothing holds the model. Digits, 359 to train on.

raytune-hpo run experiments/fitted_size.py
raytune-hpo run experiments/fitted_size.py --set num_samples=64

The other way is experiments/stretch_pants.py: a model larger than needed, and regularisation.
"""

from raytune_hpo import Digits, Experiment, Float, Int, run_file

experiment = Experiment(
    name="fitted_size",
    task=Digits(validation_fraction=0.4, test_fraction=0.4),
    space={
        "lr": Float(1e-4, 3e-2, scale="log"),
        "hidden_layers": Int(1, 3),
        "hidden_units": Int(8, 256, scale="power_of_two"),
        "optimizer": "adamw",
        "weight_decay": 0.0,
        "batch_size": 32,
    },
    metric="validation_loss",
    searcher="hyperopt",
    scheduler="fifo",
    num_samples=16,
    max_epochs=27,
)

if __name__ == "__main__":
    run_file(__file__)
