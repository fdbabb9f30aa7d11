"""Lane arrays on two nodes of this machine: one node is lost, and no trial with it, whether or not it saw the run."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from process_tree import descendants
from test_cluster import Cluster, cluster, needs_mounts, private_mounts

from raytune_hpo import load_results
from raytune_hpo.journal.events import CheckpointSaved, Event, Retried, Started, Suggested
from raytune_hpo.verdicts.replay import replay

TRIALS = 8
EPOCHS = 20
EVERY = 4

# The first node's array waits for the second's, and that one stops in mid-epoch, for good: it is there that it is lost.
EXPERIMENT = """
import os, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from raytune_hpo import Experiment, Float
from raytune_hpo.tasks.digits import Digits

SECOND, EPOCH = Path({second!r}), 17 * {trials} // 2  # steps of an epoch, of an array's lanes

@dataclass(frozen=True)
class InStep(Digits):
    calls: ClassVar[int] = 0

    def augment(self, x):
        type(self).calls += 1
        node = os.environ.get("NODE_NUMBER")
        if node == "1":
            SECOND.touch()
        while (node == "0" and self.calls > EPOCH and not SECOND.exists()) or (
            node == "1" and self.calls > 3 * {every} * EPOCH
        ):
            time.sleep(0.2)
        return x

experiment = Experiment(
    name="cluster", task=InStep(), executor="lanes",
    space={{"lr": Float(1e-4, 1e-1, "log"), "dropout": Float(0.0, 0.5), "hidden_units": 64, "batch_size": 64}},
    searcher="random", scheduler="fifo", num_samples={trials}, max_epochs={epochs}, seed=1,
    checkpoint={{"every": {every}}},
)
"""


def wait_until_half_way(process: subprocess.Popen[str], run_dir: Path, nodes: Cluster, shared: bool) -> set[str]:
    """Until trials of the second node have been saved twice. Which those are."""
    while process.poll() is None:
        time.sleep(0.3)
        events = load_results(run_dir).events if (run_dir / "journal.jsonl").exists() else []
        found = [e.checkpoint for e in events if isinstance(e, CheckpointSaved)]
        saved = {record.trial: record.path for record in found if record.epoch == 2 * EVERY}
        # Those of an array have its process in the name; those that came as bytes are in folders of their own.
        there = descendants(nodes.raylets[1])
        second = {t for t, path in saved.items() if "#" not in path or int(Path(path).name.split("-")[2]) in there}
        if second:
            assert shared == any("#" in saved[trial] for trial in second)
            return second
    raise AssertionError(process.communicate()[1])


def check(events: list[Event], moved: set[str]) -> None:
    """Trials that lost their node went on from a checkpoint that was at most one interval old."""
    lost: dict[str, int] = {}
    for event in events:
        if isinstance(event, Retried):
            assert event.lost_worker
            lost[event.trial] = event.epoch
        if isinstance(event, Started) and event.trial in lost:
            assert lost[event.trial] - EVERY < event.epoch <= lost[event.trial], event
    assert moved <= set(lost) < {event.trial for event in events if isinstance(event, Suggested)}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "shared", [pytest.param(True, id="shared"), pytest.param(False, id="not shared", marks=needs_mounts)]
)
def test_a_lost_node_costs_its_lanes_one_interval(tmp_path: Path, shared: bool) -> None:
    file, runs = tmp_path / "experiment.py", tmp_path / "runs"
    second = str(tmp_path / "second")
    file.write_text(EXPERIMENT.format(second=second, trials=TRIALS, epochs=EPOCHS, every=EVERY))
    runs.mkdir()
    hide = (*private_mounts(), "sh", "-c", f'mount -t tmpfs none "{runs}" && exec "$@"', "sh")
    with cluster(tmp_path, before_second=() if shared else hide) as nodes:
        process = nodes.run(file, runs / "run")
        moved = wait_until_half_way(process, runs / "run", nodes, shared)
        nodes.kill_second()
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    results = load_results(runs / "run")
    assert results.status == "finished"
    assert results.counts["completed"] == TRIALS
    for trial_id, curve in results.curves.groupby("trial_id"):
        assert list(curve.epoch) == list(range(1, EPOCHS + 1)), trial_id
    check(results.events, moved)
    for trial_id in sorted(moved)[:2]:
        assert replay(results, trial_id).differing == []
