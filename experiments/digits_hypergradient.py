"""Digits by hypergradients: learning rate and weight decay follow the gradient of the validation loss while training.

raytune-hpo run experiments/digits_hypergradient.py
raytune-hpo run experiments/digits_hypergradient.py --set num_samples=32 --set hypergradient.every=5

The search is random: it chooses where each trial starts.
"""

from raytune_hpo import Experiment, Float, Int, run_file

experiment = Experiment(
    name="digits_hypergradient",
    task="digits",
    space={
        "lr": Float(1e-5, 1.0, scale="log"),
        "weight_decay": Float(1e-6, 1e-1, scale="log"),
        "hidden_units": Int(32, 128, scale="power_of_two"),
        "batch_size": 32,
    },
    hypergradient={"parameters": ["lr", "weight_decay"]},
    searcher="random",
    scheduler="fifo",
    num_samples=8,
    max_epochs=15,
)

if __name__ == "__main__":
    run_file(__file__)
