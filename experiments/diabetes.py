"""Diabetes (442 real patients of scikit-learn): regression by an MLP, TPE with ASHA, 5-fold cross-validation.

raytune-hpo run experiments/diabetes.py
raytune-hpo run experiments/diabetes.py --set num_samples=64
raytune-hpo pair-plot RUN_DIR

The last command draws what the winner predicts of each validation sample against what was measured. The network of
experiments/california_housing.py, 8-6-5-4-3-1 with LeakyReLU, is tried first.
"""

from raytune_hpo import Choice, Experiment, Float, Int, run_file

experiment = Experiment(
    name="diabetes",
    task="diabetes",
    space={
        "hidden_layers": Int(1, 4),
        "units_1": Int(2, 64, scale="power_of_two"),
        "units_2": Int(2, 64, scale="power_of_two").when("hidden_layers", ">=", 2),
        "units_3": Int(2, 64, scale="power_of_two").when("hidden_layers", ">=", 3),
        "units_4": Int(2, 64, scale="power_of_two").when("hidden_layers", ">=", 4),
        "activation": Choice(["leaky_relu", "tanh"]),
        "lr": Float(1e-4, 1e-1, scale="log"),
        "weight_decay": Float(1e-4, 1.0, scale="log"),
        "batch_size": Int(16, 256, scale="power_of_two"),
    },
    metric="validation_rmse",
    searcher="hyperopt",
    scheduler="asha",
    folds=5,
    num_samples=32,
    max_epochs=27,
)

if __name__ == "__main__":
    run_file(__file__)
