"""A run as an MLflow store: a folder of an SQLite database and of artifacts.

The run is a parent run, each trial a run in it: its config as parameters, its numbers by epoch as metrics, how it
stands as status and tags. The winner's model is a logged model of its trial's run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError, RaytuneHpoError, encodable
from raytune_hpo.exports.place import Place
from raytune_hpo.objective import numbers
from raytune_hpo.results.curves import reports_by_epoch, times
from raytune_hpo.results.export import export
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space.configs import flatten
from raytune_hpo.states import RunStatus, Status

NEEDED = 'needs MLflow: pip install "raytune-hpo[mlflow]"'
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
LONGEST_NAME, LONGEST_VALUE = 250, 6000
PARAMETERS_A_CALL, METRICS_A_CALL = 100, 900  # MLflow takes no more, and of both together 1,000
OF_AN_EXPERIMENT = ("searcher", "scheduler", "num_samples", "max_epochs", "seed", "metric", "mode", "executor")
_Value = tuple[str, float, float, int]  # a name, its value, seconds since 1970, the epoch
#: What each status of ours is there.
STATUSES = {
    Status.COMPLETED: "FINISHED",
    Status.STOPPED: "FINISHED",
    Status.DIVERGED: "FAILED",
    Status.FAILED: "FAILED",
    Status.PENDING: "SCHEDULED",
    Status.RUNNING: "RUNNING",
    Status.PAUSED: "RUNNING",
}
OF_A_RUN = {RunStatus.FINISHED: "FINISHED", RunStatus.INTERRUPTED: "KILLED", RunStatus.RUNNING: "RUNNING"}


def write_mlflow(results: Results, place: Place) -> None:
    """Raises ExperimentError where MLflow is not installed. A winner without a model is said on stderr."""
    with _quiet():
        try:
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
        except ImportError as error:
            raise ExperimentError("--to", "mlflow", NEEDED) from error
        from sqlalchemy import event

        place.path.mkdir()
        artifacts = (place.final / ARTIFACTS).as_uri()  # where they will lie when all is written
        store = SqlAlchemyStore(f"sqlite:///{place.path / DATABASE}", artifacts)
        # A power cut may take what is written: it is nowhere yet.
        event.listen(store.engine, "checkout", lambda made, *_: made.execute("PRAGMA synchronous=OFF").close())
        try:
            _Writer(store, results, artifacts).write(place)
        finally:
            store.engine.dispose()


class _Writer:
    def __init__(self, store: Any, results: Results, artifacts: str) -> None:
        self._store, self._results = store, results
        self._experiment = store.create_experiment(results.experiment["name"], artifact_location=artifacts)

    def write(self, place: Place) -> None:
        results = self._results
        began, ended = (results.steps[0].at, results.steps[-1].at) if results.steps else (0.0, 0.0)
        winner = results.ledger.winner()
        tags = {"stop_reason": results.stop_reason, "winner": winner and winner.id}
        parent = self._run(results.run_dir.name, began, tags)
        self._log(
            parent,
            {key: results.experiment.get(key) for key in OF_AN_EXPERIMENT},
            [] if winner is None else self._best(winner, ended),
        )
        lines, when = reports_by_epoch(results), times(results)
        place.headway.begin("trials", len(results.ledger.trials))
        for trial in results.ledger.trials.values():
            start, end = when[trial.id]
            run = self._run(trial.id, start or began, _tags(trial), parent)
            found = [
                (name, value, at, epoch)
                for epoch, (at, event) in sorted(lines[trial.id].items())
                for name, value in numbers(event.metrics).items()
            ]
            self._log(run, flatten(trial.config), [*found, *self._best(trial, end or began)])
            if trial is winner:
                self._model(run, trial, place)
            self._close(run, STATUSES[trial.status], end)
            place.headway.made()
        self._close(parent, OF_A_RUN[results.ledger.status], None if results.status == RunStatus.RUNNING else ended)

    def _best(self, trial: TrialState, at: float) -> list[_Value]:
        if trial.best is None or trial.best_epoch is None:
            return []
        return [(f"best/{self._results.metric}", trial.best, at, trial.best_epoch)]

    def _run(self, name: str, at: float, tags: Mapping[str, Any], parent: str | None = None) -> str:
        from mlflow.entities import RunTag

        said = {_name(key): _text(value) for key, value in tags.items() if value is not None}
        own = {} if parent is None else {"mlflow.parentRunId": parent}
        made = self._store.create_run(
            experiment_id=self._experiment,
            user_id="raytune_hpo",
            start_time=_ms(at),
            tags=[RunTag(key, value) for key, value in (said | own).items()],
            run_name=encodable(name),
        )
        return str(made.info.run_id)

    def _log(self, run: str, parameters: Mapping[str, Any], values: Sequence[_Value]) -> None:
        from mlflow.entities import Metric, Param

        given = [Param(_name(path), _text(value)) for path, value in parameters.items()]
        metrics = [Metric(_name(name), value, _ms(at), epoch) for name, value, at, epoch in values]
        while given or metrics:
            self._store.log_batch(run, metrics[:METRICS_A_CALL], given[:PARAMETERS_A_CALL], [])
            del metrics[:METRICS_A_CALL], given[:PARAMETERS_A_CALL]

    def _close(self, run: str, status: str, at: float | None) -> None:
        from mlflow.entities import RunStatus as Theirs

        self._store.update_run_info(run, Theirs.from_string(status), None if at is None else _ms(at), None)

    # The model ----------------------------------------------------------------------------------

    def _model(self, run: str, trial: TrialState, place: Place) -> None:
        made = place.path / ".model"
        try:
            export(self._results, made / "data", trial.id, code=place.code)
        except RaytuneHpoError as error:
            shutil.rmtree(made, ignore_errors=True)
            print(f"raytune-hpo: without the winner's model: {error}", file=sys.stderr)
            return
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        model = self._store.create_logged_model(self._experiment, name="model", source_run_id=run)
        _describe(made, model.model_id, run)
        final = Path(model.artifact_location.removeprefix("file://"))
        there = place.path / final.relative_to(place.final)
        there.parent.mkdir(parents=True)
        made.rename(there)
        self._store.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self._store.log_outputs(run, [LoggedModelOutput(model.model_id, trial.best_epoch or 0)])


def _describe(folder: Path, model_id: str, run: str) -> None:
    """MLmodel: what `mlflow.pytorch.load_model` reads, where there is a program that it can load."""
    from mlflow.models import Model

    said = Model(artifact_path=None, run_id=run, model_id=model_id)
    if (folder / "data" / "model.pt2").exists():
        versions = json.loads((folder / "data" / "config.json").read_text())["versions"]
        said.add_flavor("pytorch", model_data="data", pytorch_version=str(versions.get("torch")), code=None)
    said.save(str(folder / "MLmodel"))


def _tags(trial: TrialState) -> dict[str, Any]:
    names = ("status", "reason", "best_epoch", "epoch", "generation", "failures", "error", "parent")
    return {"trial_id": trial.id, **{name: getattr(trial, name) for name in names}}


def _name(text: str) -> str:
    """A name as MLflow takes one: where it is another one, with a few digits that tell it from its like."""
    clean = re.sub(r"[^\w.\- :/]", "_", encodable(text)).strip("/")
    clean = re.sub(r"/+(\.*/+)*", "/", clean)
    if clean == text and 0 < len(clean) <= LONGEST_NAME and clean not in (".", ".."):
        return clean
    digits = hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=4).hexdigest()
    return f"{clean[: LONGEST_NAME - 9].strip('/.')}-{digits}"


def _text(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value)
    return encodable(shown)[:LONGEST_VALUE]


def _ms(at: float) -> int:
    return round(at * 1000)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what MLflow and its database tool say of themselves, and without MLflow's report of its use."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
