"""confirm and retest of repetitions that came out the same: nothing was measured, and that is the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_by_hand import RunByHand

from raytune_hpo import Experiment, Float, run
from raytune_hpo.display.confirm_text import confirm_text
from raytune_hpo.journal.events import Closed, Suggested
from raytune_hpo.results.trial import TrialState
from raytune_hpo.states import RunStatus
from raytune_hpo.verdicts.comparison import Design, margin, mean_interval
from raytune_hpo.verdicts.confirm import confirm
from raytune_hpo.verdicts.confirmation import Confirmation, judge
from raytune_hpo.verdicts.repetitions import repeated_configs
from raytune_hpo.verdicts.retest import retest

Reports = list[dict[str, Any]]


def ignores_its_seed(config: dict[str, Any]) -> None:
    from raytune_hpo import report

    for epoch in (1, 2):
        report({"loss": (config["lr"] - 0.3) ** 2 + 1 / epoch})


@pytest.fixture(scope="module")
def deterministic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = Experiment(
        name="same", task=ignores_its_seed, space={"lr": Float(0.0, 1.0)}, metric="loss", mode="min", num_samples=4,
        max_epochs=2, executor="inline",
    )  # fmt: skip
    return run(experiment, tmp_path_factory.mktemp("same") / "run").run_dir


def test_b2_a_function_that_ignores_its_seed_has_no_winner(deterministic: Path) -> None:
    made = confirm(deterministic, 2, 3, task=ignores_its_seed)
    assert made is not None
    assert (made.verdict, made.winner, made.first) == ("none", None, None)
    assert made.reason.startswith("not a repetition: the trial ignores its seed")
    assert "raytune_hpo.trial_seed()" in made.reason
    assert not any(c.beaten for c in made.contenders)
    assert "no winner: not a repetition" in confirm_text(made)


def test_near_b2_nor_does_a_retest_say_anything_of_it(deterministic: Path) -> None:
    made = retest(deterministic, 2, 1, 2, task=ignores_its_seed)
    assert made is not None
    assert made.verdict == "none"
    assert made.reason.startswith("not a repetition")


def judged(path: Path, told: list[list[Reports]], ends: dict[int, str] | None = None, **fields: Any) -> Confirmation:
    """told[i][r]: the reports of repetition r of config i."""
    experiment = Experiment(
        name="r", task=ignores_its_seed, space={"lr": Float(0.0, 100.0)}, metric="accuracy", mode="max", max_epochs=9,
        searcher={"name": "repeat", "repeats": len(told[0])}, scheduler="fifo",
        start_points=[{"lr": float(i)} for i in range(len(told))],
    )  # fmt: skip
    by_hand = RunByHand(path, experiment)
    for number in range(experiment.resolved.num_samples):
        repeat, i = divmod(number, len(told))
        trial = f"t{number:05d}"
        by_hand.add(Suggested(trial=trial, config={"lr": float(i)}, repeat=repeat))
        for epoch, report in enumerate(told[i][repeat], start=1):
            by_hand.report(trial, epoch, report)
        by_hand.end(trial, (ends or {}).get(number, "completed"))
    by_hand.add(Closed(RunStatus.FINISHED))
    repeated = repeated_configs(by_hand.load())
    trials = [TrialState(f"t{i:05d}", i, r.config, best=1.0, best_epoch=1) for i, r in enumerate(repeated)]
    given = {"design": Design(), "naive": None, **fields}
    return judge(
        path, path / "confirm", trials, repeated, metric="accuracy", mode="max", seeds=len(told[0]), seed=0, **given
    )


def same(accuracy: float, repetitions: int = 3) -> list[Reports]:
    return [[{"accuracy": accuracy, "loss": 0.5}] for _ in range(repetitions)]


def noisy(accuracy: float) -> list[Reports]:
    return [[{"accuracy": accuracy + away, "loss": 0.5 + away}] for away in (0.01, -0.02, 0.012)]


def equal_by_chance(accuracy: float) -> list[Reports]:
    """A metric that is counted on few samples, beside one that is not."""
    return [[{"accuracy": accuracy, "loss": 0.5 + away}] for away in (0.01, -0.02, 0.012)]


def test_near_b2_some_configs_repeat_and_others_do_not(tmp_path: Path) -> None:
    first = judged(tmp_path / "first", [same(0.9), noisy(0.5)])
    assert first.verdict == "none"
    assert first.reason.startswith("of t00000, the first, not a repetition")
    other = judged(tmp_path / "other", [noisy(0.9), same(0.1)])
    assert other.winner == "t00000"
    assert any(notice.startswith("of t00001 not a repetition") for notice in other.notices)


def test_near_b2_a_coarse_metric_that_came_out_equal(tmp_path: Path) -> None:
    two = judged(tmp_path / "two", [equal_by_chance(0.9), equal_by_chance(0.8)])
    assert two.verdict == "none"
    assert two.reason.startswith("the repetitions came out equal")
    # One of them varied: their difference has a noise of its own.
    assert judged(tmp_path / "one", [equal_by_chance(0.9), noisy(0.5)]).winner == "t00000"
    # Both the same: no difference, which needs no noise.
    assert judged(tmp_path / "tie", [equal_by_chance(0.9), equal_by_chance(0.9)]).verdict == "tie"


def test_near_b2_a_share_of_everything_is_no_certainty(tmp_path: Path) -> None:
    design = Design(samples=10)
    perfect = np.ones(3)
    interval = mean_interval(perfect, design, np.random.default_rng(0))
    assert interval.low < 1.0 == interval.high
    assert margin(perfect, 0.3, "max", design, 2).above_zero
    made = judged(tmp_path, [equal_by_chance(1.0), equal_by_chance(0.0)], design=design, naive=0.3)
    assert made.winner == "t00000"
    assert made.contenders[1].behind is not None
    assert made.contenders[1].behind.low < 1.0


def test_near_b2_diverged_in_one_or_in_all(tmp_path: Path) -> None:
    nan = {0: "diverged", 3: "failed"}
    only = judged(tmp_path / "only", [same(0.9, 2), noisy(0.5)[:2]], {0: "diverged"})
    assert (only.verdict, only.winner) == ("winner", "t00001")
    none = judged(tmp_path / "none", [same(0.9, 2), noisy(0.5)[:2]], nan)
    assert (none.verdict, none.reason) == ("none", "no config trained well in every repetition")
    left = judged(tmp_path / "left", [noisy(0.9)[:2], same(0.5, 2)], {0: "diverged"})
    assert left.verdict == "none"
    assert left.reason.startswith("not a repetition")


def test_near_b2_a_metric_that_is_nan_every_time_is_the_same(tmp_path: Path) -> None:
    told = [[{"accuracy": 0.9, "extra": float("nan")}]] * 2
    assert judged(tmp_path, [told, noisy(0.5)[:2]]).verdict == "none"
