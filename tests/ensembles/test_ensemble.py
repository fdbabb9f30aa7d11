"""Ensembles of checkpoints that real trainers wrote: chosen, tested once, exported."""

from __future__ import annotations

import contextlib
import json
import math
import shutil

import numpy as np
import pytest
import torch
from run_by_hand import RunByHand
from run_by_hand import config as function_config
from run_by_hand import experiment as function_experiment
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from trained_run import trained_run

from raytune_hpo import Choice, Experiment, ExperimentError, Float, load_experiment
from raytune_hpo.cli.main import main
from raytune_hpo.ensembles.ensemble import Builder
from raytune_hpo.ensembles.selection import average, cost, figures, gains, greedy, metrics_of, per_sample
from raytune_hpo.errors import TrialError
from raytune_hpo.journal.events import Perturbed, SessionOpened, Suggested
from raytune_hpo.results.export import export
from raytune_hpo.results.sealed_test import openings
from raytune_hpo.results.winner import evaluate_on_test
from raytune_hpo.seeding import generator
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.tasks.diabetes import Diabetes
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.training.checkpoint import load_state
from raytune_hpo.training.ensemble_model import AveragedPredictions, model_of
from raytune_hpo.training.evaluation import evaluate
from raytune_hpo.training.metrics import Accuracy, MeanSquaredError, RootMeanSquaredError

CLASSIFICATION, REGRESSION = metrics_of(Digits()), metrics_of(Diabetes())
SPACE = {"lr": Float(1e-4, 0.1, "log"), "hidden_units": Choice([8, 16, 32])}
CONFIGS = [
    {"lr": lr, "hidden_units": h} for lr, h in [(0.003, 16), (0.01, 32), (0.02, 8), (0.005, 32), (0.05, 16), (0.03, 32)]
]


def digits(**options):
    return Experiment(name="ensemble", task="digits", space=SPACE, seed=1, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("trained") / "run", digits(max_epochs=3), CONFIGS)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run, to spoil."""
    shutil.copytree(trained.path, tmp_path / "run")
    return tmp_path / "run"


@contextlib.contextmanager
def building(path):
    from raytune_hpo.results.results import load_results

    directory = RunDirectory.open(path)
    directory.lock()
    try:
        yield Builder(directory, load_results(path), load_experiment(path).resolved)
    finally:
        directory.unlock()


# The module ---------------------------------------------------------------------------------------


class Fixed(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.outputs = nn.Parameter(torch.tensor(outputs))

    def forward(self, x):
        return self.outputs.expand(len(x), -1)


def test_classes_are_averaged_as_probabilities_and_cross_entropy_is_right():
    logits = torch.tensor([[2.0, 0.0, -1.0], [-3.0, 1.0, 0.5]])
    model = AveragedPredictions([Fixed(row.tolist()) for row in logits], "classification", [3, 1])
    right = 0.75 * logits[0].softmax(0) + 0.25 * logits[1].softmax(0)
    outputs = model(torch.zeros(4, 1))
    torch.testing.assert_close(outputs.exp(), right.expand(4, 3))
    for label in range(3):
        loss = functional.cross_entropy(outputs, torch.full((4,), label))
        assert loss.item() == pytest.approx(-math.log(right[label]), rel=1e-5)


def test_sure_models_that_disagree_keep_finite_logs():
    model = AveragedPredictions([Fixed([1e4, 0.0]), Fixed([0.0, 1e4])], "classification")
    torch.testing.assert_close(model(torch.zeros(1, 1)), torch.full((1, 2), math.log(0.5)))


def test_outputs_of_a_regression_are_averaged():
    model = AveragedPredictions([Fixed([1.0, 8.0]), Fixed([4.0, -1.0])], "regression", [2, 1])
    torch.testing.assert_close(model(torch.zeros(2, 1)), torch.tensor([[2.0, 5.0]] * 2))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan], []])
def test_weights_that_make_no_average_are_refused(weights):
    with pytest.raises(ValueError, match="positive weights"):
        AveragedPredictions([Fixed([0.0]), Fixed([0.0])], "regression", weights)


# The selection ------------------------------------------------------------------------------------


def test_greedy_finds_the_weights_by_replacement():
    """y = (4 a + b) / 5: the first counts four times, the third is never wanted."""
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 50, 1))
    y = (4 * a + b) / 5
    predictions = np.stack([b, c + 3, a])
    for size in (5, 6, 9):
        assert greedy(predictions, y, REGRESSION, "rmse", size) == [1, 0, 4]
    found = figures(per_sample(average(predictions, [1, 0, 4]), y, REGRESSION), REGRESSION)
    assert found["rmse"] == pytest.approx(0, abs=1e-9)


def test_greedy_begins_with_the_best_together():
    """Three that are wrong on different samples outvote each other's errors; any two are worse than one."""
    y = np.ones(6, dtype=np.int64)
    right = np.full((3, 6), 0.9)
    for m in range(3):
        right[m, 2 * m : 2 * m + 2] = 0.1
    assert greedy(np.stack([1 - right, right], axis=-1), y, CLASSIFICATION, "accuracy", 3) == [1, 1, 1]


def test_greedy_is_no_worse_than_the_best_and_no_larger_than_allowed():
    rng = np.random.default_rng(1)
    for metric in ("accuracy", "loss"):
        for size in (2, 5, 9):
            y = rng.integers(0, 4, 120)
            logits = rng.normal(size=(12, 120, 4)) + 0.8 * np.eye(4)[y]
            predictions = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            counts = greedy(predictions, y, CLASSIFICATION, metric, size)
            assert 1 <= sum(counts) <= size
            chosen = cost(average(predictions, counts), y, CLASSIFICATION, metric)
            assert chosen < min(cost(p, y, CLASSIFICATION, metric) for p in predictions)


def test_ties_in_accuracy_go_to_the_lower_loss():
    y = np.array([0, 1, 1, 0])
    unsure = np.where(np.eye(2)[y] == 1, 0.6, 0.4)
    sure = np.where(np.eye(2)[y] == 1, 0.9, 0.1)
    wrong = 1 - sure
    assert greedy(np.stack([wrong, unsure, sure]), y, CLASSIFICATION, "accuracy", 4) == [0, 0, 1]


def gain_of(metric, ensemble, single):
    """ensemble, single: [n], what the metric is a mean of."""
    samples = ([np.stack([values, np.ones_like(values)])] for values in (ensemble, single))
    return gains(*samples, [metric], generator(0, "t"))[metric.name]


def test_gains_are_paired_and_positive_for_better():
    rng = np.random.default_rng(2)
    n = 400
    hard = rng.exponential(5.0, n)  # some samples are hard for both: the difference is the same small one for all
    single, ensemble = hard + 0.1, hard + rng.normal(0, 0.2, n)
    difference = single - ensemble
    gain, low, high = gain_of(MeanSquaredError(), ensemble, single)
    error = difference.std() / math.sqrt(n)
    assert gain == pytest.approx(difference.mean())
    assert (low, high) == pytest.approx((gain - 1.96 * error, gain + 1.96 * error), abs=0.15 * error)
    assert gain_of(MeanSquaredError(), ensemble, single) == (gain, low, high)
    assert low > 0
    right, wrong = np.ones(50), np.zeros(50)
    assert gain_of(Accuracy(), right, wrong) == (1, 1, 1)
    assert gain_of(Accuracy(), wrong, wrong) == (0, 0, 0)
    assert gain_of(RootMeanSquaredError(), wrong + 4, right * 9) == (1, 1, 1)


# A run --------------------------------------------------------------------------------------------


def test_each_method_chooses_its_members(run):
    with building(run) as builder:
        top = builder.choose("top", 4)
        ranked = [t.id for t in builder.results.top(4)]
        assert [m.record.trial for m, _ in top.members] == ranked
        assert top.weights == [0.25] * 4
        snapshot = builder.choose("snapshot", 10)
        assert [(m.record.trial, m.record.epoch) for m, _ in snapshot.members] == [(ranked[0], e) for e in (3, 2, 1)]
        assert [m.record.epoch for m, _ in builder.choose("snapshot", 2).members] == [3, 2]
        chosen = builder.choose("greedy", 10)
        assert chosen.looked_at == 18
        assert 2 <= sum(count for _, count in chosen.members) <= 10
        best = builder.results.best
        for ensemble in (top, snapshot, chosen):
            # (Of checkpoints with the same accuracy, the oldest is the winner's.)
            assert builder.directory.path / ensemble.single.record.path == best.checkpoint
            assert ensemble.single.validation["accuracy"] == pytest.approx(best.metric)
        assert chosen.validation["accuracy"] > best.metric


def test_the_figures_are_those_of_the_module(run):
    splits = Digits().load(1)
    with building(run) as builder:
        chosen = builder.choose("greedy", 6)
        model = builder.model(chosen)
        metrics = builder.test(chosen).metrics
        assert evaluate(model, splits.validation, Digits()) == pytest.approx(chosen.validation, rel=1e-5)
        tested = evaluate(model, splits.test, Digits())
        single = evaluate(builder.library.model(chosen.single.record, chosen.single.config), splits.test, Digits())
        for name in ("loss", "accuracy"):
            assert metrics[f"test_{name}"] == pytest.approx(tested[name], rel=1e-5)
            assert metrics[f"single_test_{name}"] == pytest.approx(single[name], rel=1e-5)
        assert metrics["gain_accuracy"] == pytest.approx(tested["accuracy"] - single["accuracy"])
        assert metrics["gain_loss"] == pytest.approx(single["loss"] - tested["loss"], rel=1e-4)
        assert metrics["gain_loss_low"] < metrics["gain_loss"] < metrics["gain_loss_high"]


def test_the_command_opens_the_test_split_once(run, capsys):
    assert main(["ensemble", str(run), "-k", "5", "--no-test"]) == 0
    assert openings(run) == []
    assert main(["ensemble", str(run), "-k", "5", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.split("sealed\n")[1])
    (opening,) = openings(run)
    assert (opening.purpose, opening.again) == ("ensemble", False)
    assert first["test"]["test_accuracy"] == opening.metrics["test_accuracy"]
    assert sum(m["weight"] for m in first["members"]) == pytest.approx(1)
    # The same one again: the figures on record, no second look.
    assert main(["ensemble", str(run), "-k", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test"] == first["test"]
    assert openings(run) == [opening]
    assert main(["ensemble", str(run), "-k", "5", "--method", "top"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "--again" in captured.err
    assert openings(run) == [opening]
    assert main(["ensemble", str(run), "-k", "5", "--method", "top", "--again"]) == 0
    assert ", again" in capsys.readouterr().out
    assert [o.again for o in openings(run)] == [False, True]


@pytest.mark.parametrize(("low", "high", "words"), [(-0.1, 0.2, "contains 0"), (0.1, 0.2, "better"), (-2, -1, "worse")])
def test_the_verdict(low, high, words):
    from raytune_hpo.cli.ensemble import _verdict

    assert words in _verdict(low, high)


def test_the_export_runs_without_this_package(run, tmp_path, capsys):
    assert main(["ensemble", str(run), "-k", "4", "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.endswith("out: ensemble.json, model.pt2, weights.safetensors\n")
    document = json.loads((tmp_path / "out/ensemble.json").read_text())
    split = Digits().load(1).test
    x = torch.as_tensor(split.x)
    program = torch.export.load(tmp_path / "out/model.pt2").module()
    with torch.no_grad():
        outputs = program(x)
        for n in (1, 2, 5):
            torch.testing.assert_close(program(x[:n]), outputs[:n])
        models = [Digits().build_model(m["resolved_config"]) for m in document["members"]]
        rebuilt = AveragedPredictions(models, "classification").eval()
        rebuilt.load_state_dict(load_file(tmp_path / "out/weights.safetensors"))
        torch.testing.assert_close(rebuilt(x), outputs)
        accuracy = float((outputs.argmax(1) == torch.as_tensor(split.y)).double().mean())
        mean = sum(
            m["weight"] * load(run, m["checkpoint"], m["resolved_config"])(x).softmax(1) for m in document["members"]
        )
    torch.testing.assert_close(outputs.exp(), mean)
    assert document["test"]["test_accuracy"] == pytest.approx(accuracy)
    assert document["validation"]["accuracy"] >= document["single"]["validation"]["accuracy"]


def load(run, checkpoint, config):
    return model_of(Digits(), config, load_state(run / checkpoint / STATE_FILE))


def test_what_cannot_be_read_is_passed_over_and_named(run):
    with building(run) as builder:
        records = [t.checkpoints for t in builder.results.top(6)]
    (run / records[0][2].path / STATE_FILE).write_bytes(b"damaged")
    shutil.rmtree(run / records[1][0].path)  # as the rules of retention do
    for record in records[2]:
        shutil.rmtree(run / record.path)
    with building(run) as builder:
        chosen = builder.choose("greedy", 5)
        assert chosen.notices == (f"{records[0][2].path} is damaged: passed over",)
        assert chosen.looked_at == 13
        top = builder.choose("top", 5)
        assert f"{records[2][0].trial} has no sound checkpoint: passed over" in top.notices
        assert len(top.members) == 5
    for record in records[0]:
        (run / record.path / STATE_FILE).unlink()
    with building(run) as builder:
        chosen = builder.choose("greedy", 5)
        assert chosen.single.record.trial == records[1][0].trial
        assert any("has no sound checkpoint: compared with" in n for n in chosen.notices)
        with pytest.raises(ExperimentError, match=r"needs 2 sound checkpoints, the winner's trial keeps 0.*is damaged"):
            builder.choose("snapshot", 5)


def test_values_that_are_not_finite_and_states_that_do_not_fit_are_passed_over(tmp_path):
    run = RunByHand(tmp_path / "run", digits(max_epochs=1))
    for number, spoil in enumerate([None, "nan", "shape", None]):
        model = Digits().build_model({"hidden_units": 8 if spoil != "shape" else 9})
        if spoil == "nan":
            nn.init.constant_(model[0].weight, math.nan)
        scratch = run.store.scratch(f"t{number}")
        torch.save({"model": model.state_dict()}, scratch / STATE_FILE)
        run.add(Suggested(trial=f"t{number}", config={"lr": 0.01, "hidden_units": 8}))
        run.saved(run.store.commit(scratch, f"t{number}", 0, 1))
        metrics = {"validation_accuracy": 0.5 + number / 10, "validation_loss": 1.0}
        run.report(f"t{number}", 1, metrics, decision="complete")
        run.end(f"t{number}", "completed")
    with building(run.path) as builder:
        ensemble = builder.choose("greedy", 2)
        assert ensemble.looked_at == 2
        assert ["cannot be used" in n or "not finite" in n for n in ensemble.notices] == [True, True]
        with pytest.raises(ExperimentError, match="needs 2 sound checkpoints, the winner's trial keeps 1 "):
            builder.choose("snapshot", 2)


def test_a_checkpoint_has_the_config_of_its_generation(tmp_path):
    """After a perturbation a trial holds its donor's weights, whose structure is the donor's."""
    made = trained_run(tmp_path / "run", digits(max_epochs=1), [{"lr": 0.01, "hidden_units": h} for h in (8, 16)])
    donor = made.load().ledger.trials["t00001"].checkpoints[0]
    made.add(SessionOpened(2))
    made.add(Suggested(trial="t00002", config=CONFIGS[2]))
    copy = made.store.adopt(donor, "t00002", 1)
    new = {"lr": 0.02, "hidden_units": 16}
    fields = {
        "epoch": 1,
        "donor": "t00001",
        "donor_epoch": 1,
        "donor_generation": 0,
        "generation": 1,
        "checkpoint": copy,
    }
    made.add(Perturbed(trial="t00002", old_config=CONFIGS[2], new_config=new, **fields))
    metrics = {"validation_accuracy": 0.99, "validation_loss": 0.1}
    made.report("t00002", 2, metrics, generation=1, decision="complete")
    with building(made.path) as builder:
        ensemble = builder.choose("top", 3)
        assert ensemble.notices == ()
        assert next(m.config for m, _ in ensemble.members) == new


def test_of_folds_each_sample_is_predicted_by_the_model_that_has_not_seen_it(tmp_path):
    made = trained_run(tmp_path / "run", digits(max_epochs=2, folds=3), CONFIGS[1:4])
    state_file = {}
    with building(made.path) as builder:
        ensemble = builder.choose("greedy", 3)
        for trial in builder.results.top(3):
            record = trial.best_checkpoint(builder.results.objective)
            member = next(m for m in builder.library.load(iter([record]), 1)[0])
            # The trial reports the mean over the folds, which are of equal size up to one sample.
            assert member.validation["accuracy"] == pytest.approx(trial.best, abs=1e-3)
            state_file[trial.id] = made.store.packed(record)
        model = builder.model(ensemble)
        assert sum(isinstance(m, AveragedPredictions) for m in model.modules()) == 1 + len(ensemble.members)
        best = builder.results.best
        seen_figures = evaluate(model, Digits().load(1).test, Digits())
        assert builder.test(ensemble).metrics["test_accuracy"] == pytest.approx(seen_figures["accuracy"])
    # The winner's own test and its export are of the average of its models, too.
    states = load_state(best.checkpoint / STATE_FILE)["folds"]
    models = [model_of(Digits(), Digits().resolved(best.config), s) for s in states]
    test = Digits().load(1).test
    with torch.no_grad():
        mean = sum(m(torch.as_tensor(test.x)).softmax(1) for m in models) / 3
    accuracy = float((mean.argmax(1) == torch.as_tensor(test.y)).double().mean())
    tested = evaluate_on_test(Digits(), 1, best.config, state_file[best.trial_id])
    assert tested["test_accuracy"] == pytest.approx(accuracy)
    export(made.load(), tmp_path / "out")
    program = torch.export.load(tmp_path / "out/model.pt2").module()
    torch.testing.assert_close(program(torch.as_tensor(test.x)).exp(), mean)


def test_a_repetition_on_another_split_is_no_candidate(run):
    lines = (run / "journal.jsonl").read_text()
    assert '"trial":"t00000"' in lines.replace(" ", "")
    with building(run) as builder:
        for trial in builder.results.ledger.trials.values():
            trial.repeat = 0 if trial.id != "t00001" else None
        chosen = builder.choose("greedy", 3)
        assert {m.record.trial for m, _ in chosen.members} == {"t00001"}
        assert sum("is a repetition" in n for n in chosen.notices) == 5


def test_a_state_that_does_not_fit_is_a_trial_error():
    good = Digits().build_model({"hidden_units": 8}).state_dict()
    for state in ({}, {"model": {}}, {"folds": [{"model": good}, {}]}, {"folds": []}, {"model": good}):
        with pytest.raises(TrialError, match="does not fit"):
            model_of(Digits(), {"hidden_units": 9}, state)


def test_building_a_model_leaves_the_random_state_alone(run):
    before = torch.get_rng_state()
    with building(run) as builder:
        builder.model(builder.choose("top", 2))
    assert torch.equal(torch.get_rng_state(), before)


def wrong(capsys, *arguments):
    assert main(["ensemble", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_wrong_input_is_one_line(run, tmp_path, capsys):
    assert "holds no run" in wrong(capsys, tmp_path)
    assert "must be an integer from 2 to 100" in wrong(capsys, run, "-k", 1)
    assert "must be one of greedy, top, snapshot" in wrong(capsys, run, "--method", "stacking")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    assert "exists already" in wrong(capsys, run, "-o", tmp_path / "full")
    for arguments in (["-k", "three"], ["--again", "--no-test"]):
        with pytest.raises(SystemExit) as stopped:
            main(["ensemble", str(run), *arguments])
        assert stopped.value.code == 2
    capsys.readouterr()
    directory = RunDirectory.open(run)
    directory.lock()
    assert "is in use by process" in wrong(capsys, run)
    directory.unlock()
    made = RunByHand(tmp_path / "function", function_experiment())
    made.add(Suggested(trial="t00000", config=function_config(1)))
    assert "is a function trainable" in wrong(capsys, made.path)
    empty = RunByHand(tmp_path / "empty", digits())
    assert "needs 2 sound checkpoints, the run keeps 0" in wrong(capsys, empty.path)
    assert openings(run) == []


def test_an_ensemble_of_regressions(tmp_path):
    """diabetes: the outputs are averaged, and the gain of the RMSE is in its units."""
    space = {"lr": Float(1e-4, 0.1, "log"), "hidden_units": Choice([4, 8])}
    diabetes = Experiment(name="ensemble", task="diabetes", space=space, seed=1, max_epochs=3, metric="validation_rmse")
    configs = [{"lr": lr, "hidden_units": h} for lr, h in [(0.02, 8), (0.05, 4), (0.01, 8)]]
    splits = diabetes.resolved.task.load(1)
    with building(trained_run(tmp_path / "run", diabetes, configs).path) as builder:
        ensemble = builder.choose("greedy", 5)
        assert ensemble.metric == "rmse"
        assert ensemble.single.validation["rmse"] == pytest.approx(builder.results.best.metric, rel=1e-5)
        assert ensemble.validation["rmse"] <= ensemble.single.validation["rmse"] + 1e-9
        model = builder.model(ensemble)
        assert evaluate(model, splits.validation, diabetes.resolved.task) == pytest.approx(
            ensemble.validation, rel=1e-5
        )
        found = builder.test(ensemble).metrics
        tested = evaluate(model, splits.test, diabetes.resolved.task)
        assert found["test_rmse"] == pytest.approx(tested["rmse"], rel=1e-5)
        assert found["gain_rmse"] == pytest.approx(found["single_test_rmse"] - tested["rmse"], abs=1e-6)
        assert found["gain_rmse_low"] <= found["gain_rmse"] <= found["gain_rmse_high"]
        members = [builder.library.model(m.record, m.config) for m, _ in ensemble.members]
        x = torch.as_tensor(splits.test.x)
        with torch.no_grad():
            right = sum(w * m(x) for m, w in zip(members, ensemble.weights, strict=True))
            torch.testing.assert_close(model(x), right)
