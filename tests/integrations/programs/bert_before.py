from pathlib import Path

import torch
import transformers
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments


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
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=more)
    trainer.train()


train({"lr": 1e-3, "weight_decay": 0.01})
