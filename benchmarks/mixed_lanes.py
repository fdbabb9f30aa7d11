"""Lanes over the space that people search: `python benchmarks/lanes.py mixed`, and of one structure, `... one`.

L lanes are live at a time: the next of the configs of random search takes the place of one that has done its 3 epochs,
round and round, for at least one round. The solo trainer trains the same ones, in turns with lanes, each from its
model's making on. Operations are those that torch dispatches (`counting`), with a CPU's settings and with a GPU's. The
floor is the arithmetic alone: products, by eights, Adam's update, activations and pooling of each config's own sizes.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from counting import counted

EPOCHS = 3
CONFIGS = 64
TICKS = 85  # of a measurement at least: an epoch of the smallest batch


def configs_of(space: Any, seed: int, configs: int = CONFIGS) -> Iterator[dict[str, Any]]:
    return itertools.cycle(sampled(space, seed, configs))


def sampled(space: Any, seed: int, configs: int = CONFIGS) -> list[dict[str, Any]]:
    import numpy as np

    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(configs)]


class Live:
    """L lanes of a fused trainer, replaced as they end."""

    def __init__(self, trainer: Any, configs: Iterator[dict[str, Any]], lanes: int, epochs: int = EPOCHS) -> None:
        self.trainer, self._configs, self._epochs = trainer, configs, epochs
        self._names: list[str] = []
        self._entered = 0
        self.groups = 0
        for _ in range(lanes):
            self._enter()

    def _enter(self) -> None:
        name = str(self._entered)
        self.trainer.enter(name, next(self._configs), self._entered)
        self._names.append(name)
        self._entered += 1

    def advance(self) -> None:
        """Until lanes of each group have ended an epoch."""
        groups: dict[Any, list[str]] = {}
        for name in self._names:
            groups.setdefault(self.trainer.group(name), []).append(name)
        self.groups = len(groups)
        for members in groups.values():
            for name in self.trainer.advance(members):
                if self.trainer.epoch(name) == self._epochs:
                    self.trainer.leave(name)
                    self._names.remove(name)
                    self._enter()

    def progress(self) -> float:
        """Model-epochs so far."""
        return float(self.trainer.progress())


def measured(
    task: Any, data: Any, space: Any, lanes: int, seed: int, device: str, settings: str = "", configs: int = CONFIGS
) -> dict[str, float]:
    from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
    from raytune_hpo.training.lanes.mixed.template import Template

    settings = settings or device
    trainer = FusedTrainer(task, data, max_epochs=EPOCHS, device=device, template=Template.of(settings))
    live = Live(trainer, configs_of(space, seed, configs), lanes)
    while live.trainer.ticks() < TICKS * (3 if settings == device else 1):
        live.advance()

    def some() -> float:
        before, ticks = live.progress(), live.trainer.ticks()
        while live.trainer.ticks() < ticks + TICKS or live.progress() < before + configs * EPOCHS:
            live.advance()
        return live.progress() - before

    cpu = math.nan
    if settings == device:  # a GPU's settings are for its launches
        began = time.process_time()
        epochs = some()
        cpu = (time.process_time() - began) / epochs
    found: list[float] = []
    operations = counted(lambda: found.append(some()))
    return {"cpu": cpu, "operations": operations / found[0], "groups": live.groups}


def alone(task: Any, data: Any, space: Any, models: int, seed: int, device: str) -> dict[str, float]:
    """The solo trainer's, of the sequence's first models."""
    from raytune_hpo.training.trainer import SupervisedTrainer

    trainer = SupervisedTrainer(task, data, max_epochs=EPOCHS, device=device)
    sequence = configs_of(space, seed, models)
    seconds, operations = [], []
    for i in range(models):
        config = next(sequence)

        def train(config: dict[str, Any] = config, seed: int = i) -> None:
            trainer.setup(config, seed)
            for _ in range(EPOCHS):
                trainer.train_epoch()

        began = time.process_time()
        train()
        seconds.append((time.process_time() - began) / EPOCHS)
        operations.append(counted(train) / EPOCHS)
    return {"cpu": statistics.fmean(seconds), "operations": statistics.fmean(operations)}


def floor(task: Any, space: Any, data: Any, seed: int, models: int) -> float:
    """CPU seconds of a model's epoch of a chain: the arithmetic of training alone."""
    from raytune_hpo.training.hyperparameters import resolve
    from raytune_hpo.training.lanes.mixed.chain import chain_of

    total = 0.0
    configs = sampled(space, seed, models)
    for config in configs:
        chain = chain_of(task.build_model(resolve(config, task.model_hyperparameters())))
        N = config.get("batch_size", 64)
        works = [*_convolutions(chain, N, data.train.x.shape[1:]), *_linear(chain, N), _update(chain)]
        total += sum(_seconds(work) / models for work, models in works) * math.ceil(len(data.train) / N)
    return total / len(configs)


Work = tuple[Callable[[], object], int]  # and of how many models it is


def _seconds(work: Callable[[], object]) -> float:
    work()
    began, count = time.process_time(), 0
    while time.process_time() - began < 0.005:
        work()
        count += 1
    return (time.process_time() - began) / count


def _linear(chain: Any, N: int) -> Iterator[Work]:
    import torch

    for block in chain.blocks[chain.convolutions :]:
        x, w, d = (
            torch.rand(8, N, block.inputs),
            torch.rand(8, block.outputs, block.inputs),
            torch.rand(8, N, block.outputs),
        )

        def step(x: Any = x, w: Any = w, d: Any = d, block: Any = block) -> None:
            torch.bmm(x, w.transpose(1, 2))
            torch.bmm(d.transpose(1, 2), x)
            torch.bmm(d, w)
            if block is not chain.blocks[-1]:
                torch.ops.aten.tanh_backward(d, torch.tanh(d))

        yield step, 8


def _convolutions(chain: Any, N: int, shape: Any) -> Iterator[Work]:
    import torch

    aten, size = torch.ops.aten, tuple(shape[1:])
    for i, (block, (given, kept)) in enumerate(zip(chain.blocks, chain.sizes(shape), strict=False)):
        window, pool = block.convolution, block.pool
        x, d = torch.rand(N, block.inputs, *size), torch.rand(N, block.outputs, *given)
        w, of_kept, size = torch.rand(block.weight_shape), torch.rand(N, block.outputs, *kept), kept
        options = ([*window.stride], [*window.padding], [*window.dilation], False, [0, 0], block.groups)

        def step(
            x: Any = x, w: Any = w, d: Any = d, i: int = i, pool: Any = pool, own: Any = options, k: Any = of_kept
        ):
            aten.convolution(x, w, None, *own)
            aten.convolution_backward(d, x, w, None, *own, [i > 0, True, False])
            aten.tanh_backward(d, y := torch.tanh(d))
            if pool is not None:
                how = (pool.kernel, pool.stride, pool.padding, pool.dilation, False)
                _, chosen = aten.max_pool2d_with_indices(y, *how)
                aten.max_pool2d_with_indices_backward(k, y, *how, chosen)

        yield step, 1


def _update(chain: Any) -> Work:
    import torch

    P = sum(math.prod(block.weight_shape) + block.outputs for block in chain.blocks)
    w, g, m, v = torch.rand(4, 8, P)

    def step() -> None:
        m.lerp_(g, 0.1)
        v.mul_(0.99).addcmul_(g, g, value=0.01)
        w.addcdiv_(m, v.sqrt().add_(1e-8), value=-1e-3)

    return step, 8


def task_and_space(name: str) -> tuple[Any, Any]:
    """Of experiments/, or "deep", made for this: MLPs of 2 to 6 hidden layers on digits."""
    from raytune_hpo import Choice, Float, Int
    from raytune_hpo.experiment.file import load_experiment

    experiment = load_experiment(f"experiments/{name if name != 'deep' else 'digits'}.py")
    if name == "deep":
        space = {
            "hidden_layers": Int(2, 6),
            "hidden_units": Int(16, 128, scale="power_of_two"),
            "batch_size": Choice([32, 50, 64, 100, 128]),
            "optimizer": Choice(["sgd", "adam", "adamw"]),
            "lr": Float(1e-4, 1e-1, scale="log"),
            "dropout": Float(0.0, 0.5),
            "batch_norm": Choice([False, True]),
            "activation": Choice(["relu", "tanh", "gelu", "elu"]),
            "label_smoothing": Float(0.0, 0.2),
        }
        experiment = replace(experiment, space=space)
    return experiment.resolved.task, experiment.resolved.space


def mixed(names: list[str], sizes: tuple[int, ...], repeats: int, device: str, configs: int = CONFIGS) -> None:
    import torch

    from raytune_hpo.training.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    for name in names:
        task, space = task_and_space(name)
        data = task.splits(0).for_trials()
        rows: dict[int, list[tuple[float, ...]]] = {}
        for repeat in range(repeats):
            solo = alone(task, data, space, configs, repeat, device)
            least = floor(task, space, data, repeat, configs)
            for L in sizes:
                own = measured(task, data, space, L, repeat, device, configs=configs)
                gpus = measured(task, data, space, L, repeat, device, "cuda", configs)["operations"]
                print(
                    f"{name} {repeat} L={L}: alone {solo}, a lane {own}, as on a GPU {gpus}, floor {least}", flush=True
                )
                rows.setdefault(L, []).append(
                    (solo["cpu"], own["cpu"], solo["operations"], own["operations"], gpus, least)
                )
        for L, found in rows.items():
            gains = [a / b for a, b, *_ in found]
            fewer, fewest = ([row[2] / row[i] for row in found] for i in (3, 4))
            cpu, lane, ops, own_ops, gpu_ops, arithmetic = (
                statistics.median(column) for column in zip(*found, strict=True)
            )
            print(
                f"{name} L={L}: CPU ms a model-epoch {cpu * 1e3:.1f} alone, {lane * 1e3:.1f} a lane: "
                f"{statistics.median(gains):.2f} ({min(gains):.2f}-{max(gains):.2f}) times; operations {ops:.0f}, "
                f"{own_ops:.0f}: {statistics.median(fewer):.1f} ({min(fewer):.1f}-{max(fewer):.1f}) times fewer; "
                f"as on a GPU {gpu_ops:.0f}: {statistics.median(fewest):.1f} ({min(fewest):.1f}-{max(fewest):.1f}); "
                f"the arithmetic alone {arithmetic * 1e3:.1f} ms",
                flush=True,
            )


ONE = {"optimizer": "adam", "hidden_units": 64, "hidden_layers": 2}
OF_ONE = {
    "plain": {},
    "dropout": {"dropout": 0.3},
    "norms": {"batch_norm": True},
    "both": {"batch_norm": True, "dropout": 0.3},
}


def one(sizes: tuple[int, ...], device: str) -> None:
    """Operations of a model's epoch where all lanes have one structure, and how those of all lanes grow with L: with a
    GPU's settings, under which nothing is done lane by lane."""
    from raytune_hpo.tasks.digits import Digits
    from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
    from raytune_hpo.training.lanes.mixed.template import Template
    from raytune_hpo.training.trainer import SupervisedTrainer

    task = Digits()
    data = task.splits(0).for_trials()
    for name, more in OF_ONE.items():
        config = {**ONE, **more}
        solo = SupervisedTrainer(task, data, max_epochs=9, device=device)
        solo.setup(config, 0)
        solo.train_epoch()
        alone_ops = counted(solo.train_epoch)
        cells, totals = [], []
        for L in sizes:
            fused = FusedTrainer(task, data, max_epochs=9, device=device, template=Template.of("cuda"))
            for lane in range(L):
                fused.enter(str(lane), {**config, "lr": 1e-3 * (1 + lane / L)}, lane)
            fused.train_epoch()
            totals.append(counted(fused.train_epoch))
            cells.append(f"L={L} {totals[-1] / L:.1f} ({alone_ops * L / totals[-1]:.0f} times fewer)")
        grown = (
            f"; all lanes' at L={sizes[-1]} over L={sizes[0]}: {totals[-1] / totals[0]:.2f}" if len(sizes) > 1 else ""
        )
        print(f"{name}: operations {alone_ops} alone, a lane {', '.join(cells)}{grown}", flush=True)
