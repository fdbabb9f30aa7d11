"""Fifty runs in a row of each scheduler on real Ray, every third one killed half-way and resumed: all must end.

    python benchmarks/endurance.py                        # asha, hyperband, median, pbt: about 15 minutes
    python benchmarks/endurance.py --runs 5 --schedulers hyperband

Ray Tune's own HyperBand left trials PAUSED for ever in 4 of 30 such runs, and both of its restores hung. A run that
has not ended after --timeout seconds is named, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raytune_hpo import Experiment, Float, load_results, resume, run
from raytune_hpo.workers.ray_runtime import ray_session

EPOCHS = 9


def train(config: dict[str, Any]) -> None:
    """A curve with its own checkpoints, 2 ms an epoch."""
    from ray import tune

    epoch = 0
    start = tune.get_checkpoint()
    if start:
        with start.as_directory() as folder:
            epoch = json.loads((Path(folder) / "state.json").read_text())
    while epoch < EPOCHS:
        epoch += 1
        time.sleep(0.002)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "state.json").write_text(json.dumps(epoch))
            score = 1 - (config["x"] - 0.3) ** 2 - 1 / (epoch + 1)
            tune.report({"score": score}, checkpoint=tune.Checkpoint.from_directory(folder))


class KilledError(Exception):
    """The driver is gone."""


@contextlib.contextmanager
def killed_after(turns: int | None) -> Iterator[None]:
    """The driver ends in the middle, as by a crash: nothing is closed, nothing is saved. turns: None lets it live."""
    from raytune_hpo.engine.driver import Driver

    commit, left = Driver.commit, turns

    def commit_or_die(driver: Driver) -> None:
        nonlocal left
        if left is not None:
            left -= 1
            if left < 0:
                raise KilledError
        commit(driver)

    Driver.commit = commit_or_die  # type: ignore[method-assign]
    try:
        yield
    finally:
        Driver.commit = commit  # type: ignore[method-assign]


def one(scheduler: str, number: int, folder: str) -> dict[str, Any]:
    rng = random.Random(f"{scheduler} {number}")
    options: dict[str, Any] = {"name": scheduler}
    if scheduler in ("pbt", "pb2"):
        options |= {"interval": 2, "mutate": ["x"]}
    experiment = Experiment(
        name="endurance",
        task=train,
        space={"x": Float(0, 1)},
        metric="score",
        mode="max",
        scheduler=options,
        num_samples=rng.randint(4, 20),
        max_epochs=EPOCHS,
        seed=number,
    )
    path = Path(folder) / f"{scheduler}-{number}"
    killed = False
    try:
        turns = rng.randint(6, 60)  # the driver commits twice a turn of its loop
        with killed_after(turns if number % 3 == 0 else None):
            run(experiment, path, quiet=True)
    except KilledError:
        killed = True
        resume(path, task=train)
    results = load_results(path)
    curves = results.curves
    assert results.status == "finished", results.status
    assert not results.ledger.live
    assert not curves.duplicated(["trial_id", "generation", "epoch"]).any()
    assert set(results.trials.status) <= {"completed", "stopped"}, set(results.trials.status)
    return {"killed": killed, "trials": len(results.trials), "stopped": results.counts["stopped"]}


def many(scheduler: str, runs: int) -> None:
    """Runs one after the other on one Ray, each ended one a line on stdout."""
    with ray_session(None, verbose=False), tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            print(json.dumps(one(scheduler, number, folder)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--schedulers", nargs="+", default=["asha", "hyperband", "median", "pbt", "pb2"])
    parser.add_argument("--timeout", type=float, default=120.0)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        many(options.only, options.runs)
        return
    for scheduler in options.schedulers:
        began = time.monotonic()
        done: list[dict[str, Any]] = []
        with subprocess.Popen(
            [sys.executable, __file__, "--only", scheduler, "--runs", str(options.runs)],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            while len(done) < options.runs:
                ready, _, _ = select.select([process.stdout], [], [], options.timeout)
                line = process.stdout.readline() if ready else ""
                if not line:
                    process.kill()
                    sys.exit(f"{scheduler}: run {len(done)} did not end within {options.timeout:g} s, or failed")
                done.append(json.loads(line))
        killed, trials, stopped = (sum(d[key] for d in done) for key in ("killed", "trials", "stopped"))
        print(
            f"{scheduler:9}  {len(done)} of {options.runs} runs ended, {killed} of them killed and resumed; "
            f"{trials} trials, {stopped} stopped early; {time.monotonic() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
