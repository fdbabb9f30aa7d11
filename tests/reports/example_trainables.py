"""Ray's own examples, with files of their own beside their checkpoints: one function for all, and a class."""

from __future__ import annotations

import random
import types
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.examples import (
    async_hyperband_example,
    custom_func_checkpointing,
    hyperband_function_example,
    pbt_example,
    pbt_function,
    tune_basic_example,
)

#: name -> function, config, metric
EXAMPLES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "async_hyperband": (async_hyperband_example.easy_objective, {"steps": 3, "width": 10, "height": 2}, "mean_loss"),
    "custom_func_checkpointing": (custom_func_checkpointing.train_func, {"width": 10, "height": 2}, "mean_loss"),
    "hyperband_function": (hyperband_function_example.train_func, {"width": 10, "height": 2}, "episode_reward_mean"),
    "pbt_function": (pbt_function.pbt_function, {"lr": 0.0001, "checkpoint_interval": 2}, "q_err"),
    "tune_basic": (tune_basic_example.easy_objective, {"steps": 3, "width": 10, "height": 2}, "mean_loss"),
}


def example(config: dict[str, Any]) -> None:
    function, given, _ = EXAMPLES[config["which"]]
    for module in (async_hyperband_example, custom_func_checkpointing, tune_basic_example):
        module.time = types.SimpleNamespace(sleep=lambda seconds: None)
    random.seed(1)
    np.random.seed(1)
    Path("beside").mkdir(exist_ok=True)
    Path("beside/which.txt").write_text(config["which"])
    function(dict(given))


class Example(pbt_example.PBTBenchmarkExample):
    def setup(self, config: dict[str, Any]) -> None:
        super().setup({"lr": 0.0001})
        random.seed(1)
        np.random.seed(1)
        Path("setup.txt").write_text("relative")
        Path(self.logdir, "log.txt").write_text("by the class's own name for it")
