"""California housing: 20,640 districts of the census of 1990, 8 features, the median value of their houses.

Source: Pace & Barry 1997, "Sparse Spatial Autoregressions", as scikit-learn fetches it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from raytune_hpo.errors import ExperimentError
from raytune_hpo.tasks.cached_arrays import cached, sklearn_version
from raytune_hpo.tasks.data_folders import (
    DATA_VARIABLE,
    absolute,
    answers,
    check_folder,
    named_folders,
    quiet_download,
)
from raytune_hpo.tasks.tabular import TabularRegression
from raytune_hpo.training.data import Array

FILE = "cal_housing_py3.pkz"
"""What scikit-learn calls its copy; it is read with joblib, so that it must come from where you trust."""
HOSTS = ("ndownloader.figshare.com",)


@dataclass(frozen=True)
class CaliforniaHousing(TabularRegression):
    """An MLP on California housing. Options and shapes: `TabularRegression`; targets are in 100,000 dollars.

    scikit-learn's copy of the data is looked for in `data_home`, in the folder that the environment variable
    RAYTUNE_HPO_DATA names, and where scikit-learn keeps data (SCIKIT_LEARN_DATA, else ~/scikit_learn_data). Where
    none has it, it is downloaded into the first of these that is set.
    """

    data_name: ClassVar = "california housing"
    features: ClassVar = 8
    standardise_target: ClassVar = False
    target: ClassVar = "median house value (100,000 dollars)"

    data_home: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_home", absolute(self.data_home))

    def check(self) -> None:
        super().check()
        check_folder("task.data_home", self.data_home)

    def prepare(self) -> None:
        self.check()
        self._folder()

    def table(self) -> tuple[Array, Array]:
        """See `TabularRegression`. Raises ExperimentError where there is no copy and none can be downloaded."""
        folder = self._folder()
        try:
            # A copy is known by what is in it: each folder may hold another one, and one may be replaced.
            content = hashlib.blake2b((folder / FILE).read_bytes(), digest_size=8).hexdigest()
            x, y = cached("california_housing", f"{sklearn_version()}-{content}", lambda: _made(folder))
        except Exception as error:  # a damaged pickle raises nearly anything
            raise ExperimentError("data_home", str(folder), f"its {FILE} is damaged ({error})") from error
        return x, y

    def _folder(self) -> Path:
        """The folder that holds the copy, after a download if it takes one."""
        # As sklearn.datasets.get_data_home, which would make the folder.
        own = Path(os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")).expanduser()
        folders = [*named_folders(self.data_home), own]
        for folder in folders:
            if (folder / FILE).is_file():
                return folder
        return _download(folders[0])


def _made(folder: Path) -> tuple[Array, Array]:
    """features: [n, 8], targets: [n], float64. Raises nearly anything where the copy in `folder` is damaged."""
    from sklearn.datasets import fetch_california_housing

    x, y = fetch_california_housing(data_home=str(folder), download_if_missing=False, return_X_y=True)
    if x.ndim != 2 or x.shape[1] != CaliforniaHousing.features or len(x) != len(y):
        raise ValueError(f"the table has the shape {x.shape}")
    return x, y


def _download(folder: Path) -> Path:
    """Have scikit-learn fetch the data into `folder`, silently. Raises ExperimentError that says how to get them."""
    problem = ExperimentError(
        "data_home",
        str(folder),
        f'no {FILE} here and the download failed; where there is a network, python -c "from sklearn.datasets import '
        f"fetch_california_housing as fetch; fetch(data_home='DIR')\" writes DIR/{FILE}: name that folder by data_home "
        f"or the environment variable {DATA_VARIABLE}",
    )
    if not answers(HOSTS):
        raise problem
    from sklearn.datasets import fetch_california_housing

    try:
        with quiet_download():
            fetch_california_housing(data_home=str(folder), n_retries=0)
    except (OSError, ValueError) as error:  # no network, no right to write, a damaged file
        raise problem from error
    return folder
