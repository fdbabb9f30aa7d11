"""What is evidence from another task worth? Regret after a few trials, with it and without, on recorded tasks.

    python benchmarks/warm_start.py                              # about five minutes of two cores
    python benchmarks/warm_start.py --searchers hyperopt --seeds 60 --evidence 100

`digits_mlp` and `mnist_mlp` (benchmarks/recordings.py) are two tasks over one space; each is evidence for the other.
Told are all recorded trials of the other task, or so many random ones. `inverted` tells the negative of each value:
the worst is told to be the best. Seed i is seed i of every search: the random configs are the same, so that ratios are
paired.

Printed: the geometric mean of the regrets after 10 and after 20 trials, as a share of the cold search's, with a 95 %
bootstrap interval over the seeds. Regrets below 1e-3 count as that.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from functools import cache
from typing import Any

import numpy as np
from search_problems import Problem, Recorded, problem

from raytune_hpo.objective import Objective
from raytune_hpo.results.text_table import text_table
from raytune_hpo.search import build
from raytune_hpo.seeding import generator
from raytune_hpo.space.configs import Config
from raytune_hpo.states import Outcome

PAIRS = (("digits_mlp", "mnist_mlp"), ("mnist_mlp", "digits_mlp"))
TRIALS = (10, 20)
KINDS = ("related", "inverted")
SEARCHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gp": ("bayesopt", {}),
    "forest": ("bayesopt", {"surrogate": "forest"}),
    "sampled_gp": ("bayesopt", {"surrogate": "sampled_gp"}),
    "hyperopt": ("hyperopt", {}),
    "evolutionary": ("evolutionary", {}),
}
_problem = cache(problem)


def evidence(source: Problem, count: int | None, seed: int, *, inverted: bool) -> list[tuple[Config, dict[int, float]]]:
    """count: None for all that are recorded."""
    rng = generator(seed, "evidence")
    assert isinstance(source, Recorded)
    if count is None:
        configs = [source.configs[i] for i in rng.permutation(len(source.configs))]
    else:
        configs = [source.space.sample(rng) for _ in range(count)]
    told = []
    for config in configs:
        values = source.curve(config, seed).values
        worst = float(np.nanmax(np.abs(values), initial=10.0))
        curve = {e: -float(v if math.isfinite(v) else worst) if inverted else float(v) for e, v in enumerate(values, 1)}
        told.append((config, curve))
    return told


def regrets(task: tuple[str, str, str, int, int | None, str | None]) -> list[float]:
    """Of one search, after each of TRIALS."""
    searcher, source, target, seed, count, kind = task
    p = _problem(target)
    name, options = SEARCHERS[searcher]
    objective = Objective(p.metric, p.mode)
    search = build(name, options, p.space, objective, max_epochs=p.max_epochs, seed=seed)
    if kind is not None:
        for config, curve in evidence(_problem(source), count, seed + 100, inverted=kind == "inverted"):
            search.evidence(config, curve, source)
    best, found, reached = math.inf, math.nan, []
    for number in range(max(TRIALS)):
        trial = f"t{number}"
        config = search.suggest(trial)
        assert config is not None
        values = p.curve(config, seed).values
        for epoch, value in enumerate(values, 1):
            search.report(trial, epoch, float(value))
        finite = [objective.loss(float(v)) for v in values if math.isfinite(v)]
        shown = min(finite) * (1 if p.mode == "min" else -1) if finite else None
        search.observe(trial, Outcome.COMPLETED if finite else Outcome.FAILED, shown, p.max_epochs)
        if finite and min(finite) < best:
            best, found = min(finite), p.regret(config)
        if number + 1 in TRIALS:
            reached.append(max(found, p.resolution))
    return reached


def ratio(warm: np.ndarray[Any, Any], cold: np.ndarray[Any, Any]) -> str:
    """[seeds] each."""
    logs = np.log(warm) - np.log(cold)
    drawn = np.random.default_rng(0).integers(len(logs), size=(10_000, len(logs)))
    low, high = np.exp(np.quantile(logs[drawn].mean(axis=1), [0.025, 0.975]))
    return f"{math.exp(logs.mean()):.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searchers", nargs="+", choices=SEARCHERS, default=["gp", "forest", "hyperopt"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evidence", type=int, help="so many random trials of the other task; default: all recorded")
    options = parser.parse_args()
    rows = []
    with multiprocessing.get_context("spawn").Pool(2) as pool:

        def of(searcher: str, pair: tuple[str, str], kind: str | None) -> np.ndarray[Any, Any]:
            tasks = [(searcher, *pair, seed, options.evidence, kind) for seed in range(options.seeds)]
            return np.array(pool.map(regrets, tasks, chunksize=1))

        for searcher in options.searchers:
            both: dict[str, list[Any]] = {kind: [] for kind in KINDS}
            for pair in PAIRS:
                cold = of(searcher, pair, None)
                means = [f"{v:.4f}" for v in np.exp(np.log(cold).mean(axis=0))]
                for kind in KINDS:
                    warm = of(searcher, pair, kind)
                    both[kind].append((warm, cold))
                    found = [ratio(warm[:, k], cold[:, k]) for k in range(len(TRIALS))]
                    rows.append([searcher, " -> ".join(pair), kind, *means, *found])
            for kind in KINDS:
                warm, cold = (np.concatenate(parts) for parts in zip(*both[kind], strict=True))
                found = [ratio(warm[:, k], cold[:, k]) for k in range(len(TRIALS))]
                rows.append([searcher, "both", kind, "", "", *found])
    header = [
        "searcher",
        "evidence",
        "which is",
        *(f"cold, {n}" for n in TRIALS),
        *(f"ratio after {n}" for n in TRIALS),
    ]
    print(text_table(header, rows))


if __name__ == "__main__":
    main()
