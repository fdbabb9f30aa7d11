"""Digits by BOHB: Hyperband's brackets, filled by a model of the good and the bad configs at the largest budget known.

raytune-hpo run experiments/digits_bohb.py
raytune-hpo run experiments/digits_bohb.py --set num_samples=200 --set max_epochs=81
raytune-hpo run experiments/digits_bohb.py --set scheduler=asha
"""

from raytune_hpo import Choice, Experiment, Float, Int, run_file

experiment = Experiment(
    name="digits_bohb",
    task="digits",
    space={
        "optimizer": Choice(["sgd", "adam"]),
        "lr": Float(1e-4, 1.0, scale="log"),
        "momentum": Float(0.5, 0.99, scale="reverse_log").when("optimizer", "==", "sgd"),
        "weight_decay": Float(1e-6, 1e-1, scale="log"),
        "hidden_units": Int(16, 256, scale="power_of_two"),
        "batch_size": Int(16, 256, scale="power_of_two"),
    },
    searcher="bohb",
    scheduler="hyperband",
    num_samples=40,
    max_epochs=27,
)

if __name__ == "__main__":
    run_file(__file__)
