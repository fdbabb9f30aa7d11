"""MNIST: 70,000 grey images of 28 x 28 pixels, 10 classes (LeCun, Cortes & Burges 1998)."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.tasks.data_folders import DATA_VARIABLE, answers, cache_folder, named_folders, quiet_download
from raytune_hpo.tasks.images import ImageTask
from raytune_hpo.training.data import Array
from raytune_hpo.training.hyperparameters import MLP_HYPERPARAMETERS, Hyperparameter

if TYPE_CHECKING:
    import torch

CLASSES = 10
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
MIRROR_HOSTS = ("ossci-datasets.s3.amazonaws.com", "yann.lecun.com")


@dataclass(frozen=True)
class Mnist(ImageTask):
    """An MLP on MNIST. x: [n, 1, 28, 28] float32 in [0, 1]; y: [n] int64. Options: `ImageTask`.

    The files are looked for in `data_dir`, in the folder that the environment variable
    RAYTUNE_HPO_DATA names, and in the cache (RAYTUNE_HPO_CACHE, else ~/.cache/raytune_hpo); each may
    hold MNIST/raw, or be that MNIST or raw folder itself, with the files plain or as .gz. Where none
    has them they are downloaded into the first of these that is set. There are 60,000 images to
    train on and 10,000 to test on.
    """

    data_name: ClassVar = "mnist"

    def prepare(self) -> None:
        self.check()
        self._raw_folder()

    def read(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """See `ImageTask`. Raises ExperimentError where no copy is found and none can be downloaded."""
        with _uncompressed(self._raw_folder()) as root:
            return _read(root, train=True), _read(root, train=False)

    def pixels(self, images: Array) -> Array:
        """[n, 28, 28] uint8 -> [n, 1, 28, 28] float32 in [0, 1]."""
        return images[:, None].astype(np.float32) / np.float32(255)

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return MLP_HYPERPARAMETERS

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        from raytune_hpo.training.models import mlp

        return mlp((1, 28, 28), CLASSES, config)

    def _raw_folder(self) -> Path:
        """The folder that holds the four files, after a download if it takes one."""
        roots = [*named_folders(self.data_dir), cache_folder()]
        for root in roots:
            for folder in (root / "MNIST" / "raw", root / "raw", root):
                if _has_files(folder):
                    return folder
        return _download(roots[0])


def _has_files(folder: Path) -> bool:
    return all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in FILES)


def _download(root: Path) -> Path:
    """Have torchvision fetch the files into root/MNIST/raw, silently. Raises ExperimentError."""
    problem = ExperimentError(
        "data_dir",
        str(root),
        "no MNIST files here and the download failed; set data_dir or the environment variable "
        f"{DATA_VARIABLE} to a folder that holds MNIST/raw, or connect to the network once",
    )
    if not answers(MIRROR_HOSTS):  # asked first: importing torchvision takes seconds
        raise problem
    from torchvision.datasets import MNIST

    try:
        with quiet_download():
            MNIST(str(root), train=True, download=True)
    except (OSError, RuntimeError) as error:  # no network, no right to write, a damaged file
        raise problem from error
    return root / "MNIST" / "raw"


@contextlib.contextmanager
def _uncompressed(raw: Path) -> Iterator[Path]:
    """A root with MNIST/raw in it, as torchvision wants it, for files that lie otherwise.

    The user's folder may be read-only, so that .gz files are unpacked into a temporary one.
    """
    plain = all((raw / name).is_file() for name in FILES)
    if plain and raw.name == "raw" and raw.parent.name == "MNIST":
        yield raw.parent.parent
        return
    with tempfile.TemporaryDirectory(prefix="raytune_hpo_mnist_") as temporary:
        folder = Path(temporary) / "MNIST" / "raw"
        folder.mkdir(parents=True)
        for name in FILES:
            if (raw / name).is_file():
                (folder / name).symlink_to((raw / name).resolve())
                continue
            with (
                _damage_named(raw),
                gzip.open(raw / f"{name}.gz", "rb") as packed,
                (folder / name).open("wb") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked)
        yield Path(temporary)


def _read(root: Path, *, train: bool) -> tuple[Array, Array]:
    """images: [n, 28, 28] uint8; labels: [n] int64. Raises ExperimentError for damaged files."""
    from torchvision.datasets import MNIST

    with _damage_named(root / "MNIST" / "raw"):
        data = MNIST(str(root), train=train, download=False)
        x, y = data.data.numpy(), data.targets.numpy().astype(np.int64)
        if len(x) != len(y):
            raise ValueError(f"{len(x)} images and {len(y)} labels")
    return x, y


@contextlib.contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, RuntimeError, ValueError, AssertionError) as error:
        raise ExperimentError("data_dir", str(folder), f"its MNIST files are damaged ({error})") from error
