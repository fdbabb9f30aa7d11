"""The largest batch that fits: powers of two, tried with whole optimizer steps, until the memory is used.

On CUDA a size is tried until the device says that it is out of memory. A CPU has no such answer: the kernel
would kill something. So a child process takes the steps, its peak resident memory is read after each size, and the
next size is not tried if memory, going on linearly in the batch, would pass what was free less a margin.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.experiment.references import from_reference, to_reference
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.training.batches import ArraySource
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.data_order import TooFewSamplesError
from raytune_hpo.training.task import Task
from raytune_hpo.training.trainer import SupervisedTrainer

MARGIN = 0.1  # of the free memory, left free
SAMPLES = 200  # configs looked at for the largest model
KIB = 1024


@dataclass(frozen=True)
class Tried:
    """One size that fitted: the peak memory of its steps, model, optimizer and data included."""

    batch_size: int
    bytes: int


@dataclass(frozen=True)
class MaxBatch:
    """batch_size: the largest power of two that fits, 0 if not even one sample does. bound: "memory", "data" (no more
    training samples) or "limit". free_bytes: the device's free memory at the start."""

    batch_size: int
    bound: str
    device: str
    free_bytes: int
    config: Config
    parameters: int
    tried: tuple[Tried, ...]


def largest_model(task: Task, space: SearchSpace, seed: int) -> tuple[Config, int]:
    """The config of `space` with the most model parameters that was found, and how many: (config, count).

    Looks at SAMPLES random configs and, for each of them, at the same with every number at its largest.
    """
    rng = generator(seed, "largest model")
    best: tuple[Config, int] | None = None
    for _ in range(SAMPLES):
        values = {path: p.from_unit(float(rng.random())) for path, p in space.parameters.items()}
        tops = {path: _top(p, values[path]) for path, p in space.parameters.items()}
        for chosen in (values, tops):
            config = space.build(chosen)
            count = count_parameters(task, config)
            if best is None or count > best[1]:
                best = (config, count)
    assert best is not None
    return best


def _top(parameter: Any, value: Any) -> Any:
    if isinstance(parameter, Choice):
        numbers = all(isinstance(o, int | float) and not isinstance(o, bool) for o in parameter.options)
        return max(parameter.options) if numbers else value
    assert isinstance(parameter, Float | Int)
    return parameter.high


def count_parameters(task: Task, config: Mapping[str, Any]) -> int:
    """Parameters of a config's model, built without memory."""
    with torch.device("meta"):
        model = task.build_model(task.resolved(config))
    return sum(p.numel() for p in model.parameters())


def max_batch(
    task: Task,
    data: TrialData,
    space: SearchSpace,
    seed: int,
    *,
    device: str | None = None,
    limit: int | None = None,
    headway: Headway = UNSEEN,
) -> MaxBatch:
    """The largest power of two whose steps fit the device's memory, for the space's largest model.

    limit: try no larger one. Never larger than the training split: such a batch is no other than all of it.
    Raises TrialError for a model that cannot be trained at any size.
    """
    if task.has_own_step:
        raise TrialError("its steps are its own train_step, which is not measured")
    config, parameters = largest_model(task, space, seed)
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    largest = 2 ** int(math.log2(len(data.train)))
    bound = "data"
    if limit is not None and limit < largest:
        largest, bound = 2 ** int(math.log2(limit)), "limit"
    sizes = [2**i for i in range(int(math.log2(largest)) + 1)]
    free = torch.cuda.mem_get_info()[0] if name == "cuda" else free_memory()
    tries = _on_cuda(task, data, config, seed, sizes) if name == "cuda" else _on_cpu(task, data, config, seed, sizes)
    tried: list[Tried] = []
    headway.begin("trying batches")  # how many there will be is what is to be found
    for found in tries:
        tried.append(found)
        headway.begin(f"trying batches: {found.batch_size} fits")
        if name == "cpu" and expected_bytes(tried) > (1 - MARGIN) * free:
            break
    reached = tried[-1].batch_size if tried else 0
    fits = bound if reached == sizes[-1] else "memory"
    return MaxBatch(reached, fits, name, free, config, parameters, tuple(tried))


def expected_bytes(tried: list[Tried]) -> float:
    """The memory of twice the last batch, going on as from the one before to it."""
    last = tried[-1]
    grown = last.bytes - tried[-2].bytes if len(tried) > 1 else 0
    return last.bytes + 2 * grown


def free_memory() -> int:
    """Bytes that this machine, and the container that this process is in, have left."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * KIB for line in lines if line.startswith("MemAvailable"))
    for used, most in (
        ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.max"),
        ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ):
        if Path(most).exists() and Path(most).read_text().strip() != "max":
            free = min(free, int(Path(most).read_text()) - int(Path(used).read_text()))
    return max(0, free)


class _Stepper(SupervisedTrainer):
    """A trainer that takes two steps on the first `batch_size` samples: the optimizer's state is made in the first."""

    def steps(self) -> None:
        self.model.train()
        if not isinstance(self._train, ArraySource):
            raise TrialError("the largest batch is found on arrays, and these data are read in a stream")
        N = self.config["batch_size"]
        for _ in range(2):
            self._train_step([self._train.at(torch.arange(N))], [N])


def _step(task: Task, data: TrialData, config: Config, seed: int, size: int, device: str) -> None:
    few = replace(data, validation=data.validation.first(1))
    stepper = _Stepper(task, few, max_epochs=1, device=device)
    stepper.setup({**config, "batch_size": size}, seed)
    stepper.steps()


def _on_cuda(task: Task, data: TrialData, config: Config, seed: int, sizes: list[int]) -> Iterator[Tried]:
    for size in sizes:
        torch.cuda.reset_peak_memory_stats()
        try:
            _step(task, data, config, seed, size, "cuda")
        except torch.cuda.OutOfMemoryError:
            return
        except TooFewSamplesError:  # batch norm and a batch of one
            continue
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        yield Tried(size, torch.cuda.max_memory_allocated())


def _on_cpu(task: Task, data: TrialData, config: Config, seed: int, sizes: list[int]) -> Iterator[Tried]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # By reference: the class of a task may live in an experiment file, which a new process has not loaded.
    child = context.Process(target=_child, args=(theirs, to_reference(task), data, config, seed), daemon=True)
    child.start()
    theirs.close()
    try:
        for size in sizes:
            ours.send(size)
            answer = ours.recv()
            if isinstance(answer, str):
                raise TrialError(answer)
            if answer is not None:
                yield Tried(size, answer)
    except EOFError:
        return  # killed: this size is too much after all
    finally:
        ours.close()
        child.kill()
        child.join()


def _child(pipe: Any, reference: Mapping[str, Any], data: TrialData, config: Config, seed: int) -> None:
    """Takes steps of the sizes it is sent; answers its peak resident memory in bytes, None for an impossible size, and
    what was raised as text, for whatever says nothing of memory."""
    task = from_reference(reference)
    assert isinstance(task, Task)
    try:
        while True:
            size = pipe.recv()
            try:
                _step(task, data, config, seed, size, "cpu")
            except TooFewSamplesError:
                pipe.send(None)
                continue
            except Exception as error:
                if isinstance(error, MemoryError) or "memory" in str(error):
                    raise
                pipe.send(" ".join(f"{type(error).__name__}: {error}".split()))
                continue
            pipe.send(peak_bytes())
    except EOFError:
        return


def peak_bytes() -> int:
    """The largest resident memory that this process has had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith("VmHWM"))
