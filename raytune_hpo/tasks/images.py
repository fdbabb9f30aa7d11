"""Image classification on files in a folder of the user's: what MNIST and CIFAR-10 share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.seeding import generator
from raytune_hpo.tasks.data_folders import absolute, check_folder
from raytune_hpo.tasks.splits import stratified_order
from raytune_hpo.training.data import Array, Split, Splits
from raytune_hpo.training.task import Task


@dataclass(frozen=True)
class ImageTask(Task):
    """Images and classes in two parts, one for training and validation, one for the test.

    `validation_samples` of the first part, drawn by the seed and stratified by class, are for validation;
    `train_samples` of the rest, likewise, are for training (None: all). `test_samples` is the number of test images,
    the first ones of their file (None: all).
    """

    kind: ClassVar = "classification"
    data_name: ClassVar[str]
    """Tasks of one name share their splits."""

    data_dir: str | None = None
    train_samples: int | None = None
    validation_samples: int = 10_000
    test_samples: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_dir", absolute(self.data_dir))

    def check(self) -> None:
        for name in ("train_samples", "validation_samples", "test_samples"):
            value = getattr(self, name)
            if value is not None or name == "validation_samples":
                checks.integer(f"task.{name}", value, 1)
        check_folder("task.data_dir", self.data_dir)

    @abstractmethod
    def read(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """(images, classes) of the two parts, as the files have them. images: [n, ...] uint8; classes: [n] int64.

        Raises ExperimentError where they are missing or damaged.
        """

    @abstractmethod
    def pixels(self, images: Array) -> Array:
        """[n, ...] uint8 as the files have them -> [n, channels, height, width] float32."""

    def load(self, seed: int) -> Splits:
        """See `Task`. Raises ExperimentError also where the options ask for more images than there are."""
        self.check()
        (x, y), (x_test, y_test) = self.read()
        train_size = len(x) - self.validation_samples if self.train_samples is None else self.train_samples
        if train_size < 1 or train_size + self.validation_samples > len(x):
            raise ExperimentError(
                "task.validation_samples" if self.train_samples is None else "task.train_samples",
                self.validation_samples if self.train_samples is None else self.train_samples,
                f"training and validation samples must share the {len(x)} training images",
            )
        order = stratified_order(y, generator(seed, f"{self.data_name} split"))
        validation = order[: self.validation_samples]
        train = order[self.validation_samples : self.validation_samples + train_size]
        return Splits(
            train=Split(self.pixels(x[train]), y[train]),
            validation=Split(self.pixels(x[validation]), y[validation]),
            test=Split(self.pixels(x_test[: self.test_samples]), y_test[: self.test_samples]),
        )
