"""Runs every file of experiments/, one after the other on one Ray, and prints one table.

    python benchmarks/every_experiment.py                              # each at the size its file has: minutes
    python benchmarks/every_experiment.py --data-dir DIR               # DIR holds MNIST/raw, cifar-10-batches-py, ...
    python benchmarks/every_experiment.py --smallest                   # 3 trials of 2 epochs each, as the test has it
    python benchmarks/every_experiment.py --only digits diabetes --keep runs/every

An experiment whose data cannot be had is a row that says so; the reason stands below the table. The exit code is 1
if one failed, or a trial of one.

method          searcher + scheduler, and the folds of a cross-validation
best, test      the winner's objective on validation data, and the same score on the test split, opened once
epochs          trained by all trials, of each fold
seconds         of the run, the start of its worker processes included
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_hpo import Experiment, ExperimentError, RaytuneHpoError, Results, Task, load_experiment, run
from raytune_hpo.results.text_table import text_table
from raytune_hpo.workers.ray_runtime import ray_session

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
FILES = sorted(EXPERIMENTS.glob("*.py"))

#: The most that `smallest` leaves of a field or a task's option, where there is one.
SMALLEST = {
    "num_samples": 3,
    "max_epochs": 2,
    "folds": 2,
    "train_samples": 20,
    "validation_samples": 10,
    "test_samples": 10,
    "searcher.n_initial": 2,
    "searcher.samples": 2,
    "searcher.rounds": 2,
    "scheduler.grace_period": 1,
    "scheduler.interval": 1,
}


@dataclass(frozen=True)
class Row:
    """One line of the table. best, test: (metric, value); note: why there are none, or what went wrong, in two or
    three words; why: the sentence of it, below the table."""

    name: str
    method: str
    best: tuple[str, float] | None = None
    test: tuple[str, float] | None = None
    epochs: int = 0
    seconds: float = 0.0
    note: str = ""
    failed: bool = False
    why: str = ""

    @property
    def cells(self) -> list[str]:
        if self.best is None:
            return [self.name, self.method, self.note, "", "", ""]
        metric, value = self.best
        tested = f"{self.test[1]:.4g}" if self.test is not None else "-"
        cells = [self.name, self.method, f"{metric} {value:.4g}", tested, str(self.epochs), f"{self.seconds:.0f}"]
        return [*cells[:-1], f"{cells[-1]}  {self.note}"] if self.note else cells


def smallest(experiment: Experiment) -> Experiment:
    """The same experiment with a few trials and epochs on little data, one trial at a time."""
    fields = experiment.to_json()
    auto = [name for name in ("searcher", "scheduler") if getattr(experiment, name) == "auto"]
    experiment = experiment.override({name: fields[name]["name"] for name in auto})  # so that it has options
    task = experiment.resolved.task
    options = task.options() if isinstance(task, Task) else {}
    changes: dict[str, Any] = {"max_concurrent": 1}
    for path, most in SMALLEST.items():
        head, _, rest = path.partition(".")
        if head not in fields and path not in options:
            continue
        value = fields.get(head, options.get(path))
        value = value.get(rest) if rest else value
        # None is a field that is off (folds), but an option that means all of the data.
        if value is not None or path in options:
            changes[path] = most if value is None else min(most, value)
    return experiment.override(changes)


def row_of(file: Path, *, size: str, data_dir: str | None, folder: Path) -> Row:
    """Run one experiment file into folder/NAME. size: "own" or "smallest"."""
    experiment = load_experiment(file)
    if size == "smallest":
        experiment = smallest(experiment)
    resolved = experiment.resolved
    folds = f", {resolved.folds} folds" if resolved.folds else ""
    name, method = file.stem, f"{resolved.searcher.name} + {resolved.scheduler.name}{folds}"
    if isinstance(resolved.task, Task):
        options = resolved.task.options()
        named = next((option for option in ("data_dir", "data_home") if option in options), None)
        try:
            if named and data_dir is not None:
                experiment = experiment.override({f"task.{named}": data_dir})
            task = experiment.resolved.task
            assert isinstance(task, Task)
            task.prepare()
        except ExperimentError as error:
            return Row(name, method, note="no data", why=str(error))
    try:
        results = run(experiment, folder / name, source=file, quiet=True)
    except RaytuneHpoError as error:
        return Row(name, method, note="failed", failed=True, why=str(error))
    return _row(name, method, results, (experiment.folds or 1))


def _row(name: str, method: str, results: Results, models: int) -> Row:
    ended = {status: n for status, n in results.counts.items() if n and status in ("failed", "pending", "running")}
    note = ", ".join(f"{n} {status}" for status, n in ended.items())
    best = results.best
    if best is None:
        return Row(name, method, note=note or "no result", failed=True)
    score = results.metric.replace("validation_", "test_")
    tested = (best.test or {}).get(score)
    return Row(
        name,
        method,
        (results.metric, best.metric),
        None if tested is None else (score, tested),
        len(results.curves) * models,
        results.seconds,
        note,
        failed=bool(note),
    )


def rows(files: Sequence[Path], *, size: str, data_dir: str | None, folder: Path) -> Iterator[Row]:
    """A row an experiment file, each as soon as its run has ended. Joins a started Ray, or starts one for all."""
    with ray_session(None, verbose=False):
        for file in files:
            yield row_of(file, size=size, data_dir=data_dir, folder=folder)


def table(found: Sequence[Row]) -> str:
    lines = text_table(["experiment", "method", "best", "test", "epochs", "seconds"], [row.cells for row in found])
    reasons: dict[tuple[str, str], list[str]] = {}  # several have the same data
    for row in found:
        if row.why:
            reasons.setdefault((row.note, row.why), []).append(row.name)
    return "\n".join([lines, *(f"{', '.join(names)}: {note}: {why}" for (note, why), names in reasons.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true", help="a few trials and epochs each, on little data")
    parser.add_argument("--data-dir", help="the folder of the data that do not come with a package")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of experiment files, without .py")
    parser.add_argument("--keep", metavar="DIR", help="keep the run directories in this folder")
    options = parser.parse_args()
    files = FILES
    if options.only:
        unknown = set(options.only) - {file.stem for file in FILES}
        if unknown:
            parser.error(f"no such experiment: {', '.join(sorted(unknown))}")
        files = [file for file in FILES if file.stem in options.only]
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        size = "smallest" if options.smallest else "own"
        for row in rows(files, size=size, data_dir=options.data_dir, folder=folder):
            found.append(row)
            print(" ".join(filter(None, [*row.cells, row.why])), file=sys.stderr, flush=True)
    print(table(found))
    sys.exit(any(row.failed for row in found))


if __name__ == "__main__":
    main()
