from pathlib import Path

import torch
import transformers
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments

from raytune_hpo import Experiment, Float
from raytune_hpo.integrations.huggingface import Report


def data():
    """Bytes of the interpreter's own documentation, 32 tokens a row."""
    text = Path(torch.__file__).with_name("functional.py").read_bytes()[:8192]
    rows = torch.tensor(list(text)).view(-1, 32) % 128
    rows = [{"input_ids": row, "labels": row} for row in rows]
    return rows[:192], rows[192:]


def train(config):
    transformers.set_seed(0)
    model = BertForMaskedLM(
        BertConfig(num_hidden_layers=2, num_attention_heads=2, hidden_size=32, intermediate_size=64, vocab_size=128)
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
    report = Report()
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=more, callbacks=[report])
    trainer.train(resume_from_checkpoint=report.checkpoint)


experiment = Experiment(
    name="bert",
    task=train,
    space={"lr": Float(1e-4, 1e-1, "log"), "weight_decay": Float(1e-4, 1e-1, "log")},
    metric="eval_loss",
    mode="min",
    num_samples=6,
    max_epochs=6,
)
