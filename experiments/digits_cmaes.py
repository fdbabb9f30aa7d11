"""Digits by CMA-ES: five continuous hyperparameters, each in its own scale.

raytune-hpo run experiments/digits_cmaes.py
raytune-hpo run experiments/digits_cmaes.py --set num_samples=200
"""

from raytune_hpo import Experiment, Float, run_file

experiment = Experiment(
    name="digits_cmaes",
    task="digits",
    space={
        "lr": Float(1e-4, 1.0, scale="log"),
        "beta1": Float(0.5, 0.99, scale="reverse_log"),
        "beta2": Float(0.9, 0.9999, scale="reverse_log"),
        "weight_decay": Float(1e-6, 1e-1, scale="log"),
        "dropout": Float(0.0, 0.8),
        "hidden_units": 64,
        "batch_size": 32,
    },
    searcher="cmaes",
    scheduler="asha",
    num_samples=40,
    max_epochs=9,
)

if __name__ == "__main__":
    run_file(__file__)
