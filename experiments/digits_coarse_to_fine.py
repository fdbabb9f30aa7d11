"""Digits, coarse to fine: three rounds, each in a smaller box round the best of the one before, trained longer.

raytune-hpo run experiments/digits_coarse_to_fine.py
raytune-hpo run experiments/digits_coarse_to_fine.py --set searcher.samples=100

As it stands a round has 16 samples; the handbook's has about 100. The epochs of a round are three times the last one's:
3, 9, 27.
"""

from raytune_hpo import Experiment, Float, Int

experiment = Experiment(
    name="digits_coarse_to_fine",
    task="digits",
    space={
        "lr": Float(1e-4, 1.0, scale="log"),
        "beta1": Float(0.5, 0.99, scale="reverse_log"),
        "weight_decay": Float(1e-6, 1e-1, scale="log"),
        "hidden_units": Int(16, 256, scale="power_of_two"),
        "batch_size": Int(16, 256, scale="power_of_two"),
    },
    searcher={"name": "coarse_to_fine", "samples": 16},
    scheduler="fifo",
    max_epochs=27,
)
