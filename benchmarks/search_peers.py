"""Peers in the simulated time of benchmarks/search_quality.py: searcher and scheduler in one, asked and told as their
documents say, with their defaults.

    pip install -e '.[dev,peers]'
    python benchmarks/search_quality.py --methods random auto "Optuna TPE + Hyperband" "SMAC Hyperband" DEHB

Optuna TPE + Hyperband    TPESampler(constant_liar=True), as its documents ask for with several workers, and
                          HyperbandPruner(1, max_epochs): asked after every epoch
SMAC Hyperband            MultiFidelityFacade: a random forest, and Hyperband from 1 epoch to max_epochs
DEHB                      differential evolution, and Hyperband from 1 epoch to max_epochs

They are given what costs them least: a config that is trained again, for longer, goes on from where it was, and what is
told is the best value so far. A diverged one is told as failed (Optuna) or as worse than all.

SMAC and DEHB have our parameters as ConfigSpace knows them: a number is its place in the unit cube, in the scale that
the space gives it; an unordered Choice is categorical; `when(..., "==", ...)` is a condition.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import math
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from search_problems import Problem
from simulated_pool import Report, Run

from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config

WORST = 1e9  # the loss of a config that has diverged, for peers that know no failure


@dataclass
class Job:
    """A config to train until an epoch. told: the peer's own. best: the least loss so far. cut: before `until`."""

    config: Config
    until: int
    told: Any
    best: float = math.inf
    cut: bool = False


class Peer(Protocol):
    def ask(self) -> Job | None:
        """None where it waits for others to end."""

    def reported(self, job: Job, epoch: int) -> bool:
        """After an epoch before the last: whether it goes on."""

    def ended(self, job: Job, *, failed: bool) -> None: ...


def simulate(peer: Peer, p: Problem, *, workers: int, budget_s: float) -> Run:
    run, names = Run([], {}), dict[str, str]()
    trained = dict[str, tuple[int, float]]()  # trial -> epochs, best loss so far
    calls: list[tuple[float, int, Job, str, int]] = []
    ties, sign, now, idle = itertools.count(), 1.0 if p.mode == "min" else -1.0, 0.0, workers

    def begin(job: Job) -> None:
        name = names.setdefault(json.dumps(job.config, sort_keys=True), f"t{len(names):05d}")
        run.configs[name] = job.config
        epoch, job.best = trained.get(name, (0, math.inf))
        train(job, name, min(epoch, job.until - 1))

    def train(job: Job, name: str, epoch: int) -> None:
        known = epoch < trained.get(name, (0, 0.0))[0]  # one that was trained before, and is asked for no longer
        seconds = 0.0 if known else float(p.curve(job.config).seconds[epoch])
        heapq.heappush(calls, (now + seconds, next(ties), job, name, epoch + 1))

    while True:
        while idle and (job := peer.ask()) is not None:
            begin(job)
            idle -= 1
        if not calls:
            raise RuntimeError("nothing runs, and nothing is asked for")
        now, _, job, name, epoch = heapq.heappop(calls)
        if now > budget_s:
            return run
        value = float(p.curve(job.config).values[epoch - 1])
        run.reports.append(Report(now, name, epoch, value))
        failed = not math.isfinite(value)
        job.best = job.best if failed else min(job.best, sign * value)
        trained[name] = max(trained.get(name, (0, math.inf)), (epoch, job.best), key=lambda of: of[0])
        job.cut = not failed and epoch < job.until and not peer.reported(job, epoch)
        if failed or job.cut or epoch == job.until:
            peer.ended(job, failed=failed)
            idle += 1
        else:
            train(job, name, epoch)


class OptunaHyperband:
    def __init__(self, p: Problem, seed: int, folder: Path) -> None:
        import optuna

        from raytune_hpo.search.optuna_search import distribution, quiet

        self._quiet, self._space, self._epochs = quiet, p.space, p.max_epochs
        self._distributions = {path: distribution(q) for path, q in p.space.parameters.items()}
        with quiet():
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            pruner = optuna.pruners.HyperbandPruner(1, p.max_epochs)
            self._study = optuna.create_study(sampler=sampler, pruner=pruner, direction="minimize")

    def ask(self) -> Job:
        from raytune_hpo.search.hyperopt_search import from_label
        from raytune_hpo.search.optuna_sampler import asked

        values: dict[str, Any] = {}
        with self._quiet():
            trial = self._study.ask()
            for path in self._space.order:
                if self._space.is_active(path, values):
                    drawn = asked(trial, path, self._distributions[path])
                    values[path] = from_label(self._space.parameters[path], drawn)
        return Job(self._space.build(values), self._epochs, trial)

    def reported(self, job: Job, epoch: int) -> bool:
        with self._quiet():
            job.told.report(job.best, epoch)
            return not job.told.should_prune()

    def ended(self, job: Job, *, failed: bool) -> None:
        from optuna.trial import TrialState

        with self._quiet():
            if failed:
                self._study.tell(job.told, state=TrialState.FAIL)
            elif job.cut:
                self._study.tell(job.told, state=TrialState.PRUNED)
            else:
                self._study.tell(job.told, job.best)


class SmacHyperband:
    def __init__(self, p: Problem, seed: int, folder: Path) -> None:
        from smac import MultiFidelityFacade, Scenario
        from smac.runhistory.dataclasses import TrialValue

        self._space, self._value = p.space, TrialValue
        scenario = Scenario(
            config_space(p.space, seed),
            deterministic=True,
            n_trials=100_000,
            min_budget=1,
            max_budget=p.max_epochs,
            seed=seed,
            output_directory=folder,
        )
        self._smac = MultiFidelityFacade(scenario, _never, overwrite=True, logging_level=False)

    def ask(self) -> Job | None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Loky-backed")  # of scikit-learn, in a process of a pool
            info = self._smac.ask()
        return Job(config_of(self._space, dict(info.config)), max(1, round(info.budget)), info)

    def reported(self, job: Job, epoch: int) -> bool:
        return True

    def ended(self, job: Job, *, failed: bool) -> None:
        self._smac.tell(job.told, self._value(cost=WORST if failed else job.best), save=False)


class Dehb:
    def __init__(self, p: Problem, seed: int, folder: Path) -> None:
        from dehb import DEHB

        self._space = p.space
        space = config_space(p.space, seed)
        self._dehb = DEHB(
            cs=space,
            dimensions=len(space),
            min_fidelity=1,
            max_fidelity=p.max_epochs,
            seed=seed,
            n_workers=1,
            output_path=folder,
            save_freq="end",
            log_level="ERROR",
        )

    def ask(self) -> Job | None:
        info = self._dehb.ask()
        return Job(config_of(self._space, dict(info["config"])), max(1, round(info["fidelity"])), info)

    def reported(self, job: Job, epoch: int) -> bool:
        return True

    def ended(self, job: Job, *, failed: bool) -> None:
        self._dehb.tell(job.told, {"fitness": WORST if failed else job.best, "cost": float(job.until)})


PEERS: dict[str, Callable[[Problem, int, Path], Peer]] = {
    "Optuna TPE + Hyperband": OptunaHyperband,
    "SMAC Hyperband": SmacHyperband,
    "DEHB": Dehb,
}


def run_peer(p: Problem, name: str, seed: int, *, workers: int, budget_s: float) -> Run:
    """Raises ImportError where it is not installed."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        return simulate(PEERS[name](p, seed, Path(folder)), p, workers=workers, budget_s=budget_s)


# ConfigSpace ----------------------------------------------------------------------------------------


def config_space(space: SearchSpace, seed: int) -> Any:
    from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

    made, found = ConfigurationSpace(seed=seed), {}
    for path, parameter in space.parameters.items():
        k = parameter.categories
        found[path] = Categorical(path, list(range(k))) if k else Float(path, (0.0, 1.0))
    made.add(*found.values())
    for path, parameter in space.parameters.items():
        for condition in parameter.conditions:
            parent = space.parameters[condition.parent]
            if condition.op != "==" or not parent.categories:
                raise ValueError(f"{path}: no such condition here: {condition}")
            unit = parent.to_unit(condition.operand)
            made.add(EqualsCondition(found[path], found[condition.parent], int(unit * parent.categories)))
    return made


def config_of(space: SearchSpace, values: dict[str, Any]) -> Config:
    unit = []
    for path in space.paths:
        k, value = space.parameters[path].categories, values.get(path, 0)
        unit.append((int(value) + 0.5) / k if k else min(float(value), math.nextafter(1.0, 0.0)))
    return space.from_unit(unit)


def _never(config: Any, seed: int = 0, budget: float = 0) -> float:
    raise AssertionError("it is told what came of it")
