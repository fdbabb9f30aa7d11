"""A class Trainable of Ray Tune's."""

import json
import time
from pathlib import Path

from ray import tune


class Climber(tune.Trainable):
    def setup(self, config):
        self.x, self.height = config["x"], 0.0

    def step(self):
        time.sleep(0.03)
        self.height += self.x * (2 - self.x)
        return {"height": self.height, "done": self.height > 100}

    def save_checkpoint(self, folder):
        (Path(folder) / "height.json").write_text(json.dumps(self.height))

    def load_checkpoint(self, folder):
        self.height = json.loads((Path(folder) / "height.json").read_text())
