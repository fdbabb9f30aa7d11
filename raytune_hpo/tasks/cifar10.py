"""CIFAR-10: 60,000 colour images of 32 x 32 pixels, 10 classes (Krizhevsky 2009), with torchvision's ResNet-18."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.tasks.data_folders import DATA_VARIABLE, named_folders
from raytune_hpo.tasks.images import ImageTask
from raytune_hpo.training.data import Array
from raytune_hpo.training.hyperparameters import Hyperparameter, resolve

if TYPE_CHECKING:
    import torch

CLASSES = 10
FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{k}" for k in range(1, 6))
TEST_FILES = ("test_batch",)
SHAPE = (3, 32, 32)
PADDING = 4

# Of the 50,000 training images, a channel each, pixels in [0, 1].
MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
DEVIATION = np.array([0.2470, 0.2435, 0.2616], np.float32)

HEAD_DROPOUT = Hyperparameter("dropout", "float", 0.0, "dropout before the last layer", low=0, high=1, open_high=True)


@dataclass(frozen=True)
class Cifar10(ImageTask):
    """ResNet-18 on CIFAR-10. x: [n, 3, 32, 32] float32, standardised by channel; y: [n] int64. Options: `ImageTask`.

    The batches are read in CIFAR's own format, from `data_dir` or the folder that the environment variable
    RAYTUNE_HPO_DATA names; either may hold cifar-10-batches-py or be that folder. Nothing is downloaded.

    The network is torchvision's ResNet-18 with a first convolution of 3 x 3 pixels and stride 1 and without the first
    pooling, as He et al. 2016 have it for images of this size. Training batches are augmented as there: a random
    crop of the image padded by 4 pixels, mirrored at random.
    """

    data_name: ClassVar = "cifar10"

    validation_samples: int = 5_000

    def prepare(self) -> None:
        self.check()
        self._folder()

    def read(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """See `ImageTask`. Raises ExperimentError where the files are missing or damaged."""
        folder = self._folder()
        return _read(folder, TRAIN_FILES), _read(folder, TEST_FILES)

    def pixels(self, images: Array) -> Array:
        """[n, 3, 32, 32] uint8 -> the same in float32, each channel with mean 0 and deviation 1."""
        x = images.astype(np.float32)
        x /= 255
        x -= MEAN[:, None, None]
        x /= DEVIATION[:, None, None]
        return x

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        """Random crops of the padded images, each mirrored with probability 1/2. x: [N, 3, 32, 32]."""
        import torch
        from torch.nn import functional

        N, _, height, width = x.shape
        # Drawn on the CPU, so that a trial sees the same crops whatever its device is.
        top, left = torch.randint(2 * PADDING + 1, (2, N, 1)).to(x.device, non_blocking=True)
        mirrored = (torch.rand(N, 1) < 0.5).to(x.device, non_blocking=True)
        columns = torch.arange(width, device=x.device).expand(N, width)
        columns = torch.where(mirrored, columns.flip(1), columns) + left
        rows = torch.arange(height, device=x.device) + top
        padded = functional.pad(x, [PADDING] * 4)
        image = torch.arange(N, device=x.device)[:, None, None]
        # An index between slices puts the indexed axes first: [N, height, width, 3].
        return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return {HEAD_DROPOUT.name: HEAD_DROPOUT}

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        from torch import nn
        from torchvision.models import resnet18

        network: Any = resnet18(weights=None, num_classes=CLASSES)
        network.conv1 = nn.Conv2d(SHAPE[0], 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own
        network.maxpool = nn.Identity()
        network.fc = nn.Sequential(nn.Dropout(resolve(config, self.model_hyperparameters())["dropout"]), network.fc)
        model: nn.Module = network
        return model

    def _folder(self) -> Path:
        """The folder that holds the six files. Raises ExperimentError that says how to get it."""
        named = named_folders(self.data_dir)
        for root in named:
            for folder in (root / FOLDER, root):
                if all((folder / name).is_file() for name in (*TRAIN_FILES, *TEST_FILES)):
                    return folder
        raise ExperimentError(
            "data_dir",
            str(named[0]) if named else None,
            f"no {FOLDER} here; unpack cifar-10-python.tar.gz (163 MiB, from the CIFAR-10 page of the University of "
            f"Toronto) and name the folder that holds {FOLDER} by data_dir or the environment variable {DATA_VARIABLE}",
        )


class _Unpickler(pickle.Unpickler):
    """Reads arrays and plain containers only: a pickle can otherwise run anything."""

    ALLOWED = frozenset(
        {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
        | {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}
        | {(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")}
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        if ".core." in module:
            module = module.replace(".core.", "._core.")
        return super().find_class(module, name)


def _read(folder: Path, names: tuple[str, ...]) -> tuple[Array, Array]:
    """images: [n, 3, 32, 32] uint8; classes: [n] int64; the files one after the other. Raises ExperimentError."""
    images, classes = [], []
    for name in names:
        try:
            with (folder / name).open("rb") as file:
                batch = _Unpickler(file, encoding="latin1").load()  # pickled by Python 2
            x, y = np.asarray(batch["data"]), np.asarray(batch["labels"])
            if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != np.prod(SHAPE) or y.shape != (len(x),):
                raise ValueError(f"images {x.shape} {x.dtype}, labels {y.shape}")
            if y.dtype.kind != "i" or not ((y >= 0) & (y < CLASSES)).all():
                raise ValueError("labels outside 0..9")
        except Exception as error:  # a damaged pickle raises nearly anything
            reason = f"{type(error).__name__}: {error}"
            raise ExperimentError("data_dir", str(folder / name), f"is no batch of CIFAR-10 ({reason})") from error
        images.append(x.reshape(-1, *SHAPE))
        classes.append(y.astype(np.int64))
    return np.concatenate(images), np.concatenate(classes)
