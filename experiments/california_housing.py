"""California housing (20,640 districts): the handbook's MLP 8-6-5-4-3-1 with LeakyReLU, Adam, batches of 256.

raytune-hpo run experiments/california_housing.py
raytune-hpo run experiments/california_housing.py --set data_home=DIR
raytune-hpo run experiments/california_housing.py --set num_samples=64 --set max_epochs=81
raytune-hpo pair-plot RUN_DIR

Adam's default settings are tried first. The last command draws y against its prediction. DIR, the environment variable
RAYTUNE_HPO_DATA, or else scikit-learn's own folder holds scikit-learn's copy of the data (cal_housing_py3.pkz); without
a copy they are downloaded once (400 kB).
"""

from raytune_hpo import CaliforniaHousing, Choice, Experiment, Float, run_file

experiment = Experiment(
    name="california_housing",
    task=CaliforniaHousing(),
    space={
        "lr": Float(1e-4, 1e-1, scale="log"),
        "init": Choice(["default", "kaiming_normal", "orthogonal"]),
        "hidden_layers": 4,
        "units_1": 6,
        "units_2": 5,
        "units_3": 4,
        "units_4": 3,
        "activation": "leaky_relu",
        "optimizer": "adam",
        "batch_size": 256,
    },
    metric="validation_rmse",
    searcher="hyperopt",
    scheduler="asha",
    start_points=[{"lr": 1e-3, "init": "default"}],
    num_samples=16,
    max_epochs=27,
)

if __name__ == "__main__":
    run_file(__file__)
