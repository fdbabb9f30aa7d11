"""The trainer of a trial that is several processes: each takes its share of every batch, and their gradients are one.

    batch of N -> N / world a process -> gradients, averaged by DistributedDataParallel -> the same update in each

So a trial is the one that a single process would train, up to rounding: `batch_size` is the whole batch's, gradients
are those of its mean loss, and metrics are summed up over all processes. Each process has its own, as everywhere
under DDP, of the statistics of batch norm in training and of what is drawn in the model and in `augment`. A loss that
is no mean over samples (of class weights, of tokens of which some do not count) is the mean of the shares' losses.

Source: Li et al. 2020, PyTorch Distributed (VLDB), arXiv:2006.15704.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from raytune_hpo.seeding import derive_seed
from raytune_hpo.training.criterion import Criterion
from raytune_hpo.training.data_order import order_of
from raytune_hpo.training.random_states import get_random_states, preserved_random_states, seed_everything
from raytune_hpo.training.share import Share
from raytune_hpo.training.trainer import SupervisedTrainer

Tensor = torch.Tensor


class DataParallelTrainer(SupervisedTrainer):
    """A `SupervisedTrainer` in each process of torch.distributed's group. Every process is to call the same methods;
    states are the same in all of them but for what they draw, and process 0's is the trial's."""

    def setup(self, config: Mapping[str, Any], seed: int) -> None:
        self._share = Share(distributed.get_rank(), distributed.get_world_size())
        super().setup(config, seed)
        # Of the loss and not of the model: a task's loss may call any method of the model's.
        # Parameters that a batch does not reach have no gradient, as in one process.
        self._parallel = DistributedDataParallel(_Loss(self.model, self._criterion), find_unused_parameters=True)

    def _set_up_steps(self) -> None:
        size, samples, world = self._train.batch_size(self.config), len(self._train), self._share.world
        self._order = order_of(self.task, self.model, size, samples, self.config, self._order_seed, world=world)
        self._steps_per_epoch = self._order.steps

    def train_epoch(self) -> dict[str, float]:
        rank = self._share.rank
        if rank:  # which is in no checkpoint: of the trial and the epoch alone
            with preserved_random_states():
                seed_everything(derive_seed(self._seed, "rank", rank, "epoch", self._epoch))
                self._random = get_random_states()
        with warnings.catch_warnings():
            # DDP advises against the option below where the first batch reaches every parameter.
            warnings.filterwarnings("ignore", message=".*find_unused_parameters=True was specified")
            return super().train_epoch()

    def _stepwise(self) -> Iterator[tuple[list[Any], list[int]]]:
        """This process's part of each batch, and the samples of the whole batches."""
        steps = list(self._order.epoch())
        seed = derive_seed(self._order_seed, "epoch", self._epoch)
        parts = [[self._share.of_batch(index) for index in step] for step in steps]
        # A process without a sample takes one that does not count: all are to take part.
        read = [part if len(part) else index[:1] for step, own in zip(steps, parts, strict=True)
                for index, part in zip(step, own, strict=True)]  # fmt: skip
        found = self._train.epoch(read, seed)
        for step, own in zip(steps, parts, strict=True):
            self._own = [len(part) for part in own]
            yield [next(found)[0] for _ in step], [len(index) for index in step]

    def _train_step(self, batches: Sequence[Any], sizes: Sequence[int]) -> Tensor:
        self._left = list(zip(self._own, sizes, strict=True))
        loss = super()._train_step(batches, sizes)
        distributed.all_reduce(loss)
        return loss / self._share.world

    def _add_gradients(self, batch: Any, weight: float) -> Tensor:
        own, whole = self._left.pop(0)
        waits = self._parallel.no_sync() if self._left else contextlib.nullcontext()
        with waits:
            with self._autocast(), self._drawing():
                # DDP takes the mean over processes.
                loss = self._parallel(batch, self.config) * (weight * own * self._share.world / whole)
            self._scaler.scale(loss).backward()
        total: Tensor = loss.detach()
        return total

    def _drawing(self) -> contextlib.AbstractContextManager[Any]:
        key, rank = self._key, self._share.rank
        if rank:
            self._key = derive_seed(key, "rank", rank)
        try:
            return super()._drawing()
        finally:
            self._key = key

    def _evaluate(self) -> dict[str, float]:
        for buffer in self.model.buffers():  # which are process 0's at the next batch, too
            distributed.broadcast(buffer, 0)
        return self._criterion.evaluate(
            self.model, self._validation, self.config, counting=self._counting, share=self._share
        )


class _Loss(nn.Module):
    """A task's loss as what a module answers: what DDP hooks on."""

    def __init__(self, model: nn.Module, criterion: Criterion) -> None:
        super().__init__()
        self.model = model
        self._criterion = criterion

    def forward(self, batch: Any, config: Mapping[str, Any]) -> Tensor:
        return self._criterion.loss(self.model, batch, config)
