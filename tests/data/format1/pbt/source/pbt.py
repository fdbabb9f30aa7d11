from raytune_hpo import Experiment, Float

experiment = Experiment(
    name="pbt",
    task="digits",
    space={
        "lr": Float(1e-4, 1.0, "log"),
        "weight_decay": Float(1e-6, 1e-2, "log"),
        "hidden_units": 4,
        "batch_size": 512,
    },
    scheduler={"name": "pbt", "interval": 2},
    num_samples=4,
    max_epochs=8,
    max_concurrent=1,
    seed=2,
    executor="processes",
    checkpoint={"keep": 1, "keep_trials": 1},
)
