"""MNIST by random search: the handbook's one hidden layer, 784-h-10, 50 samples.

raytune-hpo run experiments/mnist_random.py
raytune-hpo run experiments/mnist_random.py --set data_dir=DIR

DIR, or else the environment variable RAYTUNE_HPO_DATA, names a folder that holds MNIST/raw; without a copy
the data are downloaded once (11 MB).
"""

from raytune_hpo import Experiment, Float, Int
from raytune_hpo.tasks import Mnist

experiment = Experiment(
    name="mnist_random",
    task=Mnist(),
    space={
        "hidden_units": Int(128, 512, step=128),
        "lr": Float(1e-4, 1e-1, scale="log"),
        "batch_size": 64,
    },
    searcher="random",
    scheduler="fifo",
    num_samples=50,
    max_epochs=5,
    seed=42,
)
