"""The trainer of `Blobs`."""

import copy
import time

import torch

from raytune_hpo import Trainer, evaluate


class SignTrainer(Trainer):
    def __init__(self, task, data):
        self.task, self.data = task, data
        self._epoch = 0

    def setup(self, config, seed):
        torch.manual_seed(seed)
        self.config, self._epoch = {"hidden_units": 8, **config}, 0
        self.model = self.task.build_model(self.config)

    def train_epoch(self):
        x, y = torch.tensor(self.data.train.x), torch.tensor(self.data.train.y)
        loss = torch.nn.functional.cross_entropy(self.model(x), y)
        self.model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weight in self.model.parameters():
                weight.sub_(self.config["lr"] * weight.grad.sign())
        self._epoch += 1
        time.sleep(0.03)  # so that there is a moment for a kill
        measured = evaluate(self.model, self.data.validation, self.task)
        return {"train_loss": loss.item(), **{f"validation_{name}": value for name, value in measured.items()}}

    def state_dict(self):
        return {"model": copy.deepcopy(self.model.state_dict()), "epoch": self._epoch}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self._epoch = state["epoch"]

    @property
    def epoch(self):
        return self._epoch
