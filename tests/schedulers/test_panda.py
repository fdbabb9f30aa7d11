"""The panda's care, in runs of the real driver in virtual time, crashed at every step among them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Choice, Experiment, ExperimentError, Float
from raytune_hpo.display.panda_display import intervention
from raytune_hpo.engine.interventions import checked_changes, checkpoint_of, take
from raytune_hpo.journal.events import (
    By,
    CheckpointRecord,
    Closed,
    Commanded,
    Decided,
    Perturbed,
    Reported,
    Suggested,
)
from raytune_hpo.journal.file import Journal
from raytune_hpo.journal.names import checkpoint_path
from raytune_hpo.results.trial import TrialState
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.storage import commands
from raytune_hpo.testing.schedulers import check_same_table, check_sound
from raytune_hpo.testing.simulation import Faults, Simulation

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


def changes(sim: Simulation) -> list[Perturbed]:
    return sim.of(Perturbed)


def flat(config: dict[str, Any], epoch: int) -> float:
    return min(epoch, 5) / 10


def test_a_plateau_lowers_the_rate_and_goes_on_from_there(tmp_path: Path) -> None:
    sim = simulate(experiment(patience=4, decay=0.1), flat, tmp_path)
    first = changes(sim)[0]
    assert (first.epoch, first.donor_epoch, first.donor) == (9, 9, first.trial)
    assert first.new_config["lr"] == pytest.approx(0.01)
    assert "plateau" in first.reason
    assert [c.new_config["lr"] for c in changes(sim)] == pytest.approx([0.01, 0.001])  # the space ends there
    assert sim.trials[0].epoch == 30


def test_a_curve_that_rises_is_left_alone(tmp_path: Path) -> None:
    assert changes(simulate(experiment(patience=2), lambda config, epoch: epoch / 100, tmp_path)) == []


def diverging(config: dict[str, Any], epoch: int) -> float:
    return math.nan if epoch >= 7 and config["lr"] > 0.03 else epoch / 100


def test_divergence_goes_back_to_the_last_good_epoch_and_lowers_the_rate(tmp_path: Path) -> None:
    sim = simulate(experiment(), diverging, tmp_path)
    assert [(c.epoch, c.donor_epoch, c.new_config["lr"]) for c in changes(sim)] == [
        (7, 6, pytest.approx(0.05)),
        (7, 6, pytest.approx(0.025)),
    ]
    assert all("divergence" in c.reason for c in changes(sim))
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
    assert (first.epoch, first.donor_epoch, first.new_config["lr"]) == (5, 5, pytest.approx(0.15))
    assert (back.epoch, back.donor_epoch, back.new_config["lr"]) == (7, 5, 0.1)
    assert (kept.epoch, kept.donor_epoch, kept.donor_generation) == (7, 7, 1)
    assert kept.new_config == first.new_config
    assert max(c.new_config["lr"] for c in changes(sim) if "kept" in c.reason) == pytest.approx(0.225)
    # Beyond 0.2 a nudge up does not help any more: the next one goes down, and is undone too.
    assert any("nudge down" in c.reason for c in changes(sim))


def test_a_nudge_that_diverges_is_undone(tmp_path: Path) -> None:
    sim = simulate(experiment(nudge_every=5), lambda c, e: math.nan if c["lr"] > 0.1 else e / 100, tmp_path)
    undone = changes(sim)[1]
    assert "undone" in undone.reason
    assert (undone.donor_epoch, undone.new_config["lr"]) == (5, 0.1)


def test_a_rejected_nudge_is_said(tmp_path: Path) -> None:
    sim = simulate(experiment(nudge_every=5, window=2), lambda c, e: e / 100 - abs(c["lr"] - 0.1), tmp_path)
    notes = [e for e in sim.of(Decided) if e.note is not None]
    assert notes[0].epoch == 7
    assert "rejected: mean value" in str(notes[0].note)
    assert intervention(notes[0]) == f"epoch 7: {notes[0].note}"
    assert sum("without it" in e.reason for e in changes(sim)) == len(notes)


def test_nudges_that_come_to_nothing_become_rare(tmp_path: Path) -> None:
    # At its floor the rate can only go up, which never helps.
    sim = simulate(experiment(200, start=1e-3, nudge_every=5), lambda c, e: e / 1000 - c["lr"], tmp_path)
    tried = [e for e in changes(sim) if "tried" in e.reason]
    assert all("nudge up" in e.reason for e in tried)
    waits = [b.epoch - a.epoch for a, b in itertools.pairwise(tried)]
    assert waits[:5] == [7, 12, 22, 42, 42]


def test_a_nudge_that_a_bound_all_but_stops_is_not_tried(tmp_path: Path) -> None:
    sim = simulate(experiment(9, start=1.02e-3, nudge_every=2), lambda c, e: -abs(c["lr"] - 1.02e-3), tmp_path)
    assert [e.reason for e in changes(sim) if "down" in e.reason] == []


# Divergence of the training loss ----------------------------------------------------------------------


class Watch:
    """A panda that is shown training losses, epoch by epoch."""

    def __init__(self) -> None:
        self.panda = experiment(1000).resolved.new_scheduler()
        self.host = SchedulerHost(self.panda)
        self.host.add("t0", {"lr": 0.1})
        self.epoch = 0

    def __call__(self, *losses: float) -> list[str]:
        """Why it intervened in these epochs; each intervention goes back one epoch."""
        for loss in losses:
            self.epoch += 1
            trial = self.host.trials["t0"]
            trial.checkpoint = CheckpointRecord("t0", 0, self.epoch, checkpoint_path("t0", 0, self.epoch, 1), 1, 1)
            found = {METRIC: self.epoch, "train_loss": loss, "epoch": self.epoch, "finite": math.isfinite(loss)}
            self.host.result("t0", found)
        return [effect.reason for effect in self.host.take_effects()]  # type: ignore[union-attr]

    def nudged(self) -> None:
        self.panda.intervened(self.host.trials["t0"])


def test_a_training_loss_that_explodes_is_a_divergence() -> None:
    assert Watch()(2.0, 1.0, 0.5, 0.3, 0.2, 1.1) == ["divergence: the training loss 1.1 is over 4 times its best, 0.2"]


def test_the_noise_of_a_tiny_loss_is_none() -> None:
    assert Watch()(2.0, 1.0, 0.1, 0.01, 0.002, 0.009, 0.001, 0.03, 0.003) == []


def test_a_loss_that_has_been_as_high_just_now_is_none() -> None:
    assert Watch()(1.0, 0.9, 0.1, 0.39, 0.05, 0.3) == []


def test_a_nudge_by_hand_may_shake_the_model_for_a_while() -> None:
    watch = Watch()
    watch(2.0, 1.0, 0.01)
    watch.nudged()
    assert watch(0.02, 1.5, 2.5) == []
    assert len(watch(0.01, 3.0)) == 1


@pytest.mark.parametrize("loss", [math.inf, 9.0])
def test_but_not_beyond_what_it_was_at_the_start(loss: float) -> None:
    watch = Watch()
    watch(2.0, 1.0, 0.01)
    watch.nudged()
    assert len(watch(loss)) == 1


# The old checkpoints ----------------------------------------------------------------------------------


def test_old_checkpoints_are_thinned_out_and_span_the_run(tmp_path: Path) -> None:
    sim = simulate(experiment(1000, patience=2000), lambda c, e: e / 1000, tmp_path)
    assert sim.most_on_disk <= 25
    kept = sorted({record.epoch for record in sim.population.host.pinned()})
    assert kept[:3] == [80, 160, 240]
    assert kept[-1] >= 960


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
    assert (nudge.epoch, nudge.donor_epoch, nudge.new_config, nudge.by) == (4, 4, {"lr": 0.5}, By.HAND)
    assert (back.epoch, back.donor_epoch, back.new_config) == (12, 10, {"lr": 0.5})
    assert all(e.applied for e in sim.of(Commanded))
    assert commands.pending(tmp_path) == []


def test_what_cannot_be_done_is_refused_and_said(tmp_path: Path) -> None:
    script = {3: ("nudge", {"changes": {"momentum": 0.5}}), 5: ("rollback", {"epoch": 77})}
    sim = simulate(experiment(8), Hand(tmp_path, script), tmp_path)
    taken = sim.of(Commanded)
    assert [e.applied for e in taken] == [False, False]
    assert "momentum" in taken[0].outcome
    assert "the epochs that have one: 4, 5" in taken[1].outcome
    assert changes(sim) == []


SPACE = {
    "optimizer": Choice(["sgd", "adam"]),
    "lr": Float(1e-4, 1.0, "log"),
    "momentum": Float(0.5, 0.99).when("optimizer", "==", "sgd"),
    "batch_size": 64,
}
ADAM: dict[str, Any] = {"optimizer": "adam", "lr": 0.1, "batch_size": 64}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"momentum": 0.95},
            "'momentum': is inactive in this config: it is there if optimizer == sgd, and optimizer is a",
        ),
        ({"eps": -1}, "eps = -1"),
        ({"hidden_layers": 2}, "cannot change in mid-training"),
        ({"rate": 0.1}, "is no hyperparameter"),
    ],
)
def test_a_nudge_that_would_do_nothing_is_refused(changes: dict[str, Any], said: str) -> None:
    exp = Experiment(name="panda", task="digits", space=SPACE)
    with pytest.raises(ExperimentError) as refused:
        checked_changes(exp.resolved, ADAM, changes)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("optimizer", "name", "value"),
    [("adam", "momentum", 0.9), ("sgd", "beta1", 0.9), ("adagrad", "beta2", 0.9), ("sgd", "eps", 1e-6)],
)
def test_a_nudge_of_what_the_optimizer_does_not_use_is_refused(optimizer: str, name: str, value: float) -> None:
    exp = Experiment(name="panda", task="digits", space={"lr": Float(1e-4, 1.0, "log"), "optimizer": optimizer})
    with pytest.raises(ExperimentError, match=f"is not used by {optimizer}"):
        checked_changes(exp.resolved, {"lr": 0.1, "optimizer": optimizer}, {name: value})


def test_what_is_not_in_the_space_can_be_nudged_where_it_is_used() -> None:
    exp = Experiment(name="panda", task="digits", space=SPACE)
    given = {"weight_decay": 1e-4, "beta1": 0.8, "clip_norm": 1.0, "lr": 3.0}
    assert checked_changes(exp.resolved, ADAM, given) == given
    sgd = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "batch_size": 64}
    assert checked_changes(exp.resolved, sgd, {"momentum": 0.95}) == {"momentum": 0.95}


def test_a_nudge_keeps_the_conditions_of_the_space(tmp_path: Path) -> None:
    exp = Experiment(
        name="panda",
        task=trainable,
        space={
            "lr": Float(1e-3, 1.0, "log"),
            "warm": Choice([False, True]),
            "steps": Float(1, 9).when("warm", "==", True),
        },
        metric=METRIC,
        mode="max",
        scheduler={"name": "panda", "nudge_every": 0},
        start_points=[{"lr": 0.1, "warm": True, "steps": 3.0}],
        max_epochs=9,
    )
    with pytest.raises(ExperimentError, match=r"steps.*becomes active by this change"):
        checked_changes(exp.resolved, {"lr": 0.1, "warm": False}, {"warm": True})
    sim = simulate(exp, Hand(tmp_path, {4: ("nudge", {"changes": {"warm": False}})}), tmp_path)
    (nudge,) = changes(sim)
    assert nudge.new_config == {"lr": 0.1, "warm": False}
    assert intervention(nudge) == "epoch 4: nudge by hand; warm True -> False, steps 3 -> inactive"


def test_what_is_changed_by_hand_is_said_once(tmp_path: Path) -> None:
    script = {4: ("nudge", {"changes": {"lr": 0.5}}), 12: ("rollback", {"epoch": 10})}
    sim = simulate(experiment(15), Hand(tmp_path, script), tmp_path)
    assert list(map(intervention, changes(sim))) == [
        "epoch 4: nudge by hand; lr 0.1 -> 0.5",
        "epoch 12 -> 10: rollback by hand, with the present config (lr 0.5)",
    ]
    assert [e.outcome for e in sim.of(Commanded)] == [
        "nudge by hand: lr 0.1 -> 0.5, from the end of epoch 4 on",
        "rollback by hand, with the present config (lr 0.5), from epoch 12 to 10",
    ]


def test_a_rollback_that_cannot_be_names_the_nearest_epochs() -> None:
    trial = TrialState("t0", 0, {})
    trial.checkpoints = [CheckpointRecord("t0", 0, e, checkpoint_path("t0", 0, e, 1), 1, 1) for e in range(10, 960, 10)]
    with pytest.raises(ExperimentError, match=r"the nearest that have one: 910, 920, 930, 940, 950$"):
        checkpoint_of(trial, 99999)
    with pytest.raises(ExperimentError, match=r"the nearest that have one: 20, 30, 40, 50, 60$"):
        checkpoint_of(trial, 41)


def test_every_tenth_epoch_stays_to_go_back_to(tmp_path: Path) -> None:
    sim = simulate(experiment(40, patience=100), Hand(tmp_path, {38: ("rollback", {"epoch": 10})}), tmp_path)
    assert [c.donor_epoch for c in changes(sim)] == [10]


def test_a_pause_holds_until_it_is_resumed(tmp_path: Path) -> None:
    exp = experiment(8)
    sim = Simulation(exp, value=Hand(tmp_path, {3: ("pause", {})}))
    sim.path = tmp_path
    sim.interrupts = [30]  # rounds pass, nothing trains
    sim.run()
    kinds = [type(e) for e in sim.events]
    assert kinds[: kinds.index(Closed)].count(Reported) == 3
    assert [e.command for e in sim.of(Commanded)] == ["pause"]
    assert sim.trials[0].epoch == 8  # a resumed run goes on by itself


def test_a_command_is_taken_once_although_its_file_outlives_a_crash(tmp_path: Path) -> None:
    exp = experiment(8)
    calm = simulate(exp, Hand(tmp_path, {3: ("nudge", {"changes": {"lr": 0.5}})}), tmp_path)
    (command,) = calm.of(Commanded)
    population = calm.population
    population.take_step()
    take(population, calm.trials[0], {"id": command.id, "command": "nudge", "changes": {"lr": 0.7}})
    assert population.take_step() == []


@pytest.mark.parametrize("offset", range(4))
def test_a_crash_round_a_command_loses_and_doubles_nothing(offset: int, tmp_path: Path) -> None:
    exp = experiment(8)
    script = {3: ("nudge", {"changes": {"lr": 0.5}})}
    calm = simulate(exp, Hand(tmp_path / "calm", script), _made(tmp_path / "calm"))
    at = next(i for i, line in enumerate(calm.lines) if b'"command"' in line)
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
    event = Commanded("t00000", "7", "nudge", applied=True, outcome="done")
    journal = Journal(tmp_path / "journal.jsonl", "run")
    journal.append(0.0, [Suggested("t00000", {"lr": 0.1})])
    answers = commands.Answers(tmp_path, "run")
    journal.append(1.0, [event])
    journal.close()
    assert answers.wait_for("7", 0.0) == event
    assert answers.wait_for("8", 0.0) is None


def test_a_panda_is_one_model_with_a_rate() -> None:
    with pytest.raises(ExperimentError, match=r"num_samples.*one model"):
        experiment().override({"num_samples": 2})
    with pytest.raises(ExperimentError, match=r"scheduler\.parameter.*learning rate"):
        experiment(parameter="rate")
