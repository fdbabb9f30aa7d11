"""The panda's care, in runs of the real driver in virtual time, crashed at every step among them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from scheduler_contract import Faults, Simulation, check_same_table, check_sound

from raytune_hpo import Experiment, ExperimentError, Float
from raytune_hpo.execution.interventions import take
from raytune_hpo.storage import commands

METRIC = "value"


def trainable(config: dict[str, Any]) -> None:
    """Never called: the simulation trains."""


def experiment(epochs: int = 30, start: float = 0.1, **options: Any) -> Experiment:
    return Experiment(
        name="panda",
        task=trainable,
        space={"lr": Float(1e-3, 1.0, "log")},
        metric=METRIC,
        mode="max",
        scheduler={"name": "panda", "nudge_every": 0, **options},
        start_points=[{"lr": start}],
        max_epochs=epochs,
    )


def simulate(exp: Experiment, value: Any, folder: Path, **more: Any) -> Simulation:
    sim = Simulation(exp, value=value, **more)
    sim.path = folder
    sim.run()
    check_sound(sim)
    return sim


def changes(sim: Simulation) -> list[dict[str, Any]]:
    return [e for e in sim.events if e["event"] == "perturb"]


def flat(config: dict[str, Any], epoch: int) -> float:
    return min(epoch, 5) / 10


def test_a_plateau_lowers_the_rate_and_goes_on_from_there(tmp_path: Path) -> None:
    sim = simulate(experiment(patience=4, decay=0.1), flat, tmp_path)
    first = changes(sim)[0]
    assert (first["epoch"], first["donor_epoch"], first["donor"]) == (9, 9, first["trial"])
    assert first["new_config"]["lr"] == pytest.approx(0.01)
    assert "plateau" in first["reason"]
    assert [c["new_config"]["lr"] for c in changes(sim)] == pytest.approx([0.01, 0.001])  # the space ends there
    assert sim.trials[0].epoch == 30


def test_a_curve_that_rises_is_left_alone(tmp_path: Path) -> None:
    assert changes(simulate(experiment(patience=2), lambda config, epoch: epoch / 100, tmp_path)) == []


def diverging(config: dict[str, Any], epoch: int) -> float:
    return math.nan if epoch >= 7 and config["lr"] > 0.03 else epoch / 100


def test_divergence_goes_back_to_the_last_good_epoch_and_lowers_the_rate(tmp_path: Path) -> None:
    sim = simulate(experiment(), diverging, tmp_path)
    assert [(c["epoch"], c["donor_epoch"], c["new_config"]["lr"]) for c in changes(sim)] == [
        (7, 6, pytest.approx(0.05)),
        (7, 6, pytest.approx(0.025)),
    ]
    assert all("divergence" in c["reason"] for c in changes(sim))
    assert sim.trials[0].status == "completed"


def test_it_gives_up_after_so_many_rollbacks(tmp_path: Path) -> None:
    sim = simulate(experiment(max_rollbacks=3), lambda c, e: math.nan if e == 7 else e / 100, tmp_path)
    assert len(changes(sim)) == 3
    assert sim.trials[0].status == "diverged"


def nudged(config: dict[str, Any], epoch: int) -> float:
    """Larger rates are better, up to 0.2."""
    return epoch / 100 + min(config["lr"], 0.2)


def test_a_nudge_is_kept_if_the_same_epochs_without_it_are_worse(tmp_path: Path) -> None:
    sim = simulate(experiment(nudge_every=5, nudge_factor=1.5, window=2), nudged, tmp_path)
    first, back, kept = changes(sim)[:3]
    assert (first["epoch"], first["donor_epoch"], first["new_config"]["lr"]) == (5, 5, pytest.approx(0.15))
    assert (back["epoch"], back["donor_epoch"], back["new_config"]["lr"]) == (7, 5, 0.1)
    assert (kept["epoch"], kept["donor_epoch"], kept["donor_generation"]) == (7, 7, 1)
    assert kept["new_config"] == first["new_config"]
    assert max(c["new_config"]["lr"] for c in changes(sim) if "kept" in c["reason"]) == pytest.approx(0.225)
    # Beyond 0.2 a nudge up does not help any more: the next one goes down, and is undone too.
    assert any("nudge down" in c["reason"] for c in changes(sim))


def test_a_nudge_that_diverges_is_undone(tmp_path: Path) -> None:
    sim = simulate(experiment(nudge_every=5), lambda c, e: math.nan if c["lr"] > 0.1 else e / 100, tmp_path)
    undone = changes(sim)[1]
    assert "undone" in undone["reason"]
    assert (undone["donor_epoch"], undone["new_config"]["lr"]) == (5, 0.1)


@pytest.mark.parametrize("value", [flat, diverging, nudged])
def test_a_crash_at_any_step_changes_nothing(value: Any, tmp_path: Path) -> None:
    exp = experiment(20, patience=4, nudge_every=5)
    calm = simulate(exp, value, tmp_path)
    for step in range(2, calm.appends, 3):
        check_same_table(calm, simulate(exp, value, tmp_path, crash_steps={step}))


def test_faults_of_workers_do_no_harm(tmp_path: Path) -> None:
    faults = Faults(lost=0.05, damaged=0.1)
    for seed in range(5):
        exp = experiment(20, patience=4, nudge_every=5).override({"seed": seed})
        simulate(exp, nudged, tmp_path, faults=faults)


# By hand ----------------------------------------------------------------------------------------------


class Hand:
    """A person: sends `script`, epoch -> (command, arguments), when the model gets there."""

    def __init__(self, folder: Path, script: dict[int, tuple[str, dict[str, Any]]]) -> None:
        self.folder = folder
        self.script = dict(script)

    def __call__(self, config: dict[str, Any], epoch: int) -> float:
        if epoch in self.script:
            command, arguments = self.script.pop(epoch)
            commands.send(self.folder, command, **arguments)
        return epoch / 100


def test_nudge_and_rollback_by_hand(tmp_path: Path) -> None:
    script = {4: ("nudge", {"changes": {"lr": 0.5}}), 12: ("rollback", {"epoch": 10})}
    sim = simulate(experiment(15), Hand(tmp_path, script), tmp_path)
    nudge, back = changes(sim)
    assert (nudge["epoch"], nudge["donor_epoch"], nudge["new_config"], nudge["by"]) == (4, 4, {"lr": 0.5}, "hand")
    assert (back["epoch"], back["donor_epoch"], back["new_config"]) == (12, 10, {"lr": 0.5})
    assert all(e["applied"] for e in sim.events if e["event"] == "command")
    assert commands.pending(tmp_path) == []


def test_what_cannot_be_done_is_refused_and_said(tmp_path: Path) -> None:
    script = {3: ("nudge", {"changes": {"momentum": 0.5}}), 5: ("rollback", {"epoch": 77})}
    sim = simulate(experiment(8), Hand(tmp_path, script), tmp_path)
    taken = [e for e in sim.events if e["event"] == "command"]
    assert [e["applied"] for e in taken] == [False, False]
    assert "momentum" in taken[0]["outcome"]
    assert "these epochs have one" in taken[1]["outcome"]
    assert changes(sim) == []


def test_every_tenth_epoch_stays_to_go_back_to(tmp_path: Path) -> None:
    sim = simulate(experiment(40, patience=100), Hand(tmp_path, {38: ("rollback", {"epoch": 10})}), tmp_path)
    assert [c["donor_epoch"] for c in changes(sim)] == [10]


def test_a_pause_holds_until_it_is_resumed(tmp_path: Path) -> None:
    exp = experiment(8)
    sim = Simulation(exp, value=Hand(tmp_path, {3: ("pause", {})}))
    sim.path = tmp_path
    sim.interrupts = [30]  # rounds pass, nothing trains
    sim.run()
    events = [e["event"] for e in sim.events]
    closed = events.index("close")
    assert events[:closed].count("result") == 3
    assert [e["command"] for e in sim.events if e["event"] == "command"] == ["pause"]
    assert sim.trials[0].epoch == 8  # a resumed run goes on by itself


def test_a_command_is_taken_once_although_its_file_outlives_a_crash(tmp_path: Path) -> None:
    exp = experiment(8)
    calm = simulate(exp, Hand(tmp_path, {3: ("nudge", {"changes": {"lr": 0.5}})}), tmp_path)
    command = next(e for e in calm.events if e["event"] == "command")
    population = calm.population
    population.take_step()
    take(population, calm.trials[0], {"id": command["id"], "command": "nudge", "changes": {"lr": 0.7}})
    assert population.take_step() == []


@pytest.mark.parametrize("offset", range(4))
def test_a_crash_round_a_command_loses_and_doubles_nothing(offset: int, tmp_path: Path) -> None:
    exp = experiment(8)
    script = {3: ("nudge", {"changes": {"lr": 0.5}})}
    calm = simulate(exp, Hand(tmp_path / "calm", script), _made(tmp_path / "calm"))
    at = next(i for i, line in enumerate(calm.lines) if '"command"' in line)
    crashed = simulate(
        exp, Hand(tmp_path / "crashed", script), _made(tmp_path / "crashed"), crash_steps={2 * at - 1 + offset}
    )
    check_same_table(calm, crashed)
    assert len(changes(crashed)) == 1
    assert commands.pending(tmp_path / "crashed") == []


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_commands_keep_their_order_and_ignore_other_files(tmp_path: Path) -> None:
    sent = [commands.send(tmp_path, "nudge", changes={"lr": n}) for n in range(3)]
    (tmp_path / "commands" / "note.json").write_text("not ours")
    assert [c["id"] for c in commands.pending(tmp_path)] == sent
    commands.remove(tmp_path, sent[0])
    assert [c["id"] for c in commands.pending(tmp_path)] == sent[1:]


def test_waiting_for_a_command_reads_the_journal(tmp_path: Path) -> None:
    event = {"event": "command", "id": "7", "applied": True, "outcome": "done"}
    (tmp_path / "journal.jsonl").write_text(json.dumps({"t": 0, "events": [event]}) + "\n")
    assert commands.wait_for(tmp_path, "7", 0.0) == event
    assert commands.wait_for(tmp_path, "8", 0.0) is None


def test_a_panda_is_one_model_with_a_rate() -> None:
    with pytest.raises(ExperimentError, match=r"num_samples.*one model"):
        experiment().override({"num_samples": 2})
    with pytest.raises(ExperimentError, match=r"scheduler\.parameter.*learning rate"):
        experiment(parameter="rate")
