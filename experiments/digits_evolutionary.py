"""Digits by a genetic algorithm that never waits for a generation's slowest trial.

raytune-hpo run experiments/digits_evolutionary.py
raytune-hpo run experiments/digits_evolutionary.py --set num_samples=200 --set searcher.population=30
raytune-hpo run experiments/digits_evolutionary.py --set searcher=cmaes
"""

from raytune_hpo import Choice, Experiment, Float, Int, run_file

experiment = Experiment(
    name="digits_evolutionary",
    task="digits",
    space={
        "optimizer": Choice(["sgd", "adam", "rmsprop"]),
        "lr": Float(1e-4, 1.0, scale="log"),
        "momentum": Float(0.5, 0.99, scale="reverse_log").when("optimizer", "==", "sgd"),
        "hidden_layers": Int(1, 3),
        "hidden_units": Int(16, 256, scale="power_of_two"),
        "batch_size": Int(16, 256, scale="power_of_two"),
        "activation": Choice(["relu", "tanh", "silu"]),
        "dropout": Float(0.0, 0.5),
    },
    searcher="evolutionary",
    scheduler="asha",
    num_samples=40,
    max_epochs=9,
)

if __name__ == "__main__":
    run_file(__file__)
