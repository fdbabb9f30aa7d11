"""The lane array by itself, without Ray: orders in, outcomes out, files that a crash may leave at any moment."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lane_tasks import TASKS, part

from raytune_hpo.storage.checkpoints import CheckpointStore, unpack
from raytune_hpo.storage.run_directory import DESCRIPTION
from raytune_hpo.training.checkpoint import load_state
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.trainer import SupervisedTrainer
from raytune_hpo.workers import lane_array, lane_writer
from raytune_hpo.workers.imports import Imports
from raytune_hpo.workers.lane_array import LaneArray
from raytune_hpo.workers.lane_calls import Order, Turn
from raytune_hpo.workers.lane_capacity import LaneCapacity
from raytune_hpo.workers.messages import Assignment, Outcome
from raytune_hpo.workers.posting import Posting

CONFIG = {"optimizer": "adam", "lr": 1e-3, "hidden_units": 16, "batch_size": 50}
RECIPE = Recipe(TASKS["digits"], max_epochs=9, seed=3)


def array(folder: Path, every: int = 1, run_id: str = "x", task: str = "digits") -> LaneArray:
    (folder / DESCRIPTION).write_text(json.dumps({"run_id": "x"}))
    recipe = Recipe(TASKS[task], max_epochs=9, seed=3)
    posting = Posting(str(folder), run_id, 1, 1, Imports(), True)
    data = partial(part, TASKS[task])
    return LaneArray(pickle.dumps(recipe), data, posting, number=0, checkpoint_every=every, gpu=False, most=8)


def start(slot: int, trial: str, until: int, config: dict[str, Any] = CONFIG, **fields: Any) -> Order:
    return Order("start", slot, 1, trial=Assignment(trial, config, fields.pop("generation", 0), until, **fields))


def collected(actor: LaneArray, orders: list[Order]) -> dict[int, list[Outcome]]:
    """Outcomes by slot, of calls until the array has nothing to train."""
    found: dict[int, list[Outcome]] = {}
    while True:
        turn: Turn = actor.advance(orders)
        orders = []
        for slot, ticket, outcome in turn.outcomes:
            assert ticket == 1
            found.setdefault(slot, []).append(outcome)
        if not turn.busy:
            return found


def epochs(outcomes: list[Outcome]) -> list[int]:
    return [report.epoch for outcome in outcomes for report in outcome.reports]


def test_lanes_train_to_their_next_decision_and_no_further(tmp_path: Path) -> None:
    actor = array(tmp_path)
    found = collected(actor, [start(0, "t0", 3), start(1, "t1", 1), start(2, "t2", 9, {**CONFIG, "hidden_layers": 2})])
    assert [epochs(found[slot]) for slot in (0, 1, 2)] == [[1, 2, 3], [1], list(range(1, 10))]
    assert [found[slot][-1].kind for slot in (0, 1, 2)] == ["waiting"] * 3
    assert actor.advance([]).outcomes == ()
    found = collected(actor, [Order("step", 0, 1, until=5), Order("release", 1, 1)])
    assert {slot: epochs(outcomes) for slot, outcomes in found.items()} == {0: [4, 5]}


def test_metrics_and_checkpoints_are_the_solo_trainers(tmp_path: Path) -> None:
    found = collected(array(tmp_path), [start(0, "t0", 2), start(1, "t1", 2, {**CONFIG, "lr": 0.1})])
    alone = SupervisedTrainer(RECIPE.task, part(RECIPE.task), max_epochs=9, device="cpu")
    alone.setup(CONFIG, RECIPE.trial_seed("t0"))
    store = CheckpointStore(tmp_path, 1)
    for report in (r for outcome in found[0] for r in outcome.reports):
        assert report.metrics == pytest.approx(alone.train_epoch(), rel=1e-4)
        assert report.saved is not None
        record = report.saved.record
        assert record is not None
        assert store.intact(record)
        state, own = load_state(tmp_path / record.path), alone.state_dict()
        assert state["epoch"] == report.epoch
        for name, tensor in own["model"].items():
            torch.testing.assert_close(state["model"][name], tensor, rtol=1e-3, atol=1e-5)


def test_lanes_of_one_interval_are_one_file(tmp_path: Path) -> None:
    collected(array(tmp_path, every=2), [start(i, f"t{i}", 4, {**CONFIG, "lr": 0.01 * (i + 1)}) for i in range(5)])
    assert len(list((tmp_path / "checkpoints/lanes").iterdir())) == 2  # of epochs 2 and 4


def test_a_report_with_a_checkpoint_waits_for_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = lane_writer.write

    def noted(path: Path, *arguments: Any) -> None:
        write(path, *arguments)
        written.append(path)

    monkeypatch.setattr(lane_writer, "write", noted)
    for outcome in collected(array(tmp_path), [start(0, "t0", 3)])[0]:
        for report in outcome.reports:
            assert report.saved is not None
            assert report.saved.record is not None
            assert tmp_path / report.saved.record.path.partition("#")[0] in written


def test_a_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    actor = array(tmp_path)
    first = collected(actor, [start(0, "t0", 2)])[0]
    record = first[-1].reports[-1].saved.record  # type: ignore[union-attr]
    straight = collected(actor, [Order("step", 0, 1, until=4)])[0]
    again = collected(array(tmp_path), [start(3, "t0", 4, checkpoint=record)])[3]
    assert epochs(again) == [3, 4]
    assert [r.metrics for o in again for r in o.reports] == [r.metrics for o in straight for r in o.reports]


def test_a_damaged_checkpoint_is_said_and_harms_no_other(tmp_path: Path) -> None:
    actor = array(tmp_path)
    record = collected(actor, [start(0, "t0", 1)])[0][0].reports[0].saved.record  # type: ignore[union-attr]
    assert record is not None
    found = collected(
        actor, [Order("release", 0, 1), start(1, "t0", 2, checkpoint=replace(record, crc32=0)), start(2, "t2", 2)]
    )
    assert found[1] == [Outcome("unreadable")]
    assert epochs(found[2]) == [1, 2]


def test_exploit_copies_on_the_device_and_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = array(tmp_path)
    found = collected(actor, [start(0, "t0", 2), start(1, "t1", 2, {**CONFIG, "lr": 0.1})])
    donor = found[0][-1].reports[-1].saved.record  # type: ignore[union-attr]
    assert donor is not None
    monkeypatch.setattr(actor._store, "intact", lambda record: pytest.fail("it read the file"))
    changed = {**CONFIG, "lr": 2e-3}
    orders = [
        Order("step", 0, 1, until=4),
        Order("release", 1, 1),
        start(1, "t1", 4, changed, generation=1, checkpoint=donor),
    ]
    copied = collected(actor, orders)[1]
    assert epochs(copied) == [3, 4]
    alone = SupervisedTrainer(RECIPE.task, part(RECIPE.task), max_epochs=9, device="cpu")
    alone.setup(changed, RECIPE.trial_seed("t1"))
    alone.load_state_dict(load_state(tmp_path / donor.path))
    for report in (r for outcome in copied for r in outcome.reports):
        assert report.metrics == pytest.approx(alone.train_epoch(), rel=1e-4)


def test_a_config_that_raises_fails_alone(tmp_path: Path) -> None:
    bad = {**CONFIG, "batch_norm": True, "batch_size": 1}
    found = collected(array(tmp_path), [start(0, "t0", 1, bad), start(1, "t1", 1)])
    assert found[0][0].kind == "raised"
    assert found[0][0].error.startswith("TooFewSamplesError: 203 training samples in batches of 1")
    assert "Traceback" in found[0][0].traceback
    assert epochs(found[1]) == [1]


def test_groups_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_array, "TURN_S", 0.0)  # an epoch of one group a call
    actor = array(tmp_path)
    orders = [start(0, "t0", 3), start(1, "t1", 3, {**CONFIG, "hidden_layers": 2})]
    order: list[tuple[int, int]] = []
    while True:
        turn = actor.advance(orders)
        orders = []
        order += [(slot, report.epoch) for slot, _, outcome in turn.outcomes for report in outcome.reports]
        if not turn.busy:
            break
    assert sorted(order) == [(slot, epoch) for slot in (0, 1) for epoch in (1, 2, 3)]
    trained = {slot: [n for n, (s, _) in enumerate(order) if s == slot] for slot in (0, 1)}
    assert min(trained[1]) < max(trained[0])
    assert min(trained[0]) < max(trained[1])


def test_an_ending_run_saves_every_lane_that_trained(tmp_path: Path) -> None:
    actor = array(tmp_path, every=100)
    turn = actor.advance([start(0, "t0", 9)], True)
    saved = [report.saved for _, _, outcome in turn.outcomes for report in outcome.reports]
    assert saved
    assert all(s is not None for s in saved)


def test_an_array_that_does_not_see_the_run_sends_its_lanes(tmp_path: Path) -> None:
    actor = array(tmp_path, run_id="another")
    saved = collected(actor, [start(0, "t0", 1), start(1, "t1", 1)])[1][0].reports[0].saved
    assert saved is not None
    assert saved.record is None
    assert saved.payload is not None
    unpack(saved.payload, tmp_path / "here")
    assert load_state(tmp_path / "here")["epoch"] == 1
    assert not (tmp_path / "checkpoints").exists()
    again = collected(array(tmp_path, run_id="another"), [start(0, "t1", 2, checkpoint=None, payload=saved.payload)])
    assert epochs(again[0]) == [2]


def test_what_vmap_refuses_is_refused_by_name(tmp_path: Path) -> None:
    assert array(tmp_path, task="branching").refusal([{"batch_size": 16}]) == "Branch is not vmappable"


def test_lanes_are_given_out_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from raytune_hpo.workers import lane_capacity

    monkeypatch.setattr(lane_capacity, "free_bytes", lambda device: 12_000)
    capacity = LaneCapacity("cpu", most=100, cpu_share=0.5)  # 3,000 bytes of it
    assert capacity.lanes == 2
    with capacity.measured("small", 2, row_bytes=20):
        pass
    assert capacity.lanes == 50
    with capacity.measured("large", 2, row_bytes=250):
        pass
    with capacity.measured("small", 2, row_bytes=1):
        pass
    assert capacity.lanes == 4
    with capacity.measured("huge", 1, row_bytes=10**6):
        pass
    assert capacity.lanes == 1
    assert LaneCapacity("cpu", most=1, cpu_share=1.0).lanes == 1


QUICK, SLOW = {**CONFIG, "batch_size": 200}, {**CONFIG, "batch_size": 2}  # of 2 and of 102 steps an epoch


def test_lanes_out_of_step_report_each_at_its_own_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_array, "TURN_S", 0.0)
    actor = array(tmp_path)
    seen = []
    orders = [start(0, "quick", 9, QUICK), start(1, "slow", 1, SLOW)]
    while True:
        turn = actor.advance(orders)
        orders = []
        seen += [(slot, report) for slot, _, outcome in turn.outcomes for report in outcome.reports]
        if not turn.busy:
            break
    assert [slot for slot, _ in seen] == [0] * 9 + [1]
    quick, (slow,) = ([report for slot, report in seen if slot == which] for which in (0, 1))
    assert slow.seconds > quick[0].seconds > 0, "each has the seconds of its own steps"


def test_an_ending_run_lets_epochs_end_that_were_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_array, "TURN_S", 0.0)
    actor = array(tmp_path, every=5)
    turn = actor.advance([start(0, "quick", 9, QUICK), start(1, "slow", 9, SLOW)])
    assert [slot for slot, _, _ in turn.outcomes] == [0]
    seen: dict[int, list[Any]] = {0: [], 1: []}
    while not seen[1]:
        for slot, _, outcome in actor.advance([], save=True).outcomes:
            seen[slot] += outcome.reports
        assert not any(running.trainer.in_mid_epoch(running.name) for running in actor._slots.values())
    assert seen[1][0].epoch == 1
    assert all(report.saved is not None and report.saved.record is not None for own in seen.values() for report in own)


def test_a_donor_in_mid_epoch_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_array, "TURN_S", 0.0)
    actor = array(tmp_path)
    (first,) = collected(actor, [start(0, "slow", 1, SLOW)])[0]
    record = first.reports[0].saved.record  # type: ignore[union-attr]
    actor.advance([Order("step", 0, 1, until=2), start(1, "quick", 1, QUICK)])  # the slow one is in its second epoch
    assert actor._slots[0].trainer.in_mid_epoch("slow")
    assert record is not None
    assert actor._donor(record) is None
    found = collected(actor, [start(2, "copy", 2, {**SLOW, "lr": 0.01}, checkpoint=record)])
    assert epochs(found[2]) == [2]
