"""MNIST with a small CNN: kernel size, filters, layers, initialisation, activation, dropout; TPE with ASHA.

raytune-hpo run experiments/mnist_cnn.py
raytune-hpo run experiments/mnist_cnn.py --set train_samples=50000 --set validation_samples=10000 --set num_samples=64
raytune-hpo run experiments/mnist_cnn.py --set data_dir=DIR

As it stands it trains on 2,000 images; the second command takes all. DIR, or else the environment variable
RAYTUNE_HPO_DATA, names a folder that holds MNIST/raw; without a copy the data are downloaded once (11 MB).
"""

from raytune_hpo import Choice, Experiment, Float, Int, MnistCnn, run_file

experiment = Experiment(
    name="mnist_cnn",
    task=MnistCnn(train_samples=2000, validation_samples=1000),
    space={
        "kernel_size": Choice([3, 5, 7], ordered=True),
        "filters": Int(4, 16, scale="power_of_two"),
        "conv_layers": Int(1, 3),
        "init": Choice(["default", "xavier_uniform", "kaiming_normal", "orthogonal"]),
        "activation": Choice(["relu", "leaky_relu", "tanh", "silu"]),
        "dropout": Float(0.0, 0.5),
        "batch_norm": Choice([False, True]),
        "lr": Float(3e-4, 3e-2, scale="log"),
        "batch_size": 64,
    },
    searcher="hyperopt",
    scheduler="asha",
    num_samples=24,
    max_epochs=9,
    seed=42,
)

if __name__ == "__main__":
    run_file(__file__)
