import json
import math
import pathlib
import tempfile
import time

from ray import tune

from raytune_hpo import Experiment, Float


def train(config):
    epoch, total = 0, 0.0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            epoch, total = json.loads((pathlib.Path(folder) / "state.json").read_text())
    while epoch < 9:
        epoch += 1
        total += math.sin(config["x"] * epoch) + config["x"]
        time.sleep(0.01)
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "state.json").write_text(json.dumps([epoch, total]))
            tune.report(
                {"score": total / epoch, "total": math.nan if epoch == 2 else total},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )


experiment = Experiment(
    name="function",
    task=train,
    space={"x": Float(0.0, 1.0)},
    metric="score",
    mode="max",
    searcher={"name": "bohb", "min_points": 3},
    scheduler="asha",
    num_samples=14,
    max_epochs=9,
    max_concurrent=1,
    seed=5,
)
