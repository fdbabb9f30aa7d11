"""Handwritten digits (1,797 real images of scikit-learn): an MLP, 64 trials, searcher and scheduler by themselves.

raytune-hpo run experiments/digits.py
raytune-hpo run experiments/digits.py --set num_samples=128 --set seed=3
"""

from raytune_hpo import Choice, Experiment, Float, Int, run_file

experiment = Experiment(
    name="digits",
    task="digits",
    space={
        "optimizer": Choice(["sgd", "adam"]),
        "lr": Float(1e-4, 1.0, scale="log"),
        "momentum": Float(0.5, 0.99, scale="reverse_log").when("optimizer", "==", "sgd"),
        "batch_size": Int(16, 256, scale="power_of_two"),
        "hidden_layers": Int(1, 3),
        "hidden_units": Int(16, 256, scale="power_of_two"),
        "dropout": Float(0.0, 0.5),
        "batch_norm": Choice([False, True]),
        "weight_decay": Float(1e-6, 1e-2, scale="log"),
        "activation": Choice(["relu", "tanh", "silu"]),
        "lr_schedule": "cosine",
    },
    num_samples=64,
    max_epochs=27,
)

if __name__ == "__main__":
    run_file(__file__)
