"""What repetitions say, from journals written by hand and from trainers run here. Nothing starts Ray."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repeated_run import trained_repetitions
from run_by_hand import RunByHand

from raytune_hpo import Experiment, Float
from raytune_hpo.display.confirm_text import confirm_text
from raytune_hpo.journal.events import Closed, Suggested
from raytune_hpo.results.results import load_results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.states import RunStatus
from raytune_hpo.tasks import Digits
from raytune_hpo.tasks.diabetes import Diabetes
from raytune_hpo.tasks.linear import LinearExtrapolation
from raytune_hpo.training.data import Split, TrialData
from raytune_hpo.verdicts.comparison import Design
from raytune_hpo.verdicts.confirm import confirm
from raytune_hpo.verdicts.confirmation import Confirmation, judge
from raytune_hpo.verdicts.naive import naive_value
from raytune_hpo.verdicts.repeating import best_distinct, repeated_experiment
from raytune_hpo.verdicts.repetitions import design_of, judging_epochs, repeated_configs

Curve = list[float]


def train(config: dict[str, Any]) -> None: ...


def repeated_run(path: Path, curves: list[list[Curve]], ends: dict[int, str] | None = None) -> RunByHand:
    """curves[i][r]: of repetition r of config i; ends: other statuses than completed, by trial number."""
    experiment = Experiment(
        name="r", task=train, space={"x": Float(0.0, 100.0)}, metric="value", mode="max", max_epochs=9,
        searcher={"name": "repeat", "repeats": len(curves[0])}, scheduler="fifo",
        start_points=[{"x": float(i)} for i in range(len(curves))],
    )  # fmt: skip
    run = RunByHand(path, experiment)
    for number in range(experiment.resolved.num_samples):
        repeat, i = divmod(number, len(curves))
        trial = f"t{number:05d}"
        run.add(Suggested(trial=trial, config={"x": float(i)}, repeat=repeat))
        for epoch, value in enumerate(curves[i][repeat], start=1):
            run.result(trial, epoch, value)
        run.end(trial, (ends or {}).get(number, "completed"))
    run.add(Closed(RunStatus.FINISHED))
    return run


def judged(run: RunByHand, *, naive: float | None = None, searched: list[float] | None = None) -> Confirmation:
    repeated = repeated_configs(run.load())
    trials = [TrialState(f"t{i:05d}", i, r.config, best=1.0, best_epoch=1) for i, r in enumerate(repeated)]
    for trial, value in zip(trials, searched or [], strict=False):
        trial.best = value
    return judge(
        run.path, run.path / "confirm", trials, repeated, metric="value", mode="max", seeds=3, seed=0, design=Design(),
        naive=naive,
    )  # fmt: skip


def flat(*values: float) -> list[Curve]:
    """Repetitions of one epoch."""
    return [[v] for v in values]


NOISE = np.array([0.01, -0.02, 0.01])


def around(mean: float) -> list[Curve]:
    return flat(*(mean + NOISE * (1 + mean)))


def test_a_winner_beats_every_other(tmp_path: Path) -> None:
    made = judged(repeated_run(tmp_path / "r", [around(0.5), around(0.9), around(0.3)]), searched=[0.99, 0.95, 0.9])
    assert made.verdict == "winner"
    assert made.winner == "t00001"
    assert [c.trial for c in made.contenders] == ["t00001", "t00000", "t00002"]
    assert made.optimism is not None
    assert made.optimism.estimate == pytest.approx(0.49)  # of the search's best, which is not the winner
    assert made.searched_best == "t00000"
    text = confirm_text(made)
    assert "winner: t00001, better than every other beyond noise" in text
    assert "optimism: the search said 0.99 of t00000, confirmed 0.5 " in text


def test_so_few_repetitions_can_tell_little(tmp_path: Path) -> None:
    made = judged(repeated_run(tmp_path / "r", [around(0.5), around(0.9)]))
    assert "can tell little" not in confirm_text(made)
    (few,) = [x for x in confirm_text(dataclasses.replace(made, seeds=2)).splitlines() if "can tell little" in x]
    assert few.startswith("notice: 2 repetitions ")


def test_a_tie_names_those_that_cannot_be_told_apart(tmp_path: Path) -> None:
    values = [flat(0.90, 0.91, 0.92), flat(0.92, 0.90, 0.92), flat(0.3, 0.31, 0.29)]
    made = judged(repeated_run(tmp_path / "r", values))
    assert made.verdict == "tie"
    assert made.winner is None
    assert made.tied == ["t00001", "t00000"]
    assert made.first is made.contenders[0]
    line = next(line for line in confirm_text(made).splitlines() if line.startswith("a tie"))
    assert line.startswith("a tie: t00001, t00000 (difference to the first: t00000 0.003333 (-")
    assert line.endswith("the cheaper or simpler one may be taken")
    assert made.to_json()["configs"][2]["beaten"] is True


def test_what_is_no_better_than_chance_is_no_winner(tmp_path: Path) -> None:
    run = repeated_run(tmp_path / "r", [around(0.5), around(0.1)])
    assert judged(run, naive=0.3).verdict == "winner"
    for naive in (0.49, 0.6):
        made = judged(run, naive=naive)
        assert (made.verdict, made.winner, made.first, made.tied) == ("none", None, None, [])
        assert "no winner: no better than chance" in confirm_text(made)


def test_a_config_that_fails_once_cannot_win(tmp_path: Path) -> None:
    run = repeated_run(tmp_path / "r", [around(0.9), around(0.5), around(0.3)], {3: "diverged"})
    made = judged(run)
    assert made.winner == "t00001"
    assert [c.trial for c in made.contenders] == ["t00001", "t00002", "t00000"]
    assert made.contenders[-1].mean is made.optimism is None
    assert "t00000 is not reliable: t00003 diverged" in confirm_text(made)
    others = repeated_run(tmp_path / "s", [around(0.9), around(0.5)], {0: "failed", 3: "diverged"})
    made = judged(others)
    assert (made.verdict, made.reason) == ("none", "no config trained well in every repetition")
    alone = judged(repeated_run(tmp_path / "t", [around(0.9), around(0.5)], {0: "failed"}))
    assert (alone.winner, alone.reason[:15]) == ("t00001", "the only config")


def test_no_repetition_chooses_the_epoch_it_is_judged_at(tmp_path: Path) -> None:
    """The other two are best at 2, 2 and (0.8 + 0.4 against 0.5 + 0.9 and less) 3; the last ended early."""
    curves = [np.array(c) for c in ([0.1, 0.5, 0.4], [0.1, 0.8, 0.5], [0.1, 0.9])]
    assert judging_epochs(curves, "max") == [2, 2, 2]
    assert judging_epochs([-c for c in curves], "min") == [2, 2, 2]
    assert judging_epochs([np.array([0.9, 0.1]), np.array([0.2, 0.8])], "max") == [2, 1]
    assert judging_epochs([np.array([0.9, 0.1])], "max") == [2]
    curves_of = [[[0.9, 0.1], [0.2, 0.8]], [[0.3, 0.4], [0.3, 0.4]]]
    lucky, plain = repeated_configs(repeated_run(tmp_path / "r", curves_of).load())
    assert lucky.values.tolist() == [0.1, 0.2]
    assert lucky.best_values.tolist() == [0.9, 0.8]
    assert lucky.last_values.tolist() == [0.1, 0.8]
    assert plain.values.tolist() == [0.4, 0.4]


def test_noise_judged_at_its_best_epochs_would_look_like_skill() -> None:
    rng = np.random.default_rng(0)
    curves = [rng.normal(0.5, 0.05, size=20) for _ in range(2000)]
    best = np.mean([c.max() for c in curves])
    groups = [curves[i : i + 5] for i in range(0, 2000, 5)]
    fair = np.mean([c[e - 1] for g in groups for c, e in zip(g, judging_epochs(g, "max"), strict=True)])
    assert best > 0.58
    assert abs(fair - 0.5) < 0.004  # its standard error is 0.001


def test_what_a_model_that_learned_nothing_scores() -> None:
    y = np.array([0, 0, 0, 1, 1, 2])
    data = TrialData(Split(np.zeros((6, 1)), y), Split(np.zeros((2, 1)), np.array([0, 0])))
    assert naive_value(Digits(), "validation_accuracy", data) == 5 / 8
    shares = np.array([5, 2, 1]) / 8
    assert naive_value(Digits(), "validation_loss", data) == pytest.approx(-(shares * np.log(shares)).sum())
    assert naive_value(Digits(), "validation_f1", data) is None
    values = TrialData(Split(np.zeros(2), np.array([[0.0], [2.0]])), Split(np.zeros(1), np.array([[4.0]])))
    assert naive_value(Diabetes(), "validation_loss", values) == pytest.approx(8 / 3)  # the variance of 0, 2, 4
    assert naive_value(LinearExtrapolation(), "validation_rmse", values) == 3.0  # from the mean 1 of those to train on


def test_how_repetitions_share_their_data() -> None:
    data = Digits().load(0).for_trials()
    space = {"lr": Float(0.01, 0.1)}
    plain = Experiment(name="x", task="digits", space=space)
    n, m = len(data.train), len(data.validation)
    assert design_of(plain.resolved, data) == (Design(m / n, m), None)
    assert design_of(plain.override({"folds": 4}).resolved, data) == (Design(1 / 3, (n + m) // 4, 4), None)
    assert design_of(plain.override({"metric": "validation_loss"}).resolved, data)[0].samples is None
    chosen = LinearExtrapolation().load(0).for_trials()
    design, notice = design_of(Experiment(name="x", task="linear", space=space).resolved, chosen)
    assert design.overlap == 0
    assert "not drawn" in (notice or "")
    function = Experiment(name="x", task=train, space=space, metric="v", mode="max")
    assert design_of(function.resolved, None)[0] == Design()


def test_folds_are_confirmed_by_folds(tmp_path: Path) -> None:
    """Two configs by 3 folds, twice; the models that are tested are the averages over the folds."""
    experiment = Experiment(
        name="f", task="digits", space={"lr": Float(1e-4, 1.0, "log"), "hidden_units": 32, "batch_size": 64},
        start_points=[{"lr": 0.1}, {"lr": 0.0001}], scheduler="fifo", num_samples=2, max_epochs=2, folds=3,
    )  # fmt: skip
    trained_repetitions(tmp_path / "run", experiment)
    trials = best_distinct(load_results(tmp_path / "run"))
    derived = repeated_experiment(experiment, [t.best_config for t in trials], 2, "confirm", keep_trials=None)
    trained_repetitions(tmp_path / "run" / "confirm", derived)
    made = confirm(tmp_path / "run", 2, 2)
    assert made is not None
    assert made.winner == "t00000"
    assert all(d is not None and d > 0 for d in (r.deviation for r in made.contenders[0].repeated.repetitions))
    assert made.opening is not None
    assert made.opening.metrics is not None
    assert made.opening.metrics["test_accuracy"] > 0.7
