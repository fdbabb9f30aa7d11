"""The learning-rate range test: one model, a learning rate that grows with every step, and what its loss does.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section 3.3. With the
defaults the rate starts at 1e-5 and is multiplied by exp(log(10^6) / 500) for 500 steps, up to 10.

Notations
    S        the steps done: `steps`, or fewer where the loss has exploded before
    lrs      [S] the learning rate of each step
    losses   [S] the training loss of each step's batch, before the step
    smoothed [S] their exponential average, bias-corrected, with a half-life of HALF_LIFE of the steps
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError, TrialError
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.random_states import preserved_random_states, set_random_states
from raytune_hpo.training.task import Task
from raytune_hpo.training.trainer import SupervisedTrainer

LOW, HIGH, STEPS = 1e-5, 10.0, 500
HALF_LIFE = 0.02  # of the smoothing, as a share of the steps
EXPLODED = 4.0  # the test ends when the smoothed loss is so many times its lowest
BEGUN = 0.1  # the range begins where so much of the whole fall has happened
LEAST_FALL = 0.02  # a smaller fall, as a share of the first loss, is none


@dataclass(frozen=True)
class LRRange:
    """What a range test found.

    low, high: the suggested range: from where a tenth of the loss's whole fall has happened to where it is
    lowest. point: where it falls most steeply. falls: False if it never falls by 2 %: then the range is all that
    was tried. exploded_at: the rate at which the test was ended, None if it ran to its end.
    """

    low: float
    high: float
    point: float
    falls: bool
    exploded_at: float | None
    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "low": self.low,
            "high": self.high,
            "point": self.point,
            "falls": self.falls,
            "exploded_at": self.exploded_at,
            "lrs": list(self.lrs),
            "losses": [v if math.isfinite(v) else None for v in self.losses],
            "smoothed": [v if math.isfinite(v) else None for v in self.smoothed],
        }


class _RangeTester(SupervisedTrainer):
    """A trainer that takes single steps at given learning rates."""

    def _set_lr(self, lr: float) -> None:
        """Of the groups that have no learning rate of their own: what a trial with that rate would train by."""
        self._lr = lr
        for group, own in zip(self.optimizer.param_groups, self._own_lrs, strict=True):
            group["lr"] = lr if own is None else own

    def step_losses(self, rates: Sequence[float]) -> Iterator[float]:
        """The loss of each step, cycling through the data in the trial's own order."""
        self.model.train()
        steps: Iterator[tuple[list[Any], list[int]]] = iter(())
        for rate in rates:
            step = next(steps, None)
            if step is None:
                steps = self._stepwise()
                step = next(steps)
            self._set_lr(rate)
            yield self._train_step(*step).item()


def lr_range_test(
    task: Task,
    data: TrialData,
    config: Mapping[str, Any],
    seed: int,
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    device: str | None = None,
    headway: Headway = UNSEEN,
) -> LRRange:
    """Train `config` for up to `steps` steps at rates from `low` to `high`, evenly spaced in their logarithm.

    Its own lr and schedule do not matter, all the rest does. The test's model is thrown away. Raises
    ExperimentError for a bad config, or bounds that are none; TrialError for a task that takes its steps itself.
    """
    checks.number("--low", low, 0, open_low=True)
    checks.number("--high", high, 0, open_low=True)
    checks.integer("--steps", steps, 20)
    if high <= low:
        raise ExperimentError("--high", high, f"must be above --low = {low:g}")
    rates = [low * math.exp(math.log(high / low) * i / steps) for i in range(steps + 1)]
    if task.has_own_step:
        raise TrialError("its steps are its own train_step, at rates that no range test can set")
    tester = _RangeTester(task, data, max_epochs=1, device=device)
    tester.setup({**config, "lr": low}, seed)
    decay = 0.5 ** (1 / max(1.0, HALF_LIFE * steps))
    losses: list[float] = []
    smoothed: list[float] = []
    average = 0.0
    exploded_at = None
    with preserved_random_states():
        set_random_states(tester._random)
        headway.begin("training steps", len(rates))
        for rate, loss in zip(rates, tester.step_losses(rates), strict=False):
            headway.made()
            average = decay * average + (1 - decay) * loss
            losses.append(loss)
            smoothed.append(average / (1 - decay ** len(losses)))
            if not math.isfinite(loss) or smoothed[-1] > EXPLODED * min(smoothed):
                exploded_at = rate
                break
    tester.close()
    return suggested(rates[: len(losses)], losses, smoothed, exploded_at)


def suggested(
    lrs: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], exploded_at: float | None
) -> LRRange:
    """The range that a curve suggests. lrs, losses, smoothed: [S]."""
    finite = [v if math.isfinite(v) else math.inf for v in smoothed]
    lowest = min(range(len(finite)), key=finite.__getitem__)
    first = finite[0]
    fall = first - finite[lowest]
    curve = (tuple(lrs), tuple(losses), tuple(smoothed))
    if not fall > LEAST_FALL * abs(first):
        whole = lrs[-1] if exploded_at is None else lrs[max(0, len(lrs) - 2)]
        return LRRange(lrs[0], whole, math.sqrt(lrs[0] * whole), False, exploded_at, *curve)
    begun = next(i for i in range(len(finite)) if first - finite[i] >= BEGUN * fall)
    window = max(1, len(finite) // 50)  # a slope over single steps is noise
    slopes = {i: finite[min(i + window, lowest)] - finite[i] for i in range(begun, max(begun + 1, lowest - window + 1))}
    steepest = min(slopes, key=slopes.__getitem__)
    return LRRange(lrs[begun], lrs[lowest], lrs[steepest], True, exploded_at, *curve)
