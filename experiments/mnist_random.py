"""MNIST by random search with 5-fold cross-validation: the handbook's one hidden layer, 784-h-10, 50 samples, seed 42.

raytune-hpo run experiments/mnist_random.py
raytune-hpo run experiments/mnist_random.py --set train_samples=50000 --set validation_samples=10000
raytune-hpo run experiments/mnist_random.py --set data_dir=DIR

As it stands the folds share 3,000 images; the second command takes all 60,000. DIR, or else the environment
variable RAYTUNE_HPO_DATA, names a folder that holds MNIST/raw; without a copy the data are downloaded once (11 MB).
"""

from raytune_hpo import Experiment, Float, Int, Mnist, run_file

experiment = Experiment(
    name="mnist_random",
    task=Mnist(train_samples=2000, validation_samples=1000),
    space={
        "hidden_units": Int(128, 512, step=128),
        "lr": Float(1e-4, 1e-1, scale="log"),
        "batch_size": 64,
    },
    searcher="random",
    scheduler="fifo",
    folds=5,
    num_samples=50,
    max_epochs=5,
    seed=42,
)

if __name__ == "__main__":
    run_file(__file__)
