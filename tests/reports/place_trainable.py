"""A trainable that uses, and spoils, all that its process has."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune

import raytune_hpo


def places(config: dict[str, Any]) -> None:
    """What a trainer of other people's does, and what it sees."""
    import torch  # in the middle of the first trial of a process

    context = tune.get_context()
    x = config["x"]
    began = os.getcwd()
    seen = {
        "cwd": began,
        "dir": context.get_trial_dir(),
        "own_dir": str(getattr(raytune_hpo, "trial_dir", Path)()),
        "name": context.get_experiment_name(),
        "id": context.get_trial_id(),
        "resources": str(getattr(context.get_trial_resources(), "bundles", None)),
        "original": os.environ.get("TUNE_ORIG_WORKING_DIR"),
        "draws": f"{random.random()} {np.random.random()} {torch.rand(1).item()}",
        "leaks": leaks(),
        **(started() if x == 0 else {}),
    }
    for epoch in range(2):
        Path("my_model").mkdir(exist_ok=True)
        Path("my_model/w.json").write_text(json.dumps({"x": x, "epoch": epoch}))
        Path(context.get_trial_dir(), "notes.txt").write_text(str(x))
        tune.report({"x": x, **seen}, checkpoint=tune.Checkpoint.from_directory("my_model"))
        Path("my_model/w.json").write_text("changed at once")
    leave(x)


def leave(x: int) -> None:
    """What a trial leaves in its process."""
    import torch

    os.chdir("/")
    os.environ["LEFT"] = str(x)
    os.environ.pop("KEPT", None)
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    torch.set_grad_enabled(False)
    torch.set_default_device("meta")
    torch.backends.cudnn.benchmark = True
    warnings.simplefilter("error", ResourceWarning)
    sys.path.insert(0, "/left")
    sys.setrecursionlimit(12345)
    multiprocessing.set_start_method("spawn")  # raises where one is set
    np.random.seed(7)
    random.seed(7)


def leaks() -> str:
    """What of it is there."""
    import torch

    found = {
        "environ": "LEFT" in os.environ,
        "dtype": torch.get_default_dtype() != torch.float32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "grad": not torch.is_grad_enabled(),
        "device": torch.get_default_device().type != "cpu",
        "cudnn": torch.backends.cudnn.benchmark,
        "filters": ("error", None, ResourceWarning, None, 0) in warnings.filters,
        "path": "/left" in sys.path,
        "recursion": sys.getrecursionlimit() == 12345,
        "start": multiprocessing.get_start_method(allow_none=True) == "spawn",
    }
    return " ".join(name for name, there in found.items() if there)


@ray.remote
def task() -> int:
    return 1


@ray.remote(num_cpus=1)
class Actor:
    def answer(self) -> int:
        return 2


STARTS = {
    "a task": lambda: ray.get(task.remote()),
    "an actor": lambda: ray.get(Actor.remote().answer.remote()),
    "a task without a CPU": lambda: ray.get(task.options(num_cpus=0).remote()),
    "an actor without a CPU": lambda: ray.get(Actor.options(num_cpus=0).remote().answer.remote()),
}


def started() -> dict[str, str]:
    """What comes of Ray's tasks within a trial, in a worker."""
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return {}
    found = {}
    for what, start in STARTS.items():
        try:
            found[what] = f"answered {start()}"
        except Exception as error:
            found[what] = str(error)
    return found
