"""MNIST: 70,000 grey images of 28 x 28 pixels, 10 classes (LeCun, Cortes & Burges 1998)."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import socket
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.seeding import generator
from raytune_hpo.training.hyperparameters import MLP_HYPERPARAMETERS, Hyperparameter
from raytune_hpo.training.task import Array, Split, Splits, Task

if TYPE_CHECKING:
    import torch

CLASSES = 10
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DATA_VARIABLE = "RAYTUNE_HPO_DATA"
DOWNLOAD_TIMEOUT_S = 10.0
MIRROR_HOSTS = ("ossci-datasets.s3.amazonaws.com", "yann.lecun.com")
ONLINE_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Mnist(Task):
    """An MLP on MNIST. x: [n, 1, 28, 28] float32 in [0, 1]; y: [n] int64.

    The files are looked for in `data_dir`, in the folder that the environment variable
    RAYTUNE_HPO_DATA names, and in ~/.cache/raytune_hpo; each may hold MNIST/raw, or be that MNIST
    or raw folder itself, with the files plain or as .gz. Where none has them they are downloaded
    into the first of these that is set.

    `validation_samples` of the 60,000 training images, drawn by the seed, are for validation;
    `train_samples` of the rest are for training (None: all). `test_samples` is the number of test
    images, the first ones of their file (None: all 10,000).
    """

    kind: ClassVar = "classification"

    data_dir: str | None = None
    train_samples: int | None = None
    validation_samples: int = 10_000
    test_samples: int | None = None

    def __post_init__(self) -> None:
        # A run is resumed from other folders than it was started in.
        if isinstance(self.data_dir, str):
            object.__setattr__(self, "data_dir", str(Path(self.data_dir).expanduser().absolute()))

    def check(self) -> None:
        for name in ("train_samples", "validation_samples", "test_samples"):
            value = getattr(self, name)
            if value is None and name != "validation_samples":
                continue
            checks.integer(f"task.{name}", value, 1)
        if self.data_dir is None:
            return
        if not isinstance(self.data_dir, str) or not Path(self.data_dir).expanduser().is_dir():
            raise ExperimentError("task.data_dir", self.data_dir, "must be an existing folder")

    def prepare(self) -> None:
        self.check()
        self._raw_folder()

    def load(self, seed: int) -> Splits:
        """See `Task`. Raises ExperimentError where no copy is found and none can be downloaded."""
        self.check()
        with _uncompressed(self._raw_folder()) as root:
            x, y = _read(root, train=True)
            x_test, y_test = _read(root, train=False)
        train_size = len(x) - self.validation_samples if self.train_samples is None else self.train_samples
        if train_size < 1 or train_size + self.validation_samples > len(x):
            raise ExperimentError(
                "task.validation_samples" if self.train_samples is None else "task.train_samples",
                self.validation_samples if self.train_samples is None else self.train_samples,
                f"training and validation samples must share the {len(x)} training images",
            )
        order = generator(seed, "mnist split").permutation(len(x))
        validation = order[: self.validation_samples]
        train = order[self.validation_samples : self.validation_samples + train_size]
        return Splits(
            train=Split(_pixels(x[train]), y[train]),
            validation=Split(_pixels(x[validation]), y[validation]),
            test=Split(_pixels(x_test[: self.test_samples]), y_test[: self.test_samples]),
        )

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return MLP_HYPERPARAMETERS

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        from raytune_hpo.training.models import mlp

        return mlp((1, 28, 28), CLASSES, config)

    def _raw_folder(self) -> Path:
        """The folder that holds the four files, after a download if it takes one."""
        named = (self.data_dir, os.environ.get(DATA_VARIABLE), "~/.cache/raytune_hpo")
        roots = [Path(name).expanduser() for name in named if name]
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
    if not _online():  # asked first: importing torchvision takes seconds
        raise problem
    from torchvision.datasets import MNIST

    timeout = socket.getdefaulttimeout()
    # torchvision has no timeout of its own, and a blocked network would hang the run's start.
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            MNIST(str(root), train=True, download=True)
    except (OSError, RuntimeError) as error:  # no network, no right to write, a damaged file
        raise problem from error
    finally:
        socket.setdefaulttimeout(timeout)
    return root / "MNIST" / "raw"


def _online() -> bool:
    """Whether a host that torchvision downloads from answers; taken for granted behind a proxy."""
    if urllib.request.getproxies():
        return True
    for host in MIRROR_HOSTS:
        with contextlib.suppress(OSError), socket.create_connection((host, 443), ONLINE_TIMEOUT_S):
            return True
    return False


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


def _pixels(images: Array) -> Array:
    """[n, 28, 28] uint8 -> [n, 1, 28, 28] float32 in [0, 1]."""
    return images[:, None].astype(np.float32) / np.float32(255)
