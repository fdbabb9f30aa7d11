"""The first step of a trial, and its first measurement, on one batch of each split: with the trainer's own code.

split -> one_batch -> a split of one batch -> FirstStep.setup, train_epoch
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from raytune_hpo.errors import TaskError
from raytune_hpo.training.criterion import criterion_of
from raytune_hpo.training.data import ArraySplit, DatasetSplit, Stream, TrialData
from raytune_hpo.training.data_order import DataOrder, samples_of_pass
from raytune_hpo.training.hyperparameters import GROUP_HYPERPARAMETERS
from raytune_hpo.training.kinds import OwnLoss
from raytune_hpo.training.metrics import NOT_SCORED, Metric, WholeMetric
from raytune_hpo.training.oddities import Reads, are_probabilities
from raytune_hpo.training.own_step import OwnStepTrainer
from raytune_hpo.training.scores import Scores, as_metrics_take
from raytune_hpo.training.task import Task
from raytune_hpo.training.trainer import SupervisedTrainer
from raytune_hpo.training.trees import paths
from raytune_hpo.training.watched_task import answered_at, blamed_on, fault, samples_of

Tensor = torch.Tensor


def one_batch(task: Task, split: Any, size: int, name: str) -> Any:
    """A split of one batch: `size` samples from all over the split, or a stream's first batch. name: of the split.

    Raises TaskError where it cannot be read.
    """
    if isinstance(split, ArraySplit):
        return split.take(_spread(len(split), size))
    if isinstance(split, DatasetSplit):
        return _read(task, split, size, name)
    with blamed_on(task, "load"):
        made = [split.make(0) for _ in range(2)]
        if made[0] is made[1] and iter(made[0]) is made[0]:
            text = "make(seed) answers one iterator again and again: it must begin anew each time"
            raise fault(task, "load", f"{name}: the stream's {text}")
        batches = [next(iter(one), None) for one in made]
    if any(batch is None for batch in batches):
        again = "" if batches[0] is None else " when it is asked again"
        raise fault(
            task, "load", f"{name}: the stream's make(seed) yields nothing{again}: it must begin anew each time"
        )
    y = batches[0][-1] if isinstance(batches[0], tuple) else None
    if task.kind != "other" and isinstance(y, Tensor) and not y.ndim:
        text = "the stream yields samples: it must yield batches, with the samples on axis 0"
        raise fault(task, "load", f"{name}: {text}")
    return _stream(batches[0], samples_of(batches[0]))


def _spread(n: int, size: int) -> np.ndarray[Any, Any]:
    return np.unique(np.linspace(0, n - 1, min(n, size)).astype(np.int64))


def _read(task: Task, split: DatasetSplit, size: int, name: str) -> Stream:
    n = len(split)
    with blamed_on(task, "load"):
        samples = [split[int(i)] for i in _spread(n, size)]
    if len(split) != n:
        raise fault(task, "load", f"{name}: the data set has {n} samples, and {len(split)} once it was read")
    with blamed_on(task, "collate"):
        batch = task.collate(samples)
    return _stream(batch, len(samples))


def _stream(batch: Any, samples: int | None) -> Stream:
    return Stream(lambda seed: iter([batch]), 1, samples)


def check_alike(task: Task, train: Any, validation: Any) -> None:
    """Raise TaskError where batches of streams or data sets differ in form between the splits."""
    if not (isinstance(train, Stream) and isinstance(validation, Stream)):
        return  # of arrays the checks of the data know
    own, other = (dict(paths(next(iter(split.make(0))))) for split in (train, validation))
    if own.keys() != other.keys():
        more = sorted(own.keys() ^ other.keys())[0]
        where, not_in = ("training", "validation") if more in own else ("validation", "training")
        raise fault(task, "load", f"{more} is in {where} batches and not in {not_in} batches")
    for path, leaf in own.items():
        kinds = [getattr(x, "dtype", type(x)) for x in (leaf, other[path])]
        if kinds[0] != kinds[1]:
            raise fault(task, "load", f"{path} is {kinds[0]} in training batches and {kinds[1]} in validation batches")


class FirstStep(SupervisedTrainer):
    """A trainer of one step. whole: the trial's data; part: a batch of each split. read: takes the hyperparameters that
    the task's methods look up, besides `build_model`. stage: the method to be blamed now, where no user's code raises.
    without_gradient, unfilled: parameters that have got none, groups that hold none. unmoved: what is of all parameters
    without a group's own, and there are none. measured_by: hyperparameters of the loss that is a metric, too.
    normalised: whether the default loss was given probabilities."""

    def __init__(
        self, task: Task, whole: TrialData, part: TrialData, device: str | None, read: set[str] | None = None
    ) -> None:
        self.stage = "preprocess"
        super().__init__(task, part, max_epochs=1, device=device)
        self.stage = "build_model"
        self._whole, self._read = whole, set[str]() if read is None else read
        self._criterion = criterion_of(task, whole.train, whole.validation, self.device)
        self.without_gradient: list[str] = []
        self.unfilled: list[str] = []
        self.unmoved: list[str] = []
        self.measured_by: set[str] = set()
        self.normalised = False

    def setup(self, config: Mapping[str, Any], seed: int) -> None:
        super().setup(config, seed)
        self.config = Reads(self.config, self._read)

    def _set_up_optimizer(self) -> None:
        self.stage = "parameter_groups"
        super()._set_up_optimizer()
        filled = {group.name for group in getattr(self, "_groups", ())}
        self.unfilled = [name for name in self.task.groups if filled and name not in filled]
        groups = getattr(self, "_groups", ()) if self.task.groups else ()
        config = dict(self.config)
        self.unmoved = [n for n in GROUP_HYPERPARAMETERS if groups and not any(g.moves(n, config) for g in groups)]
        self.stage = "build_model"

    def _set_up_steps(self) -> None:
        if not isinstance(self._whole.train, Stream):
            samples_of_pass(self.model, len(self._whole.train), self.config["batch_size"])
        n = len(self._train)
        self._order = DataOrder(0, n, used=n, batch_size=n, steps=1)
        self._steps_per_epoch = 1

    def _train_step(self, batches: Sequence[Any], sizes: Sequence[int]) -> Tensor:
        own_step, own_loss = self.task.has_own_step, self.task.has_own_loss
        self.stage = "train_step" if own_step else "loss" if own_loss else self._of_outputs
        with blamed_on(self.task, self.stage, batches[0], place=self._place):
            if not own_step and not own_loss and self._criterion.highest is None:
                self._check_targets(batches[0])
            loss = super()._train_step(batches, sizes)
        if not math.isfinite(float(loss)):
            text = f"the loss of the first batch is {float(loss)}: every trial would diverge"
            raise fault(self.task, self.stage, text, place=self._place)
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        self.without_gradient = [name for name, p in trained if p.grad is None] if not own_step else []
        if trained and len(self.without_gradient) == len(trained):
            raise fault(self.task, self.stage, f"gives no parameter of the model a gradient: {trained[0][0]}, ...")
        return loss

    def _check_targets(self, batch: Any) -> None:
        """Of data that were not looked at whole: raise TaskError where targets are not what the kind has."""
        with torch.no_grad():
            outputs, y = self._criterion.compared(self.model, batch)
        method = "targets" if self.task.has_own_targets else "load"
        if self.task.kind == "classification" and not y.is_floating_point():
            scored, classes = y[y != NOT_SCORED], outputs.shape[1]
            wrong = scored[(scored < 0) | (scored >= classes)]
            if len(wrong):
                answers = f"the model answers {classes} logits a sample: classes are 0 to {classes - 1}"
                raise fault(self.task, method, f"y has class {int(wrong[0])}, and {answers}")
        if self.task.kind == "multilabel" and not bool(((y == 0) | (y == 1)).all()):
            raise fault(self.task, method, f"y has {y[(y != 0) & (y != 1)][0].item()}: labels must be 0 or 1")

    @property
    def _of_outputs(self) -> str:
        return "predict" if type(self.task).predict is not Task.predict else "build_model"

    @property
    def _place(self) -> str | None:
        """Where a model's answer comes from: its `forward`, where that is the user's."""
        return answered_at(type(self.model).forward) if self.stage == "build_model" else None

    # Measured ---------------------------------------------------------------------------------------------

    def _evaluate(self) -> dict[str, float]:
        self.model.eval()
        values: dict[str, float] = {}
        with torch.no_grad():
            for batch in self._validation.in_order():
                self.stage = "loss"
                if self.task.has_own_loss:
                    with blamed_on(self.task, self.stage, batch):
                        read = set[str]()
                        self._criterion.loss(self.model, batch, Reads(dict(self.config), read))
                        if not read >= self.config.keys():  # which it went through as a whole
                            self.measured_by |= read
                measured = [metric for metric in self._criterion.measured if not isinstance(metric, OwnLoss)]
                if not measured:
                    continue
                self.stage = self._of_outputs
                with blamed_on(self.task, self.stage, batch, place=self._place):
                    outputs, targets = self._criterion.compared(self.model, batch)
                self.normalised = not self.task.has_own_loss and are_probabilities(outputs, self.task.kind)
                self.stage = "metrics"
                for metric in measured:
                    values[metric.name] = self._measured(metric, outputs, targets)
        return values

    def _measured(self, metric: Metric, outputs: Any, targets: Any) -> float:
        """The metric's value, summed up over two batches of unequal size where there are samples for that."""
        name = f"metric {metric.name}"
        with self._blamed(metric, "value" if isinstance(metric, WholeMetric) else "sums"):
            if isinstance(metric, WholeMetric):
                scores = Scores([metric])
                scores.add(outputs, targets)
                return scores.results()[0][metric.name]
            sums = [metric.sums(*pair) for pair in _in_two(outputs, targets)]
        for found in sums:
            if not isinstance(found, Tensor):
                self._refuse(metric, "sums", f"{name}: its sums are a {type(found).__name__}, not a tensor [S]")
        shapes = [list(found.shape) for found in sums]
        if any(len(shape) != 1 or shape != shapes[0] for shape in shapes):
            listed = " and ".join(map(str, shapes))
            text = f"{name}: its sums have shape {listed}: they must be [S], as many numbers whatever the batch's size"
            self._refuse(metric, "sums", text)
        with self._blamed(metric, "finish"):
            value = metric.finish(torch.stack([found.double() for found in sums]).sum(0).tolist())
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(metric, "finish", f"{name}: it finishes to a {type(value).__name__}: it must answer a number")
        return float(value)

    def _refuse(self, metric: Metric, method: str, text: str) -> None:
        raise fault(self.task, "metrics", text, place=answered_at(getattr(type(metric), method)))

    @contextlib.contextmanager
    def _blamed(self, metric: Metric, method: str) -> Iterator[None]:
        try:
            with blamed_on(self.task, "metrics", place=answered_at(getattr(type(metric), method, None))):
                yield
        except TaskError as error:
            text = error.text if metric.name in error.text else f"metric {metric.name}: {error.text}"
            raise TaskError(error.where, text) from error.__cause__


class FirstOwnStep(FirstStep, OwnStepTrainer):
    """The same of a task that takes its steps itself."""

    def _set_up_optimizer(self) -> None:
        self.stage = "optimizers"
        OwnStepTrainer._set_up_optimizer(self)
        self.stage = "build_model"


def _in_two(outputs: Any, targets: Any) -> Iterator[tuple[Any, Any]]:
    """Outputs and targets as two batches; whole where they do not have the samples, or the form, for that."""
    pairs = [(outputs, targets)]
    if isinstance(outputs, Tensor) and isinstance(targets, Tensor) and 3 <= len(outputs) == len(targets):
        cut = len(outputs) // 3 + 1
        pairs = [(outputs[:cut], targets[:cut]), (outputs[cut:], targets[cut:])]
    for one, other in pairs:
        both = isinstance(one, Tensor) and isinstance(other, Tensor)
        yield as_metrics_take(one, other, 0) if both else (one, other)
