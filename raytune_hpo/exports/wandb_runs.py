"""A run as offline runs of Weights & Biases: a folder of a folder a trial, for `wandb sync`. No account, no network.

A trial is a run of the group that is named as the run's folder: its config, its numbers by epoch, and how it stands in
its summary. Its id is made of the run's and its own, so that a later export of the same run is no other one there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError, encodable
from raytune_hpo.exports.place import Place
from raytune_hpo.objective import numbers
from raytune_hpo.results.curves import reports_by_epoch, times
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.states import Status
from raytune_hpo.storage.run_directory import RunDirectory

NEEDED = 'needs Weights & Biases: pip install "raytune-hpo[wandb]"'
THEIRS = ("_step", "_timestamp", "_runtime", "_wandb")  # names of a row that are not a metric's
LONGEST_GROUP = 128
#: Nothing of this machine and its programs goes into the files, as far as a version has such a setting.
SETTINGS = {
    "console": "off",
    "host": "",
    "silent": True,
    "disable_git": True,
    "disable_code": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


def write_wandb(results: Results, place: Place) -> None:
    """Raises ExperimentError where wandb is not installed."""
    with tempfile.TemporaryDirectory(prefix="raytune_hpo_wandb_") as scratch, _offline(scratch):
        try:
            import wandb
        except ImportError as error:
            raise ExperimentError("--to", "wandb", NEEDED) from error
        place.path.mkdir()
        run_id = RunDirectory.open(results.run_dir).description()["run_id"]
        written: dict[str, Path] = {}
        lines, when, winner = reports_by_epoch(results), times(results), results.ledger.winner()
        place.headway.begin("trials", len(results.ledger.trials))
        try:
            for trial in results.ledger.trials.values():
                run = wandb.init(
                    mode="offline",
                    dir=scratch,
                    id=f"{run_id}-{trial.id}",
                    name=trial.id,
                    project=results.experiment["name"],
                    group=encodable(results.run_dir.name)[:LONGEST_GROUP],
                    config=_clean(trial.config),
                    tags=["winner"] if trial is winner else [],
                    reinit="create_new",
                    settings=_settings(wandb, when[trial.id][0]),
                )
                for epoch, (at, event) in sorted(lines[trial.id].items()):
                    run.log({**_row(event.metrics), "_timestamp": at}, step=epoch)
                run.summary.update(_clean(_summary(results, trial)))
                run.finish(exit_code=1 if trial.status in (Status.FAILED, Status.DIVERGED) else 0)
                written[trial.id] = Path(run.settings.sync_dir)
                place.headway.made()
        finally:
            wandb.teardown()  # only then has its process written all
        for name, folder in written.items():
            _keep(folder, place.path / name)


def _settings(wandb: Any, began: float | None) -> Any:
    wanted = {**SETTINGS, "x_start_time": began}
    return wandb.Settings(**{name: value for name, value in wanted.items() if name in wandb.Settings.model_fields})


def _row(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {f"metric.{name}" if name in THEIRS else encodable(name): v for name, v in numbers(metrics).items()}


def _summary(results: Results, trial: TrialState) -> dict[str, Any]:
    names = ("status", "reason", "best_epoch", "generation", "failures", "error", "parent")
    return {f"best/{results.metric}": trial.best, "epochs": trial.epoch, **{n: getattr(trial, n) for n in names}}


def _clean(value: Any) -> Any:
    """JSON data whose texts any file takes."""
    if isinstance(value, dict):
        return {encodable(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return encodable(str(value)) if isinstance(value, str) else value


def _keep(written: Path, folder: Path) -> None:
    """The one file that `wandb sync` reads; what wandb says of its own work stays behind."""
    folder.mkdir()
    (file,) = written.glob("run-*.wandb")
    shutil.move(file, folder)


@contextlib.contextmanager
def _offline(scratch: str) -> Iterator[None]:
    """wandb's settings come from the environment, too: none of the user's, and no file of its own outside `scratch`."""
    before = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    for name in before:
        del os.environ[name]
    own = {"MODE": "offline", "ERROR_REPORTING": "false", "SILENT": "true"}
    own |= {f"{name}_DIR": scratch for name in ("CACHE", "CONFIG", "DATA")}
    os.environ.update({f"WANDB_{name}": value for name, value in own.items()})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ.update(before)
