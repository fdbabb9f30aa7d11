"""Digits, coarse to fine: five rounds, each in a smaller box round the best of the one before, trained longer.

raytune-hpo run experiments/digits_coarse_to_fine.py
raytune-hpo run experiments/digits_coarse_to_fine.py --set searcher.samples=100

As it stands a round has 12 samples; the handbook's has about 100. A round trains twice as long as the one before:
2, 4, 7, 14 and 27 epochs.
"""

from raytune_hpo import Experiment, Float, Int, run_file

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
    searcher={"name": "coarse_to_fine", "samples": 12},
    scheduler="fifo",
    max_epochs=27,
)

if __name__ == "__main__":
    run_file(__file__)
