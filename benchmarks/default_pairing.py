"""What the default pairing is worth where models train: digits and MNIST, under lanes, against what was the default.

    python benchmarks/default_pairing.py                          # 20 seeds of both: 50 minutes of two quiet cores
    python benchmarks/default_pairing.py --tasks digits --seeds 3 --json runs.jsonl

before    random search, asha with a first rung at epoch 1, the default until there was "auto"
random    random search, asha as it is now
auto      searcher and scheduler by themselves

All get the same seconds from the first report on, the space of experiments/digits.py, 27 epochs, and as many trials as
come; they take turns. Printed, of each: the seconds until 95 % of the gap was closed, between the median trial that
`before` had (its best epoch) and the best value of any run: median and quartiles over the seeds, those that did not get
there count as never; the share of the seeds in which `auto` was there first; the best value at the end, and the trials.

The values are the validation's, as a run sees them: what more trials gain by luck is in them for all three alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
ARMS = {
    "before": {"searcher": "random", "scheduler": '{"name": "asha", "grace_period": 1}'},
    "random": {"searcher": "random", "scheduler": "asha"},
    "auto": {"searcher": "auto", "scheduler": "auto"},
}
SECONDS = {"digits": 15.0, "mnist": 40.0}
SHARE = 0.95
MNIST = """
from dataclasses import replace
from raytune_hpo import Mnist
from digits import experiment as digits

experiment = replace(digits, name="mnist", task=Mnist(train_samples=2000, validation_samples=1000))
"""


@dataclass(frozen=True)
class Outcome:
    """One run. best: [(seconds since the first report, the best value so far)], where it got better; medians: the
    median over its trials of their best value."""

    task: str
    arm: str
    seed: int
    best: list[tuple[float, float]]
    median: float
    trials: int

    def seconds_to(self, goal: float) -> float:
        return next((t for t, value in self.best if value >= goal), math.inf)


def run_once(task: str, arm: str, seed: int, folder: Path) -> Outcome:
    from raytune_hpo import load_results
    from raytune_hpo.journal.events import Reported

    (folder / "mnist.py").write_text(MNIST)
    (folder / "digits.py").write_text((HERE / "experiments" / "digits.py").read_text())
    fields = {**ARMS[arm], "seed": seed, "num_samples": 100_000, "time_budget_s": SECONDS[task] + 3, "max_epochs": 27}
    options = [part for name, value in fields.items() for part in ("--set", f"{name}={value}")]
    command = [Path(sysconfig.get_path("scripts")) / "raytune-hpo", "run", folder / f"{task}.py", "--quiet"]
    done = subprocess.run(
        [*map(str, command), *options, "--executor", "lanes", "--set", f"storage={folder}/runs"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    (run,) = (folder / "runs").iterdir()
    results = load_results(run)
    first, best = None, list[tuple[float, float]]()
    for step in results.steps:
        for event in step.events:
            if isinstance(event, Reported):
                first = step.t if first is None else first
                value = float(event.metrics[results.metric])
                if step.t - first <= SECONDS[task] and math.isfinite(value) and (not best or value > best[-1][1]):
                    best.append((round(step.t - first, 3), value))
    values = [t.best for t in results.ledger.trials.values() if t.best is not None]
    return Outcome(task, arm, seed, best, float(np.median(values)), len(values))


def table(task: str, found: Sequence[Outcome]) -> str:
    from raytune_hpo.results.text_table import text_table

    start = float(np.median([o.median for o in found if o.arm == "before"]))
    goal = start + SHARE * (max(o.best[-1][1] for o in found) - start)
    by = {arm: sorted((o for o in found if o.arm == arm), key=lambda o: o.seed) for arm in ARMS}
    auto = np.array([o.seconds_to(goal) for o in by["auto"]])
    rows = []
    for arm, runs in by.items():
        seconds = np.array([o.seconds_to(goal) for o in runs])
        low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75], method="inverted_cdf")
        earlier = float(np.mean((auto < seconds) + 0.5 * (auto == seconds)))
        ends = np.quantile([o.best[-1][1] for o in runs], [0.25, 0.5, 0.75])
        rows.append(
            [
                arm,
                f"{middle:.1f} ({low:.1f}..{high:.1f})",
                f"{np.isfinite(seconds).mean():.0%}",
                "" if arm == "auto" else f"{earlier:.0%}",
                f"{ends[1]:.4f} ({ends[0]:.4f}..{ends[2]:.4f})",
                f"{np.median([o.trials for o in runs]):.0f}",
            ]
        )
    header = ["pairing", f"seconds to {goal:.4f}", "got there", "auto was first", "best at the end", "trials"]
    return f"{task}: {SECONDS[task]:g} s, from {start:.4f}\n{text_table(header, rows)}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=SECONDS, default=list(SECONDS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="JSON lines, one a run: added to, and read so that none is repeated")
    arguments = parser.parse_args(argv)
    file: Path | None = arguments.json
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    known = {(o.task, o.arm, o.seed): o for o in (Outcome(**json.loads(line)) for line in lines)}
    for task in arguments.tasks:
        for seed in range(arguments.seeds):
            for arm in ARMS:
                if (task, arm, seed) in known:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    outcome = known[task, arm, seed] = run_once(task, arm, seed, Path(folder))
                if file is not None:
                    with file.open("a") as out:
                        out.write(json.dumps(asdict(outcome)) + "\n")
                print(f"{task} {seed} {arm}: {outcome.best[-1][1]:.4f}", file=sys.stderr, flush=True)
        found = [o for o in known.values() if o.task == task and o.seed < arguments.seeds]
        print(table(task, found), flush=True)


if __name__ == "__main__":
    main()
