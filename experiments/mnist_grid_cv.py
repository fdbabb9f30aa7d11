"""MNIST by grid search with 5-fold cross-validation: the handbook's one hidden layer, 784-h-10, 27 points.

raytune-hpo run experiments/mnist_grid_cv.py
raytune-hpo run experiments/mnist_grid_cv.py --set train_samples=50000 --set validation_samples=10000
raytune-hpo run experiments/mnist_grid_cv.py --set data_dir=DIR

As it stands the folds share 3,000 images; the second command takes all 60,000. DIR, or else the environment
variable RAYTUNE_HPO_DATA, names a folder that holds MNIST/raw; without a copy the data are downloaded once (11 MB).
"""

from raytune_hpo import Choice, Experiment, Mnist, run_file

experiment = Experiment(
    name="mnist_grid_cv",
    task=Mnist(train_samples=2000, validation_samples=1000),
    space={
        "hidden_units": Choice([128, 256, 512], ordered=True),
        "batch_size": Choice([64, 128, 256], ordered=True),
        "lr": Choice([1e-2, 1e-3, 1e-4], ordered=True),
    },
    searcher="grid",
    scheduler="fifo",
    folds=5,
    max_epochs=5,
    seed=42,
)

if __name__ == "__main__":
    run_file(__file__)
