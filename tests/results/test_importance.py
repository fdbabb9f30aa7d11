"""Importance: known shares are found, conditions count, noise is called noise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from run_by_hand import RunByHand, trainable
from trained_run import trained_run
from written_run import finished_run

from raytune_hpo import Choice, Experiment, Float, Int
from raytune_hpo.cli.main import main
from raytune_hpo.journal.events import Suggested
from raytune_hpo.results.forest_anova import forest_anova
from raytune_hpo.results.importance import cost, handbook_place, importance
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace

SQUARE = {name: Float(0.0, 1.0) for name in ("a", "b", "c", "d")}


def shares(space, function, n=400, **options):
    space = SearchSpace(space)
    configs = [space.sample(generator(0, "test", i)) for i in range(n)]
    y = np.array([function(c) for c in configs])
    return forest_anova(space, np.array([space.to_unit(c) for c in configs]), y, seed=0, **options)


def test_an_additive_function_has_its_known_shares():
    """3 a + 2 b + c: variances 9, 4 and 1 of 14; d does nothing."""
    found = shares(SQUARE, lambda c: 3 * c["a"] + 2 * c["b"] + c["c"])
    for name, right in {"a": 9 / 14, "b": 4 / 14, "c": 1 / 14, "d": 0}.items():
        assert found.main[name].share == pytest.approx(right, abs=0.06)
        assert 0 <= found.main[name].deviation < 0.1
    assert found.r2 > 0.9
    assert max(s.share for s in found.pairs.values()) < 0.05


def test_an_interaction_has_its_known_share():
    """2 a b + c: main effects 0.3, 0.3 and 0.3, and 0.1 for a and b together."""
    found = shares(SQUARE, lambda c: 2 * c["a"] * c["b"] + c["c"])
    for name in "abc":
        assert found.main[name].share == pytest.approx(0.3, abs=0.08)
    assert found.pairs["a", "b"].share == pytest.approx(0.1, abs=0.04)
    assert max(s.share for names, s in found.pairs.items() if names != ("a", "b")) < 0.04
    total = sum(s.share for s in (*found.main.values(), *found.pairs.values()))
    assert total == pytest.approx(1, abs=0.06)


def test_every_kind_of_parameter_counts_in_its_own_scale():
    """On a log scale log lr is uniform; a category has as much to say as its options differ."""
    space = {"lr": Float(1e-4, 1.0, "log"), "units": Int(1, 3), "kind": Choice(["x", "y", "z"]), "d": Float(0.0, 1.0)}
    values = {"x": 0.0, "y": 0.0, "z": 1.0}  # variance 2/9
    found = shares(space, lambda c: math.log10(c["lr"]) / 2 + values[c["kind"]] + c["units"] / 2)
    parts = {"lr": 4 / 12, "kind": 2 / 9, "units": 2 / 12, "d": 0}
    for name, part in parts.items():
        assert found.main[name].share == pytest.approx(part / sum(parts.values()), abs=0.06)


def test_a_conditional_parameter_counts_where_it_is_active():
    """y is 1 for adam and the momentum, uniform in [0, 1], for sgd, which alone has one."""
    space = {"optimizer": Choice(["adam", "sgd"]), "momentum": Float(0.0, 1.0).when("optimizer", "==", "sgd")}
    found = shares(space, lambda c: c.get("momentum", 1.0), n=300)
    # Within sgd 1/2 * 1/12, between the two 1/4 * (1/2)^2. Over both, momentum's effect m / 2 has 1/4 * 1/12.
    total = 1 / 24 + 1 / 16
    assert found.main["optimizer"].share == pytest.approx(1 / 16 / total, abs=0.06)
    assert found.main["momentum"].share == pytest.approx(1 / 48 / total, abs=0.06)
    assert found.pairs["optimizer", "momentum"].share == pytest.approx(1 / 48 / total, abs=0.06)


def test_one_parameter_is_all_there_is():
    found = shares({"a": Float(0.0, 1.0)}, lambda c: c["a"], n=50)
    assert found.main["a"].share == pytest.approx(1, abs=0.05)
    assert found.pairs == {}


# Of a run ---------------------------------------------------------------------------------------------


def run_of(path, function, n, *, mode="min", space=None):
    """A run of n random trials of one epoch. function(config, number) -> value, NaN for a diverged one, None for a
    failed one."""
    experiment = Experiment(name="by-hand", task=trainable, space=space or SQUARE, metric="value", mode=mode)
    run = RunByHand(path, experiment)
    for i in range(n):
        trial, config = f"t{i:05d}", experiment.resolved.space.sample(generator(3, "test", i))
        run.add(Suggested(trial=trial, config=config))
        value = function(config, i)
        if value is None:
            run.end(trial, "failed", reason="error", error="ValueError: no")
            continue
        run.result(trial, 1, value)
        run.end(trial, "completed" if math.isfinite(value) else "diverged")
    return run


def test_pure_noise_cannot_be_told(tmp_path):
    for number, n in enumerate([20, 30, 50, 100]):
        noise = np.random.default_rng(number).normal(size=n)
        run = run_of(tmp_path / str(number), lambda c, i, noise=noise: noise[i], n)
        found = importance(run.load(), pairs=True)
        assert not found.can_tell
        assert found.verdict.startswith("cannot tell: a random forest")
        assert (found.main, found.pairs, found.trials) == ({}, {}, n)
        assert found.r2 < found.needed == pytest.approx(2 / math.sqrt(n))


def test_too_few_trials_and_equal_ones_cannot_be_told(tmp_path):
    found = importance(run_of(tmp_path / "few", lambda c, i: c["a"], 19).load())
    assert "cannot tell: 19 finished trials" in found.verdict
    found = importance(run_of(tmp_path / "equal", lambda c, i: 0.5, 30).load())
    assert "equally well" in found.verdict
    assert not found.can_tell
    assert "0 finished trials" in importance(run_of(tmp_path / "none", None, 0).load()).verdict


@pytest.mark.parametrize("mode", ["min", "max"])
def test_diverged_and_failed_trials_are_the_worst(tmp_path, mode):
    """a alone decides whether a trial diverges or fails, and those that live differ by b."""
    sign = 1 if mode == "min" else -1

    def function(config, i):
        if config["a"] > 0.6:
            return math.nan if i % 2 else None
        return sign * config["b"] * 1e6

    run = run_of(tmp_path / "run", function, 120, mode=mode)
    found = importance(run.load())
    assert found.can_tell
    assert found.bad == sum(row["status"] in ("diverged", "failed") for row in run.load().rows()) > 20
    assert list(found.main)[:2] == ["a", "b"]
    assert found.main["a"].share > 0.5
    if mode == "min":
        # Were they left out, or taken for the best, b would come first.
        assert found.main["a"].share > 3 * found.main["b"].share


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_trial_ranks_lowest(tmp_path, mode):
    results = run_of(tmp_path / "run", lambda c, i: [0.3, math.nan, -2.0, None, 5.0][i], 5, mode=mode).load()
    trials = sorted(results.ledger.trials.values(), key=lambda t: cost(t, mode))
    assert trials[:3] == results.top(3)
    assert [cost(t, mode) for t in trials[3:]] == [math.inf, math.inf]


def test_one_enormous_loss_does_not_speak_for_all(tmp_path):
    run = run_of(tmp_path / "run", lambda c, i: 1e12 if i == 7 else c["a"], 60)
    found = importance(run.load())
    assert found.can_tell
    assert found.main["a"].share > 0.8


def test_it_is_the_same_every_time(tmp_path):
    run = run_of(tmp_path / "run", lambda c, i: c["a"] + c["b"], 40)
    assert importance(run.load(), pairs=True) == importance(run.load(), pairs=True)


def test_on_digits_the_learning_rate_comes_first(tmp_path, capsys):
    space = {"lr": Float(1e-5, 1.0, "log"), "beta1": Float(0.8, 0.95), "activation": Choice(["relu", "silu"])}
    space |= {"hidden_units": 16, "batch_size": 128}
    experiment = Experiment(name="digits", task="digits", space=space, max_epochs=1, seed=5)
    configs = [experiment.resolved.space.sample(generator(5, "test", i)) for i in range(40)]
    run = trained_run(tmp_path / "run", experiment, configs)
    assert main(["importance", str(run.path), "--pairs", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["can_tell"]
    assert document["parameters"][0]["name"] == "lr"
    assert document["parameters"][0]["share"] > 0.5
    assert {p["name"]: p["handbook"] for p in document["parameters"]} == {"lr": 1, "beta1": 4, "activation": None}
    assert len(document["pairs"]) == 3
    assert document["trials"] == 40
    shown = sum(p["share"] for p in (*document["parameters"], *document["pairs"])) + document["rest"]
    assert shown == pytest.approx(1)
    assert main(["importance", str(run.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("40 trials tell")
    assert lines[2].startswith("lr ")
    bad = document["diverged_or_failed"]
    assert lines[-2].endswith("for the worst rank") if bad else lines[-2] == "of the ranks by validation_accuracy"
    assert lines[-1].startswith("handbook: 1 learning rate; 2 momentum, hidden units, batch size;")


def test_the_handbooks_places():
    names = ("lr", "optimizer.lr", "hidden_units", "units_3", "momentum", "batch_size", "hidden_layers", "eps", "init")
    assert [handbook_place(name) for name in names] == [1, 1, 2, 2, 2, 2, 3, 4, None]


def test_the_command_says_that_it_cannot_tell(tmp_path, capsys):
    run = finished_run(tmp_path / "run")
    assert main(["importance", str(run)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cannot tell: 4 finished trials")
    assert out.count("\n") == 1
    assert main(["importance", str(run), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["can_tell"], document["parameters"], document["rest"]) == (False, [], None)
    assert document["diverged_or_failed"] == 2


def test_wrong_input_is_one_line(tmp_path, capsys):
    assert main(["importance", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "holds no run" in captured.err
    with pytest.raises(SystemExit) as stopped:
        main(["importance", str(tmp_path), "--pair"])
    assert stopped.value.code == 2
