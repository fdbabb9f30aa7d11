"""What was chosen on benchmarks/search_quality.py's problems, tried on others: the tables by which it is accepted.

    python benchmarks/held_out.py --jobs 2 --json held_out.jsonl         # 40 seeds: some hours of one core

The problems are those of benchmarks/held_out_problems.py; method, regret, time and seeds as in search_quality. It is
run once, at the end of a change. Printed, with 95 % bootstrap intervals over paired seeds, at the time of 10, 20 and
50 trainings:

1. every method's regret as a multiple of that of random search that stops nothing
2. with asha: as a multiple of random + asha at 50, and of its own fifo at 10
3. on the function that is biased on purpose, as a multiple of random's
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from held_out_problems import BIASED, EVERY, PROBLEMS, problem
from search_quality import BASELINE, METHODS, available, log_regrets, ratio, run_all

from raytune_hpo.results.text_table import text_table

BUDGETS = [10, 20, 50]
LEARNERS = ("bayesopt", "optuna", "hyperopt", "bohb", "evolutionary", "cmaes")
RUN = (
    BASELINE,
    "auto",
    "random+asha",
    "random+asha1",
    "random+freeze_thaw",
    "optuna+freeze_thaw",
    "coarse_to_fine",
    *LEARNERS,
    *(f"{name}+asha" for name in LEARNERS),
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(RUN), metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=40, help="pairs per problem and method (default %(default)s)")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1, help="processes of this machine (default %(default)s)")
    parser.add_argument("--json", type=Path, help="JSON lines, one a run: added to, and read so that none is repeated")
    arguments = parser.parse_args(argv)
    arguments.budgets = BUDGETS
    problems = [problem(name) for name in EVERY]
    methods = available(problems[0], [BASELINE, *(m for m in arguments.methods if m != BASELINE)], max(BUDGETS))
    table = log_regrets(run_all(problems, methods, arguments), {p.name: p.resolution for p in problems})

    def against(method: str, other: str, budget: int, names: Sequence[str] = PROBLEMS) -> str:
        at = BUDGETS.index(budget)
        return str(ratio([(table[name, method] - table[name, other])[:, at] for name in names]))

    others = [m for m in methods if m != BASELINE]
    print(f"{arguments.seeds} seeds, {arguments.workers} workers; {', '.join(PROBLEMS)}")
    print("\nRegret as a multiple of random's")
    rows = [[m, *(against(m, BASELINE, b) for b in BUDGETS)] for m in others]
    print(text_table(["method", *(f"at {b}" for b in BUDGETS)], rows))
    print("\nEach problem, at 50")
    rows = [[m, *(against(m, BASELINE, 50, [name]) for name in PROBLEMS)] for m in others]
    print(text_table(["method", *PROBLEMS], rows))
    paired = [m for m in others if m.endswith("+asha") and m.removesuffix("+asha") in methods]
    if "random+asha" in methods:
        print("\nWith asha: against random + asha at 50, and against its own fifo at 10")
        rows = [[m, against(m, "random+asha", 50), against(m, m.removesuffix("+asha"), 10)] for m in paired]
        print(text_table(["method", "random+asha, at 50", "fifo, at 10"], rows))
    print(f"\n{BIASED}, where early leaders lose: against random")
    rows = [[m, *(against(m, BASELINE, b, [BIASED]) for b in BUDGETS)] for m in others]
    print(text_table(["method", *(f"at {b}" for b in BUDGETS)], rows))


if __name__ == "__main__":
    main()
