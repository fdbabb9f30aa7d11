"""One timeline of a run: what its journal says and what was measured from outside, in seconds from exec.

python benchmarks/timeline.py RUN_DIR      # one JSON line: the journal's part, as `read_run` returns it
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whole_process import Program, environment, run_program

SCRIPT = """
import sys
import raytune_hpo

if __name__ == "__main__":
    file, run_dir, *changes = sys.argv[1:]
    experiment = raytune_hpo.load_experiment(file).override(raytune_hpo.parse_changes(changes))
    print(raytune_hpo.run(experiment, run_dir))
"""

MOMENTS = (
    "first suggestion",
    "first start",
    "first report",
    "last report",
    "end journaled",
    "prompt",
    "last process gone",
)


@dataclass(frozen=True)
class Phase:
    """A phase of a process, journaled: "driver", "worker 1", ... in the order of their starts, or "driver's worker".
    Seconds from exec."""

    process: str
    name: str
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class Lifetime:
    """A process, seen from outside. The driver and the workers are called as in `Phase`. Seconds from exec."""

    process: str
    began_s: float
    ended_s: float
    cpu_s: float


@dataclass(frozen=True)
class Timeline:
    """moments: those of MOMENTS that came, seconds from exec; "prompt" is the end of the program. reports: of all
    trials together, of a task its epochs. best, test: the objective at the winner's best epoch, and its test metrics;
    None where there are none."""

    executor: str
    phases: tuple[Phase, ...]
    moments: dict[str, float]
    processes: tuple[Lifetime, ...]
    cpu_s: float
    reports: int
    best: float | None
    test: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_run(run_dir: Path) -> dict[str, Any]:
    """What the journal holds of a run's time, on the wall clock (seconds since 1970)."""
    from raytune_hpo import events, load_results

    results = load_results(run_dir)
    at: dict[type[events.Event], list[float]] = {}
    for step in results.steps:
        for event in step.events:
            at.setdefault(type(event), []).append(step.at)
    first = {"first suggestion": events.Suggested, "first start": events.Started, "first report": events.Reported}
    last = {"last report": events.Reported, "end journaled": events.Closed}
    return {
        "executor": next(results.of(events.SessionOpened)).executor.value,
        "phases": [(p.worker, p.name, p.began, p.ended) for p in results.of(events.Phased)],
        "moments": {
            **{name: at[kind][0] for name, kind in first.items() if kind in at},
            **{name: at[kind][-1] for name, kind in last.items() if kind in at},
        },
        "reports": sum(1 for _ in results.of(events.Reported)),
        "best": results.best.metric if results.best else None,
        "test": results.best.test if results.best else None,
    }


def read_with(code: Path, run_dir: Path) -> dict[str, Any]:
    """`read_run` by the checkout that has written the run."""
    done = subprocess.run(
        [sys.executable, __file__, str(run_dir)], capture_output=True, text=True, check=False, env=environment(code)
    )
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def timeline(program: Program, run: dict[str, Any]) -> Timeline:
    """program: that made the run. run: as `read_run` returns it."""

    def since(at: float) -> float:
        return round(at - program.began, 3)

    starts: dict[str, float] = {}
    for worker, _, began, _ in run["phases"]:
        if worker is not None:
            starts[worker] = min(began, starts.get(worker, began))
    names = {worker: f"worker {n}" for n, worker in enumerate(sorted(starts, key=starts.__getitem__), start=1)}
    pids = {worker: int(worker.rpartition("-")[2]) for worker in starts}
    of_pid = {pid: names[worker] for worker, pid in pids.items()}
    of_pid[program.processes[0].pid] = "driver"
    # A worker may be in the driver's process: trials inline.
    names |= {worker: "driver's worker" for worker, pid in pids.items() if of_pid[pid] == "driver"}
    seen: Counter[tuple[str, str]] = Counter()
    phases = []
    for worker, name, began, ended in run["phases"]:
        process = "driver" if worker is None else names[worker]
        seen[process, name] += 1
        again = f" ({seen[process, name]})" if seen[process, name] > 1 else ""
        phases.append(Phase(process, name + again, since(began), since(ended)))
    moments = {**run["moments"], "prompt": program.ended, "last process gone": program.gone}
    return Timeline(
        executor=run["executor"],
        phases=tuple(phases),
        moments={name: since(moments[name]) for name in MOMENTS if name in moments},
        processes=tuple(
            Lifetime(of_pid.get(p.pid, p.name), since(p.seen[0]), since(p.seen[1]), round(p.cpu_s, 2))
            for p in program.processes
        ),
        cpu_s=round(program.cpu_s, 2),
        reports=run["reports"],
        best=run["best"],
        test=run["test"],
    )


def one_run(code: Path, file: Path, changes: Sequence[str], executor: str | None, *, python: bool = False) -> Timeline:
    """A run with the code of a checkout. changes: FIELD=VALUE. python: by a script in place of the command line."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        if python:
            script = Path(folder) / "script.py"
            script.write_text(SCRIPT)
            executors = [f"executor={executor}"] if executor else []
            command = [sys.executable, str(script), str(file), str(run_dir), *changes, *executors]
        else:
            sets = [argument for change in changes for argument in ("--set", change)]
            command = [*raytune_hpo_command(), "run", str(file), "--run-dir", str(run_dir), *sets]
            command += ["--executor", executor] if executor else []
        program = run_program(command, code=code)
        return timeline(program, read_with(code, run_dir))


def raytune_hpo_command() -> list[str]:
    installed = Path(sys.executable).with_name("raytune-hpo")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "raytune_hpo"]


if __name__ == "__main__":
    print(json.dumps(read_run(Path(sys.argv[1]))))
