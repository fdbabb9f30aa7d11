import json
from pathlib import Path

import torch
import transformers
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments


def data():
    """Bytes of the interpreter's own documentation, 32 tokens a row."""
    text = Path(torch.__file__).with_name("functional.py").read_bytes()[:8192]
    rows = torch.tensor(list(text)).view(-1, 32) % 128
    rows = [{"input_ids": row, "labels": row} for row in rows]
    return rows[:192], rows[192:]


class Report(TrainerCallback):
    def __init__(self, config, start):
        self.config, self.start, self.metrics = config, start, {}

    def on_train_begin(self, args, state, control, optimizer=None, lr_scheduler=None, **kwargs):
        if self.start is None:
            return
        then = json.loads((Path(self.start) / "config.of.trial.json").read_text())
        for group in optimizer.param_groups:  # another trial's checkpoint
            group["lr"] *= self.config["lr"] / then["lr"]
            group["initial_lr"] = self.config["lr"]
            if group["weight_decay"]:
                group["weight_decay"] = self.config["weight_decay"]
        lr_scheduler.base_lrs = [self.config["lr"] for _ in lr_scheduler.base_lrs]

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.metrics = metrics
        control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / "config.of.trial.json").write_text(json.dumps(self.config))
        tune.report(self.metrics, checkpoint=tune.Checkpoint.from_directory(str(folder)))


def train(config):
    transformers.set_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_head=2, n_embd=32, n_positions=32, vocab_size=128, bos_token_id=0, eos_token_id=0)
    )
    rows, more = data()
    arguments = TrainingArguments(
        "out",
        learning_rate=config["lr"],
        weight_decay=config["weight_decay"],
        num_train_epochs=6,
        per_device_train_batch_size=16,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    checkpoint = tune.get_checkpoint()
    start = checkpoint.to_directory() if checkpoint else None
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=more, callbacks=[Report(config, start)])
    trainer.train(resume_from_checkpoint=start)


if __name__ == "__main__":
    tuner = tune.Tuner(
        train,
        param_space={"lr": tune.loguniform(1e-4, 1e-1), "weight_decay": tune.loguniform(1e-4, 1e-1)},
        tune_config=tune.TuneConfig(
            metric="eval_loss", mode="min", num_samples=6, scheduler=ASHAScheduler(max_t=6), max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(name="gpt2", failure_config=tune.FailureConfig(max_failures=1)),
    )
    print(tuner.fit().get_best_result().config)
