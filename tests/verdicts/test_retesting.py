"""The verdicts of a retest, from repetitions written by hand; its history; what it refuses. Nothing starts Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_by_hand import RunByHand
from test_confirmation import Curve, around, flat, repeated_run, train

from raytune_hpo import Experiment, ExperimentError, Float
from raytune_hpo.display.retest_text import retest_text
from raytune_hpo.journal.events import Suggested
from raytune_hpo.results.results import Results
from raytune_hpo.verdicts.comparison import Design
from raytune_hpo.verdicts.repetitions import repeated_configs
from raytune_hpo.verdicts.retesting import (
    OldConfig,
    Retest,
    changed_versions,
    judge,
    old_configs,
    read_history,
    write_history,
)


@pytest.fixture
def searched(tmp_path: Path) -> Results:
    """A search of 3 trials, the second the best."""
    experiment = Experiment(name="s", task=train, space={"x": Float(0.0, 100.0)}, metric="value", mode="max",
                            num_samples=3)  # fmt: skip
    run = RunByHand(tmp_path / "searched", experiment)
    for i, value in enumerate((0.5, 0.9, 0.7)):
        run.add(Suggested(trial=f"t{i:05d}", config={"x": float(i)}))
        run.result(f"t{i:05d}", 1, value)
        run.end(f"t{i:05d}", "completed")
    return run.load()


def retested(
    results: Results,
    path: Path,
    curves: list[list[Curve]],
    confirmed: tuple[float, ...] | None = None,
    ends: dict[int, str] | None = None,
) -> Retest:
    """Of the first two configs, the old ones, and those after them, the fresh ones."""
    old = [OldConfig("t00001", {"x": 0.0}, 0.9, confirmed), OldConfig("t00002", {"x": 1.0}, 0.7, None)]
    repeated = repeated_configs(repeated_run(path, curves, ends).load())
    return judge(results, 1, old, repeated, mode="max", seeds=3, design=Design(), changes=("torch 1 -> 2",), notices=())


SAME = (0.881, 0.862, 0.881)  # what around(0.88) comes to, and a little more


def test_still_best(searched: Results, tmp_path: Path) -> None:
    made = retested(searched, tmp_path / "r", [around(0.88), around(0.7), around(0.4)], SAME)
    assert made.verdict == "still best"
    assert made.level is not None
    assert (made.level.against, made.level.beyond_noise) == ("confirm", False)
    text = retest_text(made)
    assert "still best: nothing beats t00001 beyond noise" in text
    assert "changed since the search: torch 1 -> 2" in text
    verdicts = [line for line in text.splitlines() if line.startswith(("still best", "drifted", "stale"))]
    assert len(verdicts) == 1  # what the words mean is not to be taken for another one
    assert "('still best' means: nothing beats the old winner beyond noise" in text


def test_stale_when_a_fresh_sample_beats_it(searched: Results, tmp_path: Path) -> None:
    made = retested(searched, tmp_path / "r", [around(0.6), around(0.5), around(0.9), around(0.4)])
    assert (made.verdict, made.reason) == (
        "stale",
        "fresh 1 of the fresh samples beats t00001 beyond noise: search again",
    )
    assert max((row for row in made.rows if row.ahead), key=lambda row: row.ahead.estimate).name == "fresh 1"


def test_drifted_when_another_old_one_beats_it(searched: Results, tmp_path: Path) -> None:
    made = retested(searched, tmp_path / "r", [around(0.88), around(0.99), around(0.4)], SAME)
    assert made.verdict == "drifted"
    assert "t00002 now beats it beyond noise" in made.reason


@pytest.mark.parametrize(("level", "word"), [(0.7, "worse"), (0.96, "better")])
def test_drifted_when_its_level_moved(level: float, word: str, searched: Results, tmp_path: Path) -> None:
    made = retested(searched, tmp_path / "r", [around(level), around(0.3), around(0.2)], SAME)
    assert made.verdict == "drifted"
    assert f"its level is {word} than confirm said" in made.reason


def test_against_the_searchs_own_value_a_small_fall_is_no_drift(searched: Results, tmp_path: Path) -> None:
    """It was the best of three trials, measured once."""
    small = retested(searched, tmp_path / "r", [around(0.86), around(0.6), around(0.4)])
    assert small.verdict == "still best"
    assert small.level is not None
    assert (small.level.against, small.level.then) == ("search", 0.9)
    large = retested(searched, tmp_path / "s", [around(0.3), around(0.1), around(0.1)])
    assert large.verdict == "drifted"
    assert "worse than search said" in large.reason


def test_one_that_fails_now_is_not_the_best_any_more(searched: Results, tmp_path: Path) -> None:
    curves = [around(0.88), around(0.5), around(0.4)]
    made = retested(searched, tmp_path / "r", curves, SAME, {0: "diverged", 5: "diverged"})
    assert (made.verdict, made.level) == ("drifted", None)
    assert "t00001 no longer trains well every time" in retest_text(made)
    made = retested(searched, tmp_path / "s", curves, SAME, {0: "diverged"})
    assert made.verdict == "stale"
    json.dumps(made.line("now"), allow_nan=False)


def test_equal_repetitions_are_no_drift(searched: Results, tmp_path: Path) -> None:
    """Same code, same data, same seeds: the same values, without any deviation."""
    made = retested(
        searched, tmp_path / "r", [flat(0.8, 0.9, 0.7), around(0.3), around(0.2)], (0.8, 0.9, 0.7, 0.1, 0.2)
    )
    assert made.level is not None
    assert (made.level.moved.low, made.level.moved.high) == (0, 0)
    assert made.verdict == "still best"


def test_the_old_winner_is_the_confirmed_one(searched: Results) -> None:
    trials = searched.top(3)
    assert [o.trial for o in old_configs(searched, trials)] == ["t00001", "t00002", "t00000"]
    repetitions = [{"best": 0.71}, {"best": 0.72}]
    entry = {"trial": "t00002", "config": {"x": 2.0}, "search": {"metric": 0.7}, "failures": [],
             "repetitions": repetitions}  # fmt: skip
    path = searched.run_dir / "confirm.json"
    path.write_text(json.dumps({"configs": [entry]}))
    found = old_configs(searched, trials)
    assert [o.trial for o in found] == ["t00002", "t00001", "t00000"]
    assert [o.confirmed for o in found] == [(0.71, 0.72), None, None]
    path.write_text("{}")
    with pytest.raises(ExperimentError, match="is damaged"):
        old_configs(searched, trials)


def test_history_is_written_whole(tmp_path: Path) -> None:
    lines = [{"number": 1, "verdict": "still best"}, {"number": 2, "verdict": "stale"}]
    assert read_history(tmp_path) == []
    write_history(tmp_path, lines)
    assert read_history(tmp_path) == lines
    (tmp_path / "history.jsonl").write_text("{torn")
    with pytest.raises(ExperimentError, match="is damaged"):
        read_history(tmp_path)


def test_what_changed_since() -> None:
    then = {"versions": {"torch": "2.6", "numpy": "1", "gone": "1"}, "git_commit": "abc",
            "experiment": {"task": {"options": {"data_dir": "a", "size": 1}}}}  # fmt: skip
    now = {"versions": {"torch": "2.7", "numpy": "1"}, "git_commit": "abd",
           "experiment": {"task": {"options": {"data_dir": "b", "size": 1}}}}  # fmt: skip
    assert changed_versions(then, then) == ()
    assert changed_versions(then, now) == (
        "gone 1 -> none", "torch 2.6 -> 2.7", "git commit abc -> abd", "task.data_dir 'a' -> 'b'",
    )  # fmt: skip
