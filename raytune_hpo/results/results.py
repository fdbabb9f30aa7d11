"""Results: a run as tables, read from its journal. Neither ray nor torch is imported."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import Decided, Event, Perturbed, Reported, Step
from raytune_hpo.journal.file import Reading, read
from raytune_hpo.objective import Mode, Objective
from raytune_hpo.printable import printable
from raytune_hpo.results.best import Best
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.replicates import contenders, ranked
from raytune_hpo.results.text_table import text_table
from raytune_hpo.results.trial import TrialState, finite
from raytune_hpo.results.winner import read_test
from raytune_hpo.space.configs import flatten
from raytune_hpo.storage.checkpoints import exists
from raytune_hpo.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    import pandas as pd

E = TypeVar("E", bound=Event)
SHOWN = 5  # trials
#: The columns of `Results.curves` that are no metrics, and what stands before a metric of such a name.
OF_A_REPORT = ("trial_id", "generation", "epoch", "seconds", "decision")
METRIC = "metric."


@dataclass(frozen=True, repr=False)
class Results:
    """A run's results.

    status: "running" (or killed), "interrupted" or "finished". counts: trials by status. seconds: of
    running, all sessions together. steps: the journal's. perturbations: PBT's lineage, one event each, in order.
    damage: what is wrong with the journal's last line, None if nothing is.
    """

    run_dir: Path
    experiment: dict[str, Any]
    ledger: Ledger
    damage: str | None = None

    @functools.cached_property
    def steps(self) -> list[Step]:
        """Read from the journal when they are asked for: of a run that has just ended the ledger is known."""
        return _read(RunDirectory.open(self.run_dir)).steps

    @property
    def events(self) -> list[Event]:
        return [event for step in self.steps for event in step.events]

    def of(self, kind: type[E]) -> Iterator[E]:
        """The events of one kind, in order."""
        return (event for step in self.steps for event in step.events if isinstance(event, kind))

    @property
    def status(self) -> str:
        return self.ledger.status.value

    @property
    def counts(self) -> dict[str, int]:
        return {status.value: n for status, n in self.ledger.counts.items()}

    @property
    def seconds(self) -> float:
        return self.ledger.seconds

    @property
    def objective(self) -> Objective:
        return self.ledger.objective

    @property
    def metric(self) -> str:
        return self.objective.metric

    @property
    def mode(self) -> Mode:
        return self.objective.mode

    @property
    def stop_reason(self) -> str | None:
        return self.ledger.stop_reason

    @property
    def close_reason(self) -> str | None:
        """Why the last session ended before the run did although nobody asked: its trials failed alike. Else None."""
        return self.ledger.close_reason

    @property
    def codes(self) -> set[int]:
        """The versions of the code by which trials have reported, from 1."""
        return {code for trial in self.ledger.trials.values() for code in trial.codes}

    @property
    def best(self) -> Best | None:
        """The winner so far; None before the first report."""
        return self.best_with(read_test(self.run_dir)) if self.ledger.winner() is not None else None

    def best_with(self, sealed: dict[str, Any] | None) -> Best | None:
        """The winner so far, with the figures of `winner.read_test`."""
        trial = self.ledger.winner()
        if trial is None or trial.best is None or trial.best_epoch is None:
            return None
        record = self.kept(trial).best_checkpoint(self.objective)
        # An extended run may have trained the winner on since the test split was opened.
        same = (
            sealed is not None and sealed["trial"] == trial.id and (record is None or sealed["epoch"] == record.epoch)
        )
        again = next((c for c in contenders(self.ledger.trials.values()) if c.trial is trial and c.ended), None)
        return Best(
            trial_id=trial.id,
            config=trial.best_config,
            metric=trial.best,
            epoch=trial.best_epoch,
            validation=trial.best_metrics,
            test=sealed["metrics"] if sealed is not None and same else None,
            checkpoint=self.run_dir / record.path if record is not None else None,
            checkpoint_epoch=record.epoch if record is not None else None,
            replicates=again.summary if again is not None else None,
        )

    def kept(self, trial: TrialState) -> TrialState:
        """A copy of the trial without the checkpoints that were deleted since they were written."""
        return replace(trial, checkpoints=[c for c in trial.checkpoints if exists(self.run_dir, c)])

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a trial, in the order of suggestion, as plain JSON values."""
        return [self.row(trial) for trial in self.ledger.trials.values()]

    def row(self, t: TrialState) -> dict[str, Any]:
        return {
            "trial_id": t.id,
            "status": t.status.value,
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
            "code": sorted(t.codes),
            "config": t.config,
            **({} if t.replicate_of is None else {"replicate_of": t.replicate_of}),
            **({"tags": list(t.tags)} if t.tags else {}),
            **({"remark": t.remark} if t.remark is not None else {}),
        }

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial; the config's values are columns named config.NAME."""
        return self.table(self.rows())

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Some of `rows` as `trials` has them; of these columns, a config's values by NAME or config.NAME."""
        import pandas as pd

        found = []
        for row in rows:
            config = {f"config.{path}": value for path, value in flatten(row["config"]).items()}
            found.append({**{key: value for key, value in row.items() if key != "config"}, **config})
        frame = pd.DataFrame(found)
        if columns is None:
            return frame
        wanted: list[str] = []
        for column in columns:
            every = [str(name) for name in frame if str(name).startswith("config.")]
            wanted += every if column == "config" else [column if column in frame else f"config.{column}"]
        return frame.reindex(columns=wanted)

    @property
    def curves(self) -> pd.DataFrame:
        """One row a trial and epoch: trial_id, generation, epoch, seconds, decision and every metric.

        A metric of one of these names is the column metric.NAME.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = []
        newest: dict[str, dict[str, Any]] = {}
        for event in self.events:
            if isinstance(event, Reported):
                row = {"trial_id": event.trial, "generation": event.generation, "epoch": event.epoch}
                newest[event.trial] = {**row, "seconds": event.seconds, "decision": None, **as_columns(event.metrics)}
                rows.append(newest[event.trial])
            elif isinstance(event, Decided) and event.trial in newest:
                newest[event.trial]["decision"] = event.decision.value
        return pd.DataFrame(rows)

    @property
    def perturbations(self) -> list[dict[str, Any]]:
        """Who copied whom, when, and with which config: trial, epoch, donor, donor_epoch, old and new config."""
        keys = ("trial", "epoch", "donor", "donor_epoch", "generation", "old_config", "new_config")
        return [{k: getattr(e, k) for k in keys} for e in self.of(Perturbed)]

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """The rounds of a coarse-to-fine search, in order: round, first_trial, epochs_share (of max_epochs), carried
        (the trials trained on), box (path -> [lowest, highest value] or the options left). Empty for others."""
        notes = [(t.id, t.note) for t in self.ledger.trials.values() if t.note is not None and "box" in t.note]
        for trial_id, note in notes:
            if not _is_round(note) or not note["box"].keys() <= self.experiment["space"]["parameters"].keys():
                raise ExperimentError(f"{trial_id}.note", note, "is no round of a search over this run's space")
        return [{"round": note["round"], "first_trial": trial_id, **note} for trial_id, note in notes]

    def top(self, k: int) -> list[TrialState]:
        """The k best trials, best first; failed and diverged ones left out."""
        return ranked(self.ledger.trials.values(), self.objective)[:k]

    def figure(self, kind: str) -> Any:
        """A figure of the report, as plotly's Figure: "curves", "best", "parallel", "slices", "importance", "rounds",
        "rungs", "lineage", "schedule" or "timeline". Raises ExperimentError for another kind, for one that this run
        has nothing for, and where plotly is not installed."""
        from raytune_hpo.figures import TEMPLATE, composed_figure
        from raytune_hpo.results.facts import facts

        spec = composed_figure(facts(self), kind)
        try:
            from plotly.graph_objects import Figure
        except ImportError as error:
            raise ExperimentError("figure", kind, 'needs plotly: pip install "raytune-hpo[report]"') from error
        return Figure(spec, layout_template=TEMPLATE)

    def to_json(self) -> dict[str, Any]:
        """The document of `run --json`."""
        return {
            "run_dir": str(self.run_dir),
            "status": self.status,
            "stop_reason": self.stop_reason,
            "close_reason": self.close_reason,
            "metric": self.metric,
            "mode": self.mode,
            "seconds": round(self.seconds, 3),
            "counts": self.counts,
            "best": self.best.to_json() if self.best else None,
        }

    # How it shows itself -------------------------------------------------------------------------

    def __repr__(self) -> str:
        """A line, and the best five trials as a table."""
        counts = ", ".join(f"{n} {status}" for status, n in self.counts.items() if n) or "no trials"
        line = f"{printable(self.run_dir.name)}: {self.status}, {counts}"
        header = ["trial", self.metric, "epoch", "status", "config"]
        rows = [
            [t.id, f"{t.best:.5g}", str(t.best_epoch), t.status.value, " ".join(_pairs(t.best_config))]
            for t in self.top(SHOWN)
        ]
        return "\n".join([line, text_table(header, rows)] if rows else [line])

    def _repr_html_(self) -> str:
        """For notebooks."""
        from raytune_hpo.results.results_html import results_html

        return results_html(self)


def _is_round(note: Mapping[str, Any]) -> bool:
    """Whether it has what `rounds` says, of the right types: a journal may be a stranger's."""
    match note:
        case {"round": int(), "epochs_share": int() | float(), "carried": list(), "box": dict(box)}:
            return all(isinstance(side, list) and len(side) >= 1 for side in box.values())
    return False


def _pairs(config: Mapping[str, Any]) -> Iterator[str]:
    for path, value in flatten(config).items():
        yield f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}"


def as_columns(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics under the names of their columns in `Results.curves`; no two get the same one."""

    def column(name: str) -> str:
        own = name
        while own.startswith(METRIC):
            own = own.removeprefix(METRIC)
        return METRIC + name if own in OF_A_REPORT else name

    return {column(name): value for name, value in metrics.items()}


def load_results(run_dir: str | Path) -> Results:
    """The results of a run, finished or not. Raises ExperimentError if there is none or it is damaged."""
    directory = RunDirectory.open(run_dir)
    return results_of(directory, _read(directory))


def results_of(directory: RunDirectory, reading: Reading) -> Results:
    """The results that a reading of the run's journal gives. Raises ExperimentError where one event does not follow."""
    experiment = directory.description()["experiment"]
    ledger = Ledger(Objective(experiment["metric"], experiment["mode"]))
    for step in reading.steps:
        apply(ledger, step, directory.journal_path)
    for amendment in ledger.amendments:  # which the description tells of already, unless a crash came between
        experiment = {**experiment, **amendment.changes}
    results = Results(directory.path, experiment, ledger, reading.damage)
    vars(results)["steps"] = reading.steps  # what the property would read again
    return results


def apply(ledger: Ledger, step: Step, journal: Path) -> None:
    """Bring a ledger up to date. Raises ExperimentError where an event does not follow."""
    ledger.seconds = step.t
    for event in step.events:
        try:
            ledger.apply(event)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            expected = f"its {event.KIND} does not follow from the events before it ({type(error).__name__}: {error})"
            raise ExperimentError("journal", f"{journal}:{step.number}", expected) from error


def _read(directory: RunDirectory) -> Reading:
    return read(directory.journal_path, directory.description()["run_id"])
