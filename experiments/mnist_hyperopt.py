"""MNIST by TPE with ASHA: the handbook's one hidden layer, 784-h-10, 30 samples.

raytune-hpo run experiments/mnist_hyperopt.py
raytune-hpo run experiments/mnist_hyperopt.py --set train_samples=50000 --set validation_samples=10000
raytune-hpo run experiments/mnist_hyperopt.py --set data_dir=DIR

As it stands it trains on 2,000 images; the second command takes all. DIR, or else the environment variable
RAYTUNE_HPO_DATA, names a folder that holds MNIST/raw; without a copy the data are downloaded once (11 MB).
"""

from raytune_hpo import Experiment, Float, Int, Mnist, run_file

experiment = Experiment(
    name="mnist_hyperopt",
    task=Mnist(train_samples=2000, validation_samples=1000),
    space={
        "hidden_units": Int(128, 512, step=128),
        "batch_size": Int(64, 256, scale="power_of_two"),
        "lr": Float(1e-4, 1e-1, scale="log"),
    },
    searcher="hyperopt",
    scheduler="asha",
    num_samples=30,
    max_epochs=9,
    seed=42,
)

if __name__ == "__main__":
    run_file(__file__)
