"""MNIST by grid search on one validation split: the handbook's one hidden layer, 784-h-10, 27 points.

raytune-hpo run experiments/mnist_grid.py
raytune-hpo run experiments/mnist_grid.py --set train_samples=50000 --set validation_samples=10000
raytune-hpo run experiments/mnist_grid.py --set data_dir=DIR

With 5-fold cross-validation it is experiments/mnist_grid_cv.py. As it stands it trains on 2,000 images; the second
command takes all. DIR, or else the environment variable RAYTUNE_HPO_DATA, names a folder that holds MNIST/raw; without
a copy the data are downloaded once (11 MB).
"""

from raytune_hpo import Choice, Experiment
from raytune_hpo.tasks import Mnist

experiment = Experiment(
    name="mnist_grid",
    task=Mnist(train_samples=2000, validation_samples=1000),
    space={
        "hidden_units": Choice([128, 256, 512], ordered=True),
        "batch_size": Choice([64, 128, 256], ordered=True),
        "lr": Choice([1e-2, 1e-3, 1e-4], ordered=True),
    },
    searcher="grid",
    scheduler="fifo",
    max_epochs=5,
    seed=42,
)
