"""Metrics of a whole split: what does not add up over batches, and any function of tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final, get_args

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError, TrialError
from raytune_hpo.objective import Mode
from raytune_hpo.training.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor


class WholeMetric(Metric):
    """A metric of all samples of a split of one model, together.

    What it costs: the outputs and targets of the whole split are kept, on the device, until the split is done. Of L
    lanes, n samples and C outputs that is L n C numbers, of 4 bytes as a rule: 10 lanes, 50 000 samples and 1000
    classes are 2 GB. Lanes are measured one after the other. An ensemble is not measured by it: its bootstrap needs the
    sums of single samples.

    flat: of a class for each token or pixel every one is a sample, outputs [n, C] for targets [n], and targets of -100
    are left out; otherwise outputs and targets are as the task has them, batch after batch.
    """

    flat: bool = True

    @abstractmethod
    def value(self, outputs: Tensor, targets: Tensor) -> Any:
        """One number, or a tensor of one, of one model.

        outputs: [n, C] or [n, ...]; targets: [n] or [n, ...]. Never asked of no samples, nor of outputs with NaN: the
        value of these is NaN.
        """

    @final
    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise TrialError(f"metric {self.name} is of a whole split: there are no sums of a part of it")

    @final
    def finish(self, sums: Sequence[float]) -> float:
        raise TrialError(f"metric {self.name} is of a whole split: there are no sums to finish")


class Whole(WholeMetric):
    """Any function of a whole split's outputs and targets, as torchmetrics has them.

    Whole("kappa", "max", torchmetrics.functional.cohen_kappa, task="multiclass", num_classes=10)

    function: is called with outputs, targets and `options`, and answers one number; of a module, if the metric is to be
    pickled. Raises ExperimentError for what cannot be a metric.
    """

    def __init__(
        self, name: str, direction: Mode, function: Callable[..., Any], /, *, flat: bool = True, **options: Any
    ) -> None:
        if not isinstance(name, str) or not name.isidentifier():
            raise ExperimentError("Whole.name", name, "must be a word, as in validation_WORD")
        checks.one_of("Whole.direction", direction, get_args(Mode))
        if not callable(function):
            raise ExperimentError("Whole.function", function, "must be a function of outputs and targets")
        self.name, self.direction, self.flat = name, direction, flat
        self.function, self.options = function, options

    def value(self, outputs: Tensor, targets: Tensor) -> Any:
        return self.function(outputs, targets, **self.options)
