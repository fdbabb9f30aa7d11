"""What every metric must do, whatever it measures. One subclass per metric.

class TestMine(MetricContract):
    metric = Mine()
    kind = "classification"   # what its task is: or "multilabel", "regression"
    constant = "shares"       # what its baseline predicts of all samples; None without a baseline
    ignores = True            # whether targets of -100 are not scored, as in ours of classes and labels

A WholeMetric is held to the same, but for its sums, which it has not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, get_args

import pytest
import torch

from raytune_hpo.objective import Mode, Objective
from raytune_hpo.training.metrics import NOT_SCORED, Metric, WholeMetric, checked_metrics
from raytune_hpo.training.scores import Scores

Tensor = torch.Tensor

N, L, C, D = 101, 5, 4, 3
"""Samples, lanes, classes, outputs of a regression; no multiple of a processor's vector."""


class MetricContract:
    metric: ClassVar[Metric]
    kind: ClassVar[str]
    constant: ClassVar[Any] = None
    ignores: ClassVar[bool] = False

    @pytest.fixture(params=[0, 1])
    def batch(self, request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
        """outputs: [L, N, C] or [L, N, D], each lane's better than the one's before; targets: [N], [N, C] or [N, D]."""
        generator = torch.Generator().manual_seed(request.param)
        noise = torch.linspace(2.0, 0.2, L)[:, None, None]
        if self.kind == "classification":
            targets = torch.randint(0, C, (N,), generator=generator)
            right = torch.nn.functional.one_hot(targets, C).float()
            return 2 * right + noise * torch.randn(L, N, C, generator=generator), targets
        if self.kind == "multilabel":
            shares = torch.linspace(0.3, 0.7, C)
            labels = torch.bernoulli(shares.expand(N, C), generator=generator)
            return 2 * labels - 1 + noise * torch.randn(L, N, C, generator=generator), labels
        targets = torch.randn(N, D, generator=generator)
        return targets + noise * torch.randn(L, N, D, generator=generator), targets

    def of(self, outputs: Tensor, targets: Tensor) -> float:
        if isinstance(self.metric, WholeMetric):
            return float(self.metric.value(outputs, targets))
        return self.metric.finish(self.metric.sums(outputs, targets).tolist())

    def wrong(self, targets: Tensor) -> Tensor:
        """Other targets than these."""
        if self.kind == "multilabel":
            return 1 - targets
        return targets + 1 if self.kind == "regression" else (targets + 1) % C

    def test_it_is_a_metric_of_a_task(self) -> None:
        assert self.metric.direction in get_args(Mode)
        assert self.metric.name == "loss" or checked_metrics([self.metric]) == (self.metric,)

    def test_sums_are_float64_on_the_last_axis(self, batch: tuple[Tensor, Tensor]) -> None:
        if isinstance(self.metric, WholeMetric):
            return
        outputs, targets = batch
        one, many = self.metric.sums(outputs[0], targets), self.metric.sums(outputs, targets.expand(L, *targets.shape))
        assert one.dtype == many.dtype == torch.float64
        assert many.shape == (L, *one.shape)
        assert one.ndim == 1
        assert type(self.metric.finish(one.tolist())) is float

    @pytest.mark.parametrize("size", [1, 7, 50, N])
    def test_any_split_of_the_samples_gives_the_same_value(self, batch: tuple[Tensor, Tensor], size: int) -> None:
        outputs, targets = batch
        whole = self.of(outputs[0], targets)
        order = torch.randperm(N, generator=torch.Generator().manual_seed(size))
        scores = Scores([self.metric])
        for part in torch.split(order, size):
            scores.add(outputs[0][part], targets[part])
        assert scores.results()[0][self.metric.name] == pytest.approx(whole, rel=1e-5)

    def test_lanes_are_as_one_by_one(self, batch: tuple[Tensor, Tensor]) -> None:
        outputs, targets = batch
        alone = [self.of(lane, targets) for lane in outputs]
        assert len(set(alone)) > 1
        scores = Scores([self.metric], lanes=L)
        for at in (slice(0, 2), slice(2, L)):
            scores.add(outputs[at], self.wrong(targets), at)
            scores.begin(at)  # as after a pass that ran out of memory
            for part in torch.split(torch.arange(N), 40):
                scores.add(outputs[at][:, part], targets[part], at)
        assert [r[self.metric.name] for r in scores.results()] == pytest.approx(alone, rel=1e-5)

    def test_each_sample_may_be_a_lane(self, batch: tuple[Tensor, Tensor]) -> None:
        """As an ensemble's bootstrap has them."""
        if isinstance(self.metric, WholeMetric):
            return
        outputs, targets = batch
        sums = self.metric.sums(outputs[0][:, None], targets[:, None])
        assert self.metric.finish(sums.sum(0).tolist()) == pytest.approx(self.of(outputs[0], targets), rel=1e-5)

    def test_no_samples_are_nan(self, batch: tuple[Tensor, Tensor]) -> None:
        outputs, targets = batch
        for lanes in (None, L):
            assert all(math.isnan(found[self.metric.name]) for found in Scores([self.metric], lanes).results())
        if not isinstance(self.metric, WholeMetric):
            none = torch.zeros_like(self.metric.sums(outputs[0], targets))
            assert math.isnan(self.metric.finish(none.tolist()))

    def test_targets_of_minus_100_are_not_scored(self, batch: tuple[Tensor, Tensor]) -> None:
        """With them among the others, a batch of them alone, and a split of them alone."""
        if not self.ignores:
            return
        outputs, targets = batch
        without = [self.of(lane, targets) for lane in outputs]
        order = torch.randperm(2 * N, generator=torch.Generator().manual_seed(0))
        more = torch.cat([outputs, -outputs], 1)[:, order]
        masked = torch.cat([targets, torch.full_like(targets, NOT_SCORED)])[order]
        one, many = Scores([self.metric]), Scores([self.metric], lanes=L)
        for part in torch.split(torch.arange(2 * N), 40):
            one.add(more[0][part], masked[part])
            many.add(more[:, part], masked[part])
        none, of_none = torch.full_like(targets, NOT_SCORED), Scores([self.metric])
        for scores in (one, of_none):
            scores.add(outputs[0], none)
        many.add(outputs, none)
        name = self.metric.name
        assert one.results()[0][name] == pytest.approx(without[0], rel=1e-5)
        assert [found[name] for found in many.results()] == pytest.approx(without, rel=1e-5)
        assert math.isnan(of_none.results()[0][name])

    def test_the_direction_is_right(self, batch: tuple[Tensor, Tensor]) -> None:
        outputs, targets = batch
        losses = [Objective(self.metric.name, self.metric.direction).loss(self.of(lane, targets)) for lane in outputs]
        assert losses == sorted(losses, reverse=True)

    def test_a_share_is_counted(self, batch: tuple[Tensor, Tensor]) -> None:
        outputs, targets = batch
        if self.metric.share:
            counted = self.of(outputs[0], targets) * N
            assert counted == pytest.approx(round(counted), abs=1e-9)

    def test_the_baseline_is_what_its_constant_scores(self, batch: tuple[Tensor, Tensor]) -> None:
        _, targets = batch
        found = self.metric.baseline(targets.numpy(), targets.numpy())
        if self.constant is None:
            assert found is None
            return
        assert type(found) is float
        assert found == pytest.approx(self.of(self.constant(targets).expand(N, -1), targets), rel=1e-5)
        better = Objective(self.metric.name, self.metric.direction)
        for other in self.other_constants(targets):
            assert not better.better(self.of(other.expand(N, -1), targets), found, by=1e-6)

    def other_constants(self, targets: Tensor) -> Iterator[Tensor]:
        """[C] or [D]: none of them may beat the best constant."""
        best = self.constant(targets)
        generator = torch.Generator().manual_seed(0)
        for scale in (0.01, 0.1, 1.0, 10.0):
            yield best + scale * torch.randn(best.shape, generator=generator)
