"""y = x + 10, known on 0..99, asked for on 100..199: the search has to find out that only a linear activation goes on.

raytune-hpo run experiments/linear_extrapolation.py
raytune-hpo run experiments/linear_extrapolation.py --set num_samples=64

16 hidden units, Adam, mean squared error, 100 epochs. 0..79 are trained on and 80..99 validate, so that the choice
rewards going beyond the known points. x, y and so the RMSE are standardised by the training points (deviation 23.09).
"""

from raytune_hpo import Choice, Experiment, Float, Int, run_file

experiment = Experiment(
    name="linear_extrapolation",
    task="linear",
    space={
        "activation": Choice(["relu", "leaky_relu", "tanh", "sigmoid", "elu", "gelu", "silu", "linear"]),
        "lr": Float(1e-3, 1e-1, scale="log"),
        "batch_size": Int(8, 32, scale="power_of_two"),
        "lr_schedule": Choice(["constant", "cosine"]),
        "hidden_units": 16,
    },
    metric="validation_rmse",
    searcher="hyperopt",
    scheduler={"name": "asha", "grace_period": 10},
    num_samples=32,
    max_epochs=100,
)

if __name__ == "__main__":
    run_file(__file__)
