"""The exports by name: `raytune-hpo export RUN_DIR --to NAME -o PATH`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.reopened import CodeChoice
from raytune_hpo.exports.event_files import write_tensorboard
from raytune_hpo.exports.mlflow_store import write_mlflow
from raytune_hpo.exports.optuna_study import write_optuna
from raytune_hpo.exports.place import Place
from raytune_hpo.exports.tables import write_csv, write_parquet
from raytune_hpo.exports.wandb_runs import write_wandb
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.results.results import Results

EXPORTS: dict[str, Callable[[Results, Place], None]] = {
    "csv": write_csv,
    "mlflow": write_mlflow,
    "optuna": write_optuna,
    "parquet": write_parquet,
    "tensorboard": write_tensorboard,
    "wandb": write_wandb,
}


def export_to(
    results: Results, name: str, target: Path, *, code: CodeChoice = "recorded", headway: Headway = UNSEEN
) -> None:
    """Write the export of this name to `target`, a file or a folder that is not there yet; whole, or not at all.

    code: as of `resume`, for an export that holds the winner's model.

    Raises ExperimentError where something is there, where the folder that it is to be in is not, and where what the
    export needs is not installed.
    """
    if os.path.lexists(target):
        raise ExperimentError("--output", str(target), "must not exist yet")
    if not target.absolute().parent.is_dir():
        raise ExperimentError("--output", str(target), "must lie in a folder that there is")
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=f".{target.name}.") as folder:
        made = Path(folder) / target.name
        EXPORTS[name](results, Place(made, target.absolute(), code, headway))
        made.rename(target)
