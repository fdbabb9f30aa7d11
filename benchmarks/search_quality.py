"""How good are the searchers and the schedulers? Regret against random search, in simulated time. Nothing is trained.

    python benchmarks/search_quality.py                     # everything: about two hours of one core
    python benchmarks/search_quality.py --methods hyperopt bayesopt --problems branin --seeds 5
    python benchmarks/search_quality.py --json runs.jsonl                        # keeps what it has run

Every method gets the same simulated time and workers on each problem of benchmarks/search_problems.py: four recordings
of 1,000 learning curves, and four synthetic functions. A budget of B is the time in which the workers together train
B configs to the end, at the problem's mean cost; a method that stops trials early, or that likes cheap configs, tries
more of them.

Printed, per problem: the median regret at each budget, then the ratio of the method's regret to random's (geometric
mean over the seeds, with a 95 % bootstrap interval) and the share of the seeds in which the method won, both at the
largest budget. Then, over all problems, the ratio at each budget and the verdict: `yes` where the whole interval at the
largest budget is below 1, `no` where it is above 1, else `unclear`.

- The regret is that of the incumbent: the config whose best value, among all reports so far, is the best. It is judged
  by what that config reaches when it is trained to the end (its worth), which the method need not have seen.
- Regrets below a problem's resolution (1e-3) count as that.
- Seed i is seed i of every method's Experiment: the random searches begin with the same configs, so that differences
  are paired.
- Not in here: PBT, since what a config reaches with inherited weights is in no table; what a suggestion costs, since
  trainings take minutes (it is in the column "CPU s": of a whole run on this machine).
- Peers (benchmarks/search_peers.py) are named, or left out.
- Options are the product's defaults, but for the two methods that plan ahead for a budget, `grid` and
  `coarse_to_fine`: each budget is a run of its own, with as many points or samples as fit in.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import held_out_problems
import numpy as np
from search_peers import PEERS, run_peer
from search_problems import PROBLEMS, Problem, problem
from simulated_pool import Run, simulate

from raytune_hpo import Experiment, ExperimentError
from raytune_hpo.results.text_table import text_table
from raytune_hpo.search import check_options
from raytune_hpo.seeding import generator
from raytune_hpo.space.grid import grid_size

BASELINE = "random"
#: name -> (searcher, scheduler), as an Experiment takes them.
METHODS: dict[str, tuple[Any, Any]] = {
    BASELINE: ("random", "fifo"),
    "auto": ("auto", "auto"),
    "sobol": ({"name": "random", "sampler": "sobol"}, "fifo"),
    "random+asha": ("random", "asha"),
    "random+asha1": ("random", {"name": "asha", "grace_period": 1}),
    "random+hyperband": ("random", "hyperband"),
    "random+median": ("random", "median"),
    "random+freeze_thaw": ("random", "freeze_thaw"),
    "grid": ("grid", "fifo"),
    "coarse_to_fine": ("coarse_to_fine", "fifo"),
    "hyperopt": ("hyperopt", "fifo"),
    "hyperopt+asha": ("hyperopt", "asha"),
    "bayesopt": ("bayesopt", "fifo"),
    "bayesopt+asha": ("bayesopt", "asha"),
    "bayesopt+asha1": ("bayesopt", {"name": "asha", "grace_period": 1}),
    "bayesopt+hyperband": ("bayesopt", "hyperband"),
    "bayesopt forest": ({"name": "bayesopt", "surrogate": "forest"}, "fifo"),
    "bayesopt sampled_gp": ({"name": "bayesopt", "surrogate": "sampled_gp"}, "fifo"),
    "evolutionary": ("evolutionary", "fifo"),
    "evolutionary+asha": ("evolutionary", "asha"),
    "cmaes": ("cmaes", "fifo"),
    "cmaes+asha": ("cmaes", "asha"),
    "optuna": ("optuna", "fifo"),
    "optuna+asha": ("optuna", "asha"),
    "optuna+freeze_thaw": ("optuna", "freeze_thaw"),
    "bohb": ("bohb", "fifo"),
    "bohb+hyperband": ("bohb", "hyperband"),
    "bohb+asha": ("bohb", "asha"),
}
PLANNERS = ("grid", "coarse_to_fine")
UNLIMITED = 100_000
RESAMPLES = 10_000


@dataclass(frozen=True)
class Outcome:
    """One run. regrets: at each of the budgets; trials: begun; cpu_s: of the whole simulation."""

    problem: str
    method: str
    seed: int
    workers: int
    budgets: list[int]
    regrets: list[float]
    trials: int
    cpu_s: float

    @property
    def key(self) -> tuple[Any, ...]:
        return self.problem, self.method, self.seed, self.workers, tuple(self.budgets)


def replayed(config: dict[str, Any]) -> None:
    """Never called: the simulated workers play a curve."""


def fitted(p: Problem, searcher: Any, budget: int) -> tuple[Any, int | None]:
    """The searcher of a method that plans for a budget, so that its plan takes `budget` full trainings, and the number
    of samples (None: as planned); others as they are."""
    if searcher == "grid":
        most = 1.05 * budget  # 81 points are a grid for a budget of 80
        points = max(n for n in range(1, budget + 1) if grid_size(p.space, n, 2 * budget) <= most)
        return {"name": "grid", "points": points}, None
    if searcher == "coarse_to_fine":
        options = check_options("coarse_to_fine", {}).to_json()
        samples = max(n for n in range(2, 10 * budget) if trainings({**options, "samples": n}) <= budget)
        return {"name": "coarse_to_fine", "samples": samples}, None
    return searcher, UNLIMITED


def trainings(options: Mapping[str, Any]) -> float:
    """What the rounds of coarse to fine take, in full trainings."""
    rounds, samples, growth = options["rounds"], options["samples"], options["growth"]
    carried = min(math.ceil(options["carry"] * samples), samples - 1)
    shares = [growth ** (i - rounds + 1) for i in range(rounds)]
    later = sum((samples - carried) * now + carried * (now - before) for before, now in itertools.pairwise(shares))
    return float(samples * shares[0] + later)


def make_experiment(p: Problem, method: tuple[Any, Any], seed: int, budget: int, **fields: Any) -> Experiment:
    """Raises ExperimentError where this version has no such searcher, or it refuses the space."""
    searcher, samples = fitted(p, method[0], budget)
    return Experiment(
        name="replayed",
        task=replayed,
        space=p.space,
        metric=p.metric,
        mode=p.mode,
        searcher=searcher,
        scheduler=method[1],
        num_samples=samples,
        max_epochs=p.max_epochs,
        seed=seed,
        checkpoint={"every": p.max_epochs},
        **fields,
    )


def run_once(p: Problem, name: str, seed: int, *, workers: int, budgets: Sequence[int], **fields: Any) -> Outcome:
    """fields: more of the Experiment's. trials and cpu_s are of the largest budget."""
    budget_s = {b: b * p.full_s / workers for b in budgets}
    if name in PEERS:
        began = time.process_time()
        run = run_peer(p, name, seed, workers=workers, budget_s=budget_s[max(budgets)])
        regrets = [regret_at(run, p, budget_s[b]) for b in budgets]
        spent_s = round(time.process_time() - began, 3)
        return Outcome(p.name, name, seed, workers, list(budgets), regrets, len(run.configs), spent_s)
    plans = METHODS[name][0] in PLANNERS
    regrets = []
    for budget in budgets if plans else [max(budgets)]:
        began = time.process_time()
        experiment = make_experiment(p, METHODS[name], seed, budget, **fields)
        run = simulate(experiment, p, workers=workers, budget_s=budget_s[budget])
        regrets += [regret_at(run, p, budget_s[b]) for b in ([budget] if plans else budgets)]
        cpu_s = round(time.process_time() - began, 3)
    return Outcome(p.name, name, seed, workers, list(budgets), regrets, len(run.configs), cpu_s)


def regret_at(run: Run, p: Problem, now: float) -> float:
    """The regret of the incumbent at a virtual time; infinite before the first report. Diverged trials are out."""
    seen: dict[str, float] = {}
    diverged: set[str] = set()
    sign = 1.0 if p.mode == "min" else -1.0
    for report in run.reports:
        if report.now > now:
            break
        if not math.isfinite(report.value):
            diverged.add(report.trial)
        seen[report.trial] = min(seen.get(report.trial, math.inf), sign * report.value)
    eligible = [trial for trial in seen if trial not in diverged]
    if not eligible:
        return math.inf
    return p.regret(run.configs[min(eligible, key=seen.__getitem__)])


# Statistics -----------------------------------------------------------------------------------------

Table = dict[tuple[str, str], np.ndarray[Any, np.dtype[np.float64]]]


def log_regrets(outcomes: Iterable[Outcome], resolution: Mapping[str, float]) -> Table:
    """(problem, method) -> [seeds, budgets] of log10 regrets, the seeds in order."""
    grouped: dict[tuple[str, str], list[Outcome]] = {}
    for o in outcomes:
        grouped.setdefault((o.problem, o.method), []).append(o)
    return {
        key: np.log10(np.maximum([o.regrets for o in sorted(group, key=lambda o: o.seed)], resolution[key[0]]))
        for key, group in grouped.items()
    }


@dataclass(frozen=True)
class Ratio:
    """A geometric mean of ratios and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        return "yes" if self.high < 1 else "no" if self.low > 1 else "unclear"

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(differences: Sequence[np.ndarray[Any, Any]]) -> Ratio:
    """differences: per problem [seeds] of paired differences of log10 regrets. The problems weigh the same; the
    percentile bootstrap draws seeds within each (Efron & Tibshirani 1993)."""
    means = np.zeros(RESAMPLES)
    for i, d in enumerate(differences):
        draws = generator(0, "bootstrap", i).integers(len(d), size=(RESAMPLES, len(d)))
        means += d[draws].mean(axis=1) / len(differences)
    mean = float(np.mean([d.mean() for d in differences]))
    low, high = np.percentile(means, [2.5, 97.5])
    return Ratio(10**mean, 10 ** float(low), 10 ** float(high))


def problem_table(name: str, methods: Sequence[str], outcomes: Sequence[Outcome], table: Table) -> str:
    budgets = outcomes[0].budgets
    rows = []
    for method in methods:
        mine = [o for o in outcomes if (o.problem, o.method) == (name, method)]
        difference = (table[name, method] - table[name, BASELINE])[:, -1]
        won = float(np.mean((difference < 0) + 0.5 * (difference == 0)))
        rows.append(
            [
                method,
                f"{np.median([o.trials for o in mine]):.0f}",
                *(f"{np.median([o.regrets[i] for o in mine]):.4f}" for i in range(len(budgets))),
                *(("", "") if method == BASELINE else (str(ratio([difference])), f"{won:.0%}")),
                f"{np.median([o.cpu_s for o in mine]):.1f}",
            ]
        )
    header = ["method", "trials", *(f"at {b}" for b in budgets), "ratio to random", "won", "CPU s"]
    return text_table(header, rows)


def summary_table(problems: Sequence[str], methods: Sequence[str], budgets: Sequence[int], table: Table) -> str:
    rows = []
    for method in methods:
        if method == BASELINE:
            continue
        differences = [table[p, method] - table[p, BASELINE] for p in problems]
        ratios = [ratio([d[:, i] for d in differences]) for i in range(len(budgets))]
        better = [ratio([d[:, -1]]).verdict for d in differences]
        by_problem = f"{better.count('yes')} yes, {better.count('no')} no"
        rows.append([method, *map(str, ratios), by_problem, ratios[-1].verdict])
    return text_table(["method", *(f"at {b}" for b in budgets), "by problem", "beats random"], rows)


# The program ----------------------------------------------------------------------------------------


def available(p: Problem, names: Sequence[str], budget: int) -> list[str]:
    """Those of the methods that this version has; the others are named on stderr."""
    found = []
    for name in names:
        try:
            if name in PEERS:
                run_peer(p, name, 0, workers=1, budget_s=0.0)
            else:
                make_experiment(p, METHODS[name], 0, budget)
            found.append(name)
        except (ExperimentError, ImportError) as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    return found


def run_all(problems: Sequence[Problem], methods: Sequence[str], arguments: argparse.Namespace) -> list[Outcome]:
    """Every problem, method and seed, on `--jobs` processes; what `--json` holds already is not run again."""
    file: Path | None = arguments.json
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    known = {o.key: o for o in (Outcome(**json.loads(line)) for line in lines)}
    wanted = [
        Outcome(p.name, method, seed, arguments.workers, arguments.budgets, [], 0, 0.0)
        for p in problems
        for method in methods
        for seed in range(arguments.seeds)
    ]
    todo = [(fresh, arguments.workers, arguments.budgets) for fresh in wanted if fresh.key not in known]
    with multiprocessing.Pool(arguments.jobs) if todo else contextlib.nullcontext() as pool:
        for count, done in enumerate(pool.imap_unordered(_run, todo) if pool is not None else (), start=1):
            known[done.key] = done
            if file is not None:
                with file.open("a") as out:
                    out.write(json.dumps(asdict(done)) + "\n")
            if count % 50 == 0:
                print(f"{count} of {len(todo)} runs", file=sys.stderr, flush=True)
    return [known[fresh.key] for fresh in wanted]


def _run(job: tuple[Outcome, int, list[int]]) -> Outcome:
    fresh, workers, budgets = job
    return run_once(_problem(fresh.problem), fresh.method, fresh.seed, workers=workers, budgets=budgets)


@cache
def _problem(name: str) -> Problem:
    return held_out_problems.problem(name) if name in held_out_problems.EVERY else problem(name)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, *PEERS], default=list(METHODS), metavar="METHOD")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=20, help="runs per problem and method (default %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="that train side by side (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes of this machine (default %(default)s)")
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 20, 40, 80], help="in full trainings")
    parser.add_argument(
        "--json", type=Path, help="JSON lines, one a run: added to, and read so that no run is repeated"
    )
    arguments = parser.parse_args(argv)
    arguments.budgets = sorted(set(arguments.budgets))
    problems = [problem(name) for name in arguments.problems]
    names = [BASELINE, *(m for m in (*METHODS, *PEERS) if m in arguments.methods and m != BASELINE)]
    methods = available(problems[0], names, max(arguments.budgets))
    outcomes = run_all(problems, methods, arguments)
    table = log_regrets(outcomes, {p.name: p.resolution for p in problems})
    print(f"{arguments.seeds} seeds, {arguments.workers} workers, budgets in full trainings")
    for p in problems:
        print(f"\n{p.name}: {p.metric} ({p.mode}), best {p.best:.4f}, a full training takes {p.full_s:.2f} s")
        print(problem_table(p.name, methods, outcomes, table))
    print("\nAll problems: regret as a multiple of random's")
    print(summary_table([p.name for p in problems], methods, arguments.budgets, table))


if __name__ == "__main__":
    main()
