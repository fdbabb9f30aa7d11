"""Export: what plain PyTorch loads is what was trained."""

from __future__ import annotations

import json

import pytest
import torch
from run_by_hand import RunByHand, config, experiment
from safetensors.torch import load_file
from written_run import seal

from raytune_hpo import Experiment, ExperimentError, Float
from raytune_hpo.journal.events import Suggested
from raytune_hpo.results.export import export
from raytune_hpo.storage.checkpoints import STATE_FILE
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.training.checkpoint import save_state
from raytune_hpo.training.trainer import SupervisedTrainer

CONFIG = {"lr": 0.05, "hidden_units": 16, "dropout": 0.3, "batch_norm": True}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run with one trial of two epochs, trained here; the trainer is left as it was at the better one."""
    space = {"lr": Float(1e-3, 0.1, "log"), "hidden_units": 16, "dropout": 0.3, "batch_norm": True}
    chosen = Experiment(name="export", task="digits", space=space, max_epochs=2, seed=3)
    run = RunByHand(tmp_path_factory.mktemp("export") / "run", chosen)
    trainer = SupervisedTrainer(chosen.resolved.task, Digits().load(3).for_trials(), max_epochs=2, device="cpu")
    trainer.setup(CONFIG, 7)
    run.add(Suggested(trial="t00000", config=CONFIG))
    for epoch in (1, 2):
        metrics = trainer.train_epoch()
        scratch = run.store.scratch("t00000")
        save_state(trainer.state_dict(), scratch / STATE_FILE)
        run.saved(run.store.commit(scratch, "t00000", 0, epoch))
        run.report("t00000", epoch, metrics)
    run.end("t00000", "completed")
    assert run.load().best.checkpoint_epoch == 2
    return run, trainer


def test_exported_models_give_the_trainers_outputs(digits, tmp_path):
    run, trainer = digits
    files = export(run.load(), tmp_path / "model")
    assert files == ["config.json", "metrics.json", "model.pt2", "weights.safetensors"]
    split = Digits().load(3).validation
    x = torch.as_tensor(split.x)
    trainer.model.eval()
    with torch.no_grad():
        right = trainer.model(x)
        program = torch.export.load(tmp_path / "model/model.pt2").module()
        torch.testing.assert_close(program(x), right)
        for n in (1, 2, 7):
            torch.testing.assert_close(program(x[:n]), right[:n])
        document = json.loads((tmp_path / "model/config.json").read_text())
        rebuilt = Digits().build_model(document["resolved_config"])
        rebuilt.load_state_dict(load_file(tmp_path / "model/weights.safetensors"))
        rebuilt.eval()
        torch.testing.assert_close(rebuilt(x), right, rtol=0, atol=0)
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    accuracy = float((right.argmax(1) == torch.as_tensor(split.y)).double().mean())
    assert metrics["validation"]["validation_accuracy"] == pytest.approx(accuracy)
    assert (metrics["trial_id"], metrics["epoch"], metrics["test"]) == ("t00000", 2, None)
    assert document["config"] == CONFIG


def test_the_test_metrics_of_the_exported_checkpoint_only(digits, tmp_path):
    run, _ = digits
    record = run.load().ledger.trials["t00000"].checkpoints[-1]
    subject = {"trial": "t00000", "checkpoint": record.path, "epoch": 2}
    try:
        seal(run.path, subject, {"test_accuracy": 0.9})
        export(run.load(), tmp_path / "a")
        seal(run.path, {**subject, "checkpoint": "checkpoints/t00000/00-00001.1"}, {"test_accuracy": 0.9})
        export(run.load(), tmp_path / "b")
    finally:
        (run.path / "test.json").unlink()
    tests = [json.loads((tmp_path / name / "metrics.json").read_text())["test"] for name in "ab"]
    assert tests == [{"test_accuracy": 0.9}, None]


@pytest.fixture
def function_run(tmp_path):
    run = RunByHand(tmp_path / "run", experiment())
    run.add(Suggested(trial="t00000", config=config(1)))
    run.checkpoint("t00000", 1)
    run.result("t00000", 1, 0.5)
    run.add(Suggested(trial="t00001", config=config(2)))
    return run


def test_of_a_function_trainable_the_checkpoint_is_copied(function_run, tmp_path):
    assert export(function_run.load(), tmp_path / "out") == ["checkpoint", "config.json", "metrics.json"]
    assert (tmp_path / "out/checkpoint/weights").read_text() == "t00000 1"
    document = json.loads((tmp_path / "out/config.json").read_text())
    assert document["config"] == config(1)
    assert set(document) == {"config", "task", "versions"}


def test_what_cannot_be_exported_is_one_error_and_writes_nothing(function_run, tmp_path):
    results, target = function_run.load(), tmp_path / "out"
    for trial, message in (("t00009", "no such trial; there are t00000 to t00001"), ("t00001", "has no checkpoint")):
        with pytest.raises(ExperimentError, match=message):
            export(results, target, trial)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(ExperimentError, match="exists already"):
        export(results, tmp_path / "full")
    (function_run.path / results.best.checkpoint / "weights").write_text("t00000 2")
    with pytest.raises(ExperimentError, match="is damaged"):
        export(function_run.load(), target)
    assert not target.exists()


def test_a_run_without_a_report_has_nothing_to_export(tmp_path):
    run = RunByHand(tmp_path / "run", experiment())
    with pytest.raises(ExperimentError, match=r"no finished report"):
        export(run.load(), tmp_path / "out")
