r"""CIFAR-10 with torchvision's ResNet-18 and augmentation, by population-based training.

raytune-hpo run experiments/cifar10_resnet_pbt.py --set data_dir=DIR

As it stands it is a try on 100 images, 4 models and 3 epochs. The whole of CIFAR-10, 16 models, four on a GPU:

raytune-hpo run experiments/cifar10_resnet_pbt.py --set data_dir=DIR --set train_samples=45000 \
  --set validation_samples=5000 --set test_samples=10000 --set num_samples=16 --set max_epochs=100 \
  --set scheduler.interval=5 --set resources.gpus=0.25 --set space.precision=bfloat16

DIR, or else the environment variable RAYTUNE_HPO_DATA, names a folder that holds cifar-10-batches-py, unpacked from
cifar-10-python.tar.gz; nothing is downloaded.
"""

from raytune_hpo import Cifar10, Experiment, Float, run_file

experiment = Experiment(
    name="cifar10_resnet_pbt",
    task=Cifar10(train_samples=100, validation_samples=50, test_samples=50),
    space={
        "lr": Float(1e-3, 1.0, scale="log"),
        "momentum": Float(0.8, 0.99, scale="reverse_log"),
        "weight_decay": Float(1e-5, 1e-2, scale="log"),
        "label_smoothing": Float(0.0, 0.2),
        "optimizer": "sgd",
        "nesterov": True,
        "batch_size": 128,
        "precision": "float32",
    },
    searcher="random",
    scheduler={"name": "pbt", "interval": 1},
    num_samples=4,
    max_epochs=3,
)

if __name__ == "__main__":
    run_file(__file__)
