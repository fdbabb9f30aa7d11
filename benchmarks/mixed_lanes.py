"""Lanes over the space that people search: `python benchmarks/lanes.py mixed`, and of one structure, `... one`.

L lanes are live at a time: the next of 64 configs of random search takes the place of one that has done its 3 epochs,
round and round, for at least one round. The solo trainer trains the same ones, in turns with lanes, each from its
model's making on. Operations are what torch dispatches (torch.utils._python_dispatch.TorchDispatchMode), views too:
with a CPU's settings (64 lanes together, powers of two) and with a GPU's (all together, powers of four). The floor is
the arithmetic alone, by eights: products, Adam's update and activations of each config's own sizes.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

EPOCHS = 3
CONFIGS = 64
TICKS = 85  # of a measurement at least: an epoch of the smallest batch


def configs_of(space: Any, seed: int) -> Iterator[dict[str, Any]]:
    return itertools.cycle(sampled(space, seed))


def sampled(space: Any, seed: int) -> list[dict[str, Any]]:
    import numpy as np

    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(CONFIGS)]


def counted(work: Callable[[], object]) -> int:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.n += 1
            return function(*args, **(kwargs or {}))

    with Count() as count:
        work()
    return count.n


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
    task: Any, data: Any, space: Any, lanes: int, seed: int, device: str, settings: str = ""
) -> dict[str, float]:
    from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
    from raytune_hpo.training.lanes.mixed.template import Template

    settings = settings or device
    trainer = FusedTrainer(task, data, max_epochs=EPOCHS, device=device, template=Template.of(settings))
    live = Live(trainer, configs_of(space, seed), lanes)
    while live.trainer.ticks() < 3 * TICKS:
        live.advance()

    def some() -> float:
        before, ticks = live.progress(), live.trainer.ticks()
        while live.trainer.ticks() < ticks + TICKS or live.progress() < before + CONFIGS * EPOCHS:
            live.advance()
        return live.progress() - before

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
    configs = configs_of(space, seed)
    seconds, operations = [], []
    for i in range(models):
        config = next(configs)

        def train(config: dict[str, Any] = config, seed: int = i) -> None:
            trainer.setup(config, seed)
            for _ in range(EPOCHS):
                trainer.train_epoch()

        began = time.process_time()
        train()
        seconds.append((time.process_time() - began) / EPOCHS)
        operations.append(counted(train) / EPOCHS)
    return {"cpu": statistics.fmean(seconds), "operations": statistics.fmean(operations)}


def floor(space: Any, data: Any, seed: int) -> float:
    """CPU seconds of a model's epoch of an MLP: the arithmetic of training alone."""
    import torch

    samples, inputs = len(data.train), math.prod(data.train.x.shape[1:])
    outputs = int(data.train.y.max()) + 1 if data.train.y.dtype.kind == "i" else 1
    total = 0.0
    for config in sampled(space, seed):
        N, depth = config["batch_size"], config["hidden_layers"]
        widths = [config.get(f"units_{k + 1}") or config["hidden_units"] for k in range(depth)]
        sizes = [inputs, *widths, outputs]
        pairs = [(torch.rand(8, N, a), torch.rand(8, b, a), torch.rand(8, N, b)) for a, b in itertools.pairwise(sizes)]
        P = sum(a * b for a, b in itertools.pairwise(sizes))
        w, g, m, v = torch.rand(4, 8, P)

        def step(pairs: Any = pairs, w: Any = w, g: Any = g, m: Any = m, v: Any = v) -> None:
            for x, weight, d in pairs:
                torch.bmm(x, weight.transpose(1, 2))
                torch.bmm(d.transpose(1, 2), x)
                torch.bmm(d, weight)
            for _, _, d in pairs[:-1]:
                y = torch.tanh(d)
                torch.ops.aten.tanh_backward(d, y)
            m.lerp_(g, 0.1)
            v.mul_(0.99).addcmul_(g, g, value=0.01)
            w.addcdiv_(m, v.sqrt().add_(1e-8), value=-1e-3)

        step()
        began, count = time.process_time(), 0
        while time.process_time() - began < 0.02:
            step()
            count += 1
        total += (time.process_time() - began) / count / 8 * math.ceil(samples / N)
    return total / CONFIGS


def mixed(names: list[str], sizes: tuple[int, ...], repeats: int, device: str, models: int = CONFIGS) -> None:
    import torch

    from raytune_hpo.experiment.file import load_experiment
    from raytune_hpo.training.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    for name in names:
        experiment = load_experiment(f"experiments/{name}.py").resolved
        task, space = experiment.task, experiment.space
        data = task.splits(0).for_trials()
        rows: dict[int, list[tuple[float, ...]]] = {}
        for repeat in range(repeats):
            solo = alone(task, data, space, models, repeat, device)
            least = floor(space, data, repeat)
            for L in sizes:
                own = measured(task, data, space, L, repeat, device)
                gpus = measured(task, data, space, L, repeat, device, "cuda")["operations"]
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
    """Operations of a model's epoch where all lanes have one structure, and how those of all lanes grow with L."""
    from raytune_hpo.tasks.digits import Digits
    from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
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
            fused = FusedTrainer(task, data, max_epochs=9, device=device)
            for lane in range(L):
                fused.enter(str(lane), {**config, "lr": 1e-3 * (1 + lane / L)}, lane)
            fused.train_epoch()
            totals.append(counted(fused.train_epoch))
            cells.append(f"L={L} {totals[-1] / L:.1f} ({alone_ops * L / totals[-1]:.0f} times fewer)")
        grown = (
            f"; all lanes' at L={sizes[-1]} over L={sizes[0]}: {totals[-1] / totals[0]:.2f}" if len(sizes) > 1 else ""
        )
        print(f"{name}: operations {alone_ops} alone, a lane {', '.join(cells)}{grown}", flush=True)
