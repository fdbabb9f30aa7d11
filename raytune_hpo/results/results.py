"""Results: a run as tables, read from its journal. Neither ray nor torch is imported."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.configs import flatten
from raytune_hpo.errors import ExperimentError
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.trial import TrialState
from raytune_hpo.results.winner import read_test
from raytune_hpo.storage.checkpoints import exists
from raytune_hpo.storage.journal import Event, read
from raytune_hpo.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Best:
    """The winner. metric: the objective at its best epoch; validation: all metrics of that epoch;
    test: the test metrics of its checkpoint, None until the run has finished (or without a test split);
    checkpoint: the folder of its best checkpoint, None if it saved none."""

    trial_id: str
    config: dict[str, Any]
    metric: float
    epoch: int
    validation: dict[str, Any]
    test: dict[str, Any] | None
    checkpoint: Path | None
    checkpoint_epoch: int | None

    def to_json(self) -> dict[str, Any]:
        return {
            "trial_id": self.trial_id,
            "config": self.config,
            "metric": self.metric,
            "epoch": self.epoch,
            "validation": finite(self.validation),
            "test": self.test,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "checkpoint_epoch": self.checkpoint_epoch,
        }


@dataclass(frozen=True)
class Results:
    """A run's results.

    status: "running" (or killed), "interrupted" or "finished". counts: trials by status. seconds: of
    running, all sessions together. perturbations: PBT's lineage, one event each, in order.
    """

    run_dir: Path
    experiment: dict[str, Any]
    ledger: Ledger
    events: list[Event] = field(repr=False)

    @property
    def status(self) -> str:
        return self.ledger.status

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.ledger.counts)

    @property
    def seconds(self) -> float:
        return self.ledger.seconds

    @property
    def metric(self) -> str:
        return self.ledger.metric

    @property
    def mode(self) -> str:
        return self.ledger.mode

    @property
    def stop_reason(self) -> str | None:
        return self.ledger.stop_reason

    @property
    def best(self) -> Best | None:
        """The winner so far; None before the first report."""
        trial = self.ledger.winner()
        if trial is None or trial.best is None or trial.best_epoch is None:
            return None
        sealed = read_test(self.run_dir)
        record = self.kept(trial).best_checkpoint(self.ledger.mode)
        return Best(
            trial_id=trial.id,
            config=trial.best_config,
            metric=trial.best,
            epoch=trial.best_epoch,
            validation=trial.best_metrics,
            test=sealed["metrics"] if sealed is not None and sealed["trial"] == trial.id else None,
            checkpoint=self.run_dir / record.path if record is not None else None,
            checkpoint_epoch=record.epoch if record is not None else None,
        )

    def kept(self, trial: TrialState) -> TrialState:
        """The trial without the checkpoints that were deleted since they were written."""
        trial.checkpoints = [c for c in trial.checkpoints if exists(self.run_dir, c)]
        return trial

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a trial, in the order of suggestion, as plain JSON values."""
        return [
            {
                "trial_id": t.id,
                "status": t.status,
                "reason": t.reason,
                "epochs": t.epoch,
                "best": t.best,
                "best_epoch": t.best_epoch,
                "last": finite(t.metrics).get(self.metric),
                "seconds": round(t.seconds, 3),
                "failures": t.failures,
                "error": t.error,
                "error_file": t.error_file,
                "generation": t.generation,
                "config": t.config,
            }
            for t in self.ledger.trials.values()
        ]

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial; the config's values are columns named config.NAME."""
        import pandas as pd

        rows = []
        for row in self.rows():
            config = row.pop("config")
            rows.append({**row, **{f"config.{path}": value for path, value in flatten(config).items()}})
        return pd.DataFrame(rows)

    @property
    def curves(self) -> pd.DataFrame:
        """One row a trial and epoch: trial_id, generation, epoch, seconds, decision and every metric."""
        import pandas as pd

        rows = [
            {
                "trial_id": e["trial"],
                "generation": e["generation"],
                "epoch": e["epoch"],
                "seconds": e["seconds"],
                "decision": e["decision"],
                **e["metrics"],
            }
            for e in self.events
            if e["event"] == "result"
        ]
        return pd.DataFrame(rows)

    @property
    def perturbations(self) -> list[dict[str, Any]]:
        """Who copied whom, when, and with which config: trial, epoch, donor, donor_epoch, old and new config."""
        keys = ("trial", "epoch", "donor", "donor_epoch", "generation", "old_config", "new_config")
        return [{k: e[k] for k in keys} for e in self.events if e["event"] == "perturb"]

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """The rounds of a coarse-to-fine search, in order: round, first_trial, epochs_share (of max_epochs), carried
        (the trials trained on), box (path -> [lowest, highest value] or the options left). Empty for others."""
        notes = [(t.id, t.note) for t in self.ledger.trials.values() if t.note is not None and "box" in t.note]
        return [{"round": note["round"], "first_trial": trial_id, **note} for trial_id, note in notes]

    def top(self, k: int) -> list[TrialState]:
        """The k best trials, best first; failed and diverged ones left out."""
        ranked = [t for t in self.ledger.trials.values() if t.eligible and t.best is not None]
        return sorted(ranked, key=lambda t: t.rank(self.ledger.mode))[:k]

    def to_json(self) -> dict[str, Any]:
        """The document of `run --json`."""
        return {
            "run_dir": str(self.run_dir),
            "status": self.status,
            "stop_reason": self.stop_reason,
            "metric": self.metric,
            "mode": self.mode,
            "seconds": round(self.seconds, 3),
            "counts": self.counts,
            "best": self.best.to_json() if self.best else None,
        }


def finite(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics as strict JSON: NaN and infinities become None."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}


def load_results(run_dir: str | Path) -> Results:
    """The results of a run, finished or not. Raises ExperimentError if there is none or it is damaged."""
    directory = RunDirectory.open(run_dir)
    experiment = directory.description()["experiment"]
    ledger = Ledger(experiment["metric"], experiment["mode"])
    events: list[Event] = []
    for event in _events(directory, ledger):
        try:
            ledger.apply(event)
            if event["event"] == "result":
                ledger.decided(ledger.trials[event["trial"]], event["decision"])
        except (KeyError, TypeError, ValueError) as error:
            expected = f"does not follow from the events before it ({type(error).__name__}: {error})"
            raise ExperimentError("journal", event, expected) from error
        events.append(event)
    return Results(directory.path, experiment, ledger, events)


def _events(directory: RunDirectory, ledger: Ledger) -> Iterator[Event]:
    if not directory.journal_path.exists():
        return
    for step, _ in read(directory.journal_path):
        ledger.seconds = step["t"]
        yield from step["events"]
