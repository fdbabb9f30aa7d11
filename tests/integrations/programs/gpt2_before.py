from pathlib import Path

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments


def data():
    """Bytes of the interpreter's own documentation, 32 tokens a row."""
    text = Path(torch.__file__).with_name("functional.py").read_bytes()[:8192]
    rows = torch.tensor(list(text)).view(-1, 32) % 128
    rows = [{"input_ids": row, "labels": row} for row in rows]
    return rows[:192], rows[192:]


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
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=more)
    trainer.train()


train({"lr": 1e-3, "weight_decay": 0.01})
