"""A run as TensorBoard's event files: what its listener writes while a run goes on, written of all of it."""

from __future__ import annotations

from raytune_hpo.errors import ExperimentError
from raytune_hpo.exports.place import Place
from raytune_hpo.listeners.following import tell_all
from raytune_hpo.listeners.listener import RunView
from raytune_hpo.listeners.tensorboard import TensorBoard
from raytune_hpo.results.results import Results
from raytune_hpo.storage.run_directory import RunDirectory


def write_tensorboard(results: Results, place: Place) -> None:
    """A folder of a folder a trial. Raises ExperimentError where TensorBoard is not installed."""
    run_id = RunDirectory.open(results.run_dir).description()["run_id"]
    run = RunView(results.run_dir, run_id, results.experiment, resumed=True, live=False)
    try:
        written = TensorBoard(place.path)
    except ExperimentError as error:
        raise ExperimentError("--to", "tensorboard", error.expected) from error
    tell_all(results.steps, written, run)
