"""A Trainer's training that is cut off after any report and goes on from there is the one that was not cut off.

Skipped where there is no transformers: `make integrations` has it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raytune_hpo import trial_dir
from raytune_hpo.workers.outcomes import Raised, Returned

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: E402

from raytune_hpo.integrations.huggingface import Report  # noqa: E402

EPOCHS = 4
pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own matter
TEXT = (Path(__file__).parents[2] / "LICENSE").read_text().encode()[:2080]


def data():
    rows = torch.tensor(list(TEXT)).view(-1, 16) % 64
    found = [{"input_ids": row, "labels": row} for row in rows]
    return found[:96], found[96:]


def gpt2():
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_layer=1, n_head=2, n_embd=16, n_positions=16, vocab_size=64, bos_token_id=0, eos_token_id=0
        )
    )


def bert():
    return transformers.BertForMaskedLM(
        transformers.BertConfig(
            num_hidden_layers=1, num_attention_heads=2, hidden_size=16, intermediate_size=32, vocab_size=64
        )
    )


def right(prediction):
    return {"accuracy": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))}


def training(report=Report, model=gpt2, resumes=True, evaluation=None, callbacks=lambda: [], **options):
    def train(config):
        transformers.set_seed(3)
        ours = report()
        arguments = {
            "output_dir": str(trial_dir() / "out"),
            "num_train_epochs": EPOCHS,
            "per_device_train_batch_size": 8,
            "eval_strategy": "epoch",
            "logging_strategy": "epoch",
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            **options,
            **config,
        }
        rows, more = data()
        trainer = Trainer(
            model(),
            TrainingArguments(**arguments),
            train_dataset=rows,
            eval_dataset=more if evaluation is None else evaluation(more),
            compute_metrics=right,
            callbacks=[*callbacks(), ours],
        )
        trainer.train(resume_from_checkpoint=ours.checkpoint if resumes else None)
        if arguments["eval_strategy"] != "no":
            trainer.evaluate()  # reports nothing more

    return train


CASES = {
    "epochs": training(),
    "BERT": training(model=bert),
    "steps within epochs": training(eval_strategy="steps", eval_steps=9, logging_steps=9, logging_strategy="steps"),
    "accumulation, a warm-up, a cosine": training(
        gradient_accumulation_steps=2, warmup_steps=5, lr_scheduler_type="cosine", weight_decay=0.1
    ),
    "the trainer's own checkpoints": training(save_strategy="epoch", save_total_limit=1, load_best_model_at_end=True),
    "a schedule that waits for a metric": training(
        lr_scheduler_type="reduce_lr_on_plateau", lr_scheduler_kwargs={"patience": 0, "threshold": 0.5}
    ),
    "what is logged": training(lambda: Report(on="log"), eval_strategy="no"),
    "two evaluations": training(evaluation=lambda rows: {"a": rows[:10], "b": rows[10:]}),
    "evaluated at the start": training(eval_on_start=True),
    "workers that read": training(dataloader_num_workers=1),
}


@pytest.mark.parametrize("train", CASES.values(), ids=CASES)
def test_cut_off_after_any_report_it_goes_on_to_the_bit(trial, train):
    whole, end, _ = trial(train)
    assert end == Returned()
    assert len(whole) >= EPOCHS
    for cut in (1, 2, len(whole) - 1):
        first, _, _ = trial(train, reports=cut)
        assert [r.metrics for r in first] == [r.metrics for r in whole[:cut]]
        rest, end, _ = trial(train, start=first[-1].checkpoint)
        assert [r.metrics for r in rest] == [r.metrics for r in whole[cut:]], (cut, end)
        assert end == Returned()


def test_what_is_reported_and_kept(trial):
    whole, _, _ = trial(CASES["epochs"], every=3)
    assert set(whole[0].metrics) == {"eval_loss", "eval_accuracy", "loss", "grad_norm", "learning_rate"}
    assert [r.checkpoint is not None for r in whole] == [False, False, True, True]
    assert (whole[2].checkpoint / "model.safetensors").is_file()
    whole, _, _ = trial(CASES["two evaluations"])
    assert {"eval_a_loss", "eval_b_loss"} <= set(whole[0].metrics)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant_with_warmup"])
def test_a_donors_checkpoint_does_not_bring_its_learning_rate(trial, schedule):
    seen = []

    class Rates(TrainerCallback):
        def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
            seen.append([(g["lr"], g["weight_decay"]) for g in optimizer.param_groups])

    train = training(callbacks=lambda: [Rates()], lr_scheduler_type=schedule, warmup_steps=3)
    ours = {"learning_rate": 1e-4, "weight_decay": 0.3}
    trial(train, ours)
    alone = seen[24:]
    seen.clear()
    donor, _, _ = trial(train, {"learning_rate": 1e-3, "weight_decay": 0.1}, reports=2)
    seen.clear()
    trial(train, ours, start=donor[-1].checkpoint)
    assert len(seen) == len(alone) == 24
    assert np.array(seen) == pytest.approx(np.array(alone))


WRONG = {
    "nothing evaluated": (training(eval_strategy="no"), "the Trainer evaluates nothing"),
    "only the best saved": (
        training(save_strategy="best", metric_for_best_model="loss"),
        'save_strategy="best" saves too seldom',
    ),
    "another unit": (training(lambda: Report(on="step")), "Report(on='step'): must be"),
    "one folder for all": (
        training(output_dir="/tmp/raytune-hpo-out"),
        "output_dir '/tmp/raytune-hpo-out' is that of every",
    ),
}


@pytest.mark.parametrize(("train", "said"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_line(trial, train, said):
    _, end, _ = trial(train)
    assert isinstance(end, Raised)
    assert said in end.summary
    assert "\n" not in end.summary


def test_a_training_without_its_checkpoint_is_named(trial, tmp_path):
    first, _, _ = trial(CASES["epochs"], reports=1)
    _, end, _ = trial(training(resumes=False), start=first[0].checkpoint)
    assert "train() was not given the trial's checkpoint" in end.summary
    _, end, _ = trial(CASES["epochs"], start=tmp_path)
    assert "holds no raytune_hpo.pt" in end.summary


def test_outside_of_a_trial_it_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training(num_train_epochs=1, output_dir="out")({})
    assert not list(tmp_path.rglob("checkpoint-*"))
