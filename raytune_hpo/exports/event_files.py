"""A run as TensorBoard's event files: what its listener writes while a run goes on, written of all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raytune_hpo.errors import ExperimentError
from raytune_hpo.exports.place import Place
from raytune_hpo.headway import Headway
from raytune_hpo.journal.events import Step
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
    place.headway.begin("steps", len(results.steps))
    tell_all(_counted(results.steps, place.headway), written, run)


def _counted(steps: Sequence[Step], headway: Headway) -> Iterator[Step]:
    for step in steps:
        yield step
        headway.made()
