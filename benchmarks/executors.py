"""auto's choice against each executor that it could have taken, on every experiment file: whole programs, in turns.

    python benchmarks/executors.py                              # each at the size its file has, 3 repeats: an hour
    python benchmarks/executors.py --data-dir DIR --only digits diabetes --repeats 1

Printed: wall seconds from exec to the prompt, medians with (minimum..maximum); what auto took (two names: it went over
from the one to the other); auto's median over the best executor's. "-": the experiment cannot be run by it, or its
data are not here.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from medians import spread, table
from whole_process import run_program

from raytune_hpo import ExperimentError, Task, events, load_experiment, load_results

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
EXECUTORS = ("auto", "inline", "lanes", "processes")
#: Two runs, the second of a size that the first decides: no executor's own time.
LEFT_OUT = ("panda_vs_caviar",)


def cannot(file: Path, executor: str, data_dir: str | None) -> bool:
    """Whether the experiment refuses the executor, or has no data."""
    experiment = load_experiment(file)
    task = experiment.resolved.task
    try:
        if isinstance(task, Task) and "data_dir" in task.options() and data_dir is not None:
            experiment = experiment.override({"data_dir": data_dir})
        experiment = experiment.override({"executor": executor})
        if isinstance(experiment.resolved.task, Task):
            experiment.resolved.task.prepare()
    except ExperimentError as error:
        print(f"{file.stem}, {executor}: {error}", file=sys.stderr)
        return True
    return False


def one(file: Path, executor: str, data_dir: str | None) -> tuple[float, str]:
    """(wall seconds, where its trials ran)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        command = [sys.executable, "-m", "raytune_hpo", "run", str(file), "--run-dir", str(path), "--quiet"]
        task = load_experiment(file).resolved.task
        if data_dir is not None and isinstance(task, Task) and "data_dir" in task.options():
            command += ["--set", f"data_dir={data_dir}"]
        program = run_program([*command, "--executor", executor])
        results = load_results(path)
        ran = [e.executor for e in results.of(events.SessionOpened)]
        return program.wall_s, " > ".join([*ran, *(e.executor for e in results.of(events.ExecutorChanged))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names of experiment files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data-dir", help="holds MNIST/raw, cifar-10-batches-py, ...")
    options = parser.parse_args()
    files = [f for f in sorted(EXPERIMENTS.glob("*.py")) if f.stem not in LEFT_OUT]
    print(f"{options.repeats} repeats, {os.cpu_count()} cores; wall s", flush=True)
    rows = []
    for file in files:
        if options.only and file.stem not in options.only:
            continue
        able = [executor for executor in EXECUTORS if not cannot(file, executor, options.data_dir)]
        found: dict[str, list[tuple[float, str]]] = {executor: [] for executor in able}
        for _ in range(options.repeats):
            for executor in able:
                found[executor].append(one(file, executor, options.data_dir))
        if "auto" not in found:
            rows.append((file.stem, ["-"] * (len(EXECUTORS) + 2)))
            continue
        medians = {name: statistics.median(wall for wall, _ in runs) for name, runs in found.items()}
        best = min(wall for name, wall in medians.items() if name != "auto")
        cells = [spread((wall for wall, _ in found[name]), ".1f") if name in found else "-" for name in EXECUTORS]
        took = ", ".join(sorted({ran for _, ran in found["auto"]}))
        rows.append((file.stem, [*cells, took, f"{medians['auto'] / best:.2f}"]))
        print(f"{rows[-1][0]}: {'  '.join(rows[-1][1])}", file=sys.stderr, flush=True)
    table([*EXECUTORS, "auto took", "of the best"], rows)


if __name__ == "__main__":
    main()
