"""Small sets in the very formats of MNIST, CIFAR-10 and scikit-learn's California housing, written by tests.

Each can be learned, and the first pixels of an image tell which one it is.
"""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hpo.seeding import generator
from raytune_hpo.tasks.california_housing import FILE
from raytune_hpo.tasks.cifar10 import TEST_FILES, TRAIN_FILES

CIFAR_EACH = 20
"""Images in each of CIFAR-10's six files."""


def write_mnist(raw: Path, *, train: int = 40, test: int = 12, packed: bool = False) -> None:
    """Image k has the class k % 10 and, in its first pixel, the value k (modulo 256)."""
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, n in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (n, 28, 28))
        images[:, 0, 0], images[:, 0, 1] = np.arange(n), 255
        _write_idx(raw / f"{part}-images-idx3-ubyte", images, packed=packed)
        _write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(n) % 10, packed=packed)


def _write_idx(path: Path, array: np.ndarray[Any, Any], *, packed: bool) -> None:
    """MNIST's format: a magic number (type 8 is uint8, then the axes), each axis' size, the bytes."""
    header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def write_cifar10(folder: Path) -> None:
    """Six pickles, as Python 2 wrote them: a dictionary with `data` [n, 3072] uint8 and `labels`.

    An image's first two pixels are its file's number and its own; a class is a colour.
    """
    folder.mkdir(parents=True)
    for number, name in enumerate((*TRAIN_FILES, *TEST_FILES)):
        rng = generator(0, "cifar10 for tests", number)
        labels = np.arange(CIFAR_EACH) % 10
        images = rng.integers(0, 60, (CIFAR_EACH, 3, 32, 32), dtype=np.uint8)
        images += (np.stack([labels % 2, labels // 2 % 2, labels // 4], axis=1) * 95).astype(np.uint8)[:, :, None, None]
        images[:, :2, 0, 0] = np.stack([np.full(CIFAR_EACH, number), np.arange(CIFAR_EACH)], axis=1)
        data = images.reshape(CIFAR_EACH, -1)
        batch = {"batch_label": name, "labels": labels.tolist(), "data": data, "filenames": []}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def write_california(folder: Path, districts: int = 300) -> None:
    """Columns: value, income, age, rooms, bedrooms, population, households, latitude, longitude."""
    import joblib

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    income = rng.uniform(0.5, 10, districts)
    households = rng.integers(100, 900, districts)
    rest = [rng.integers(1, 52, districts), households * 5, households, households * 3, households]
    place = [rng.uniform(32, 42, districts), rng.uniform(-124, -114, districts)]
    value = 40_000 * income + rng.normal(0, 10_000, districts)
    joblib.dump(np.stack([value, income, *rest, *place], axis=1).astype(float), folder / FILE)
