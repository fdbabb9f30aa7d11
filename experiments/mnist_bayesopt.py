"""MNIST by Bayesian optimisation: the handbook's one hidden layer, 784-h-10, 2 random points and 10 more.

raytune-hpo run experiments/mnist_bayesopt.py
raytune-hpo run experiments/mnist_bayesopt.py --set train_samples=50000 --set validation_samples=10000
raytune-hpo run experiments/mnist_bayesopt.py --set data_dir=DIR

As it stands it trains on 2,000 images; the second command takes all. DIR, or else the environment variable
RAYTUNE_HPO_DATA, names a folder that holds MNIST/raw; without a copy the data are downloaded once (11 MB).
"""

from raytune_hpo import Experiment, Float, Int, Mnist, run_file

experiment = Experiment(
    name="mnist_bayesopt",
    task=Mnist(train_samples=2000, validation_samples=1000),
    space={
        "hidden_units": Int(128, 512),
        "batch_size": Int(64, 256),
        "lr": Float(1e-4, 1e-1, scale="log"),
    },
    searcher={"name": "bayesopt", "n_initial": 2},
    scheduler="fifo",
    num_samples=12,
    max_epochs=5,
    seed=42,
)

if __name__ == "__main__":
    run_file(__file__)
