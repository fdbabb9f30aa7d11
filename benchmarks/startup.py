"""What a run costs around its training: one timeline of it from exec to the shell's prompt, by process and phase.

    python benchmarks/startup.py                                     # experiments/digits.py, 16 trials, 5 repeats
    python benchmarks/startup.py FILE --set num_samples=64 --executor lanes --picture startup.svg --json startup.json
    python benchmarks/startup.py --python                            # raytune_hpo.run in a script, not the command line
    python benchmarks/startup.py --compare OTHER_CHECKOUT            # its code in turns with this one's
    python benchmarks/startup.py peers --trials 16 64 256 --seeds 5  # in turns with peers/optuna_digits.py
    python benchmarks/startup.py quadratic                           # in turns with peers/optuna_quadratic.py

In the same turns: `python -c "import torch, ray.tune"`, which says how quick the machine is at that time.

--cold     before each program, drop the site-packages' files from the file cache, as after a boot; what other
           running processes have mapped stays
--picture  the run whose prompt came at the median of the repeats

Printed: seconds from exec of the program, medians over the repeats with (minimum..maximum). Phases are as journaled;
"prompt" is the end of the program, "last process gone" of what it has started. CPU seconds are of all processes,
sampled. Each program runs in an empty folder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from gantt import picture
from medians import spread, table
from peers_in_turns import peers, quadratic
from timeline import MOMENTS, Timeline, one_run
from whole_process import HERE, forget_files, run_program

YARDSTICK = "import torch, ray.tune"


def phase_rows(found: dict[str, list[Timeline]]) -> list[tuple[str, list[str]]]:
    """A row a phase, of the driver, then of each worker: from, to and how long."""
    of: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for label, timelines in found.items():
        for t in timelines:
            for p in t.phases:
                of.setdefault((p.process, p.name), {}).setdefault(label, []).append((p.began_s, p.ended_s))
    rows = []
    for (process, name), by_label in sorted(of.items(), key=lambda item: (len(item[0][0]), item[0][0])):
        cells = []
        for label in found:
            times = by_label.get(label, [])
            if not times:
                cells.append("-")
                continue
            began, ended = (statistics.median(column) for column in zip(*times, strict=True))
            cells.append(f"{began:.2f} to {ended:.2f}: {spread(b - a for a, b in times)}")
        rows.append((f"{process}, {name}", cells))
    return rows


def ratios(timelines: Sequence[Timeline], yardstick_s: Sequence[float]) -> list[tuple[str, str]]:
    """What the timelines come to; a run and the yardstick of its own turn are compared."""

    def of(name: str) -> list[float]:
        return [t.moments[name] for t in timelines if name in t.moments]

    first = [t / y for t, y in zip(of("first report"), yardstick_s, strict=True)]
    after = [end - last for end, last in zip(of("prompt"), of("last report"), strict=True)]
    return [
        (f"first report / {YARDSTICK}", spread(first)),
        ("prompt - last report", spread(after)),
        ("CPU s, all processes", spread(t.cpu_s for t in timelines)),
    ]


def cpu_of(timelines: Sequence[Timeline]) -> str:
    """CPU seconds by process, medians, of those that used some."""
    used: dict[str, list[float]] = {}
    for t in timelines:
        own: dict[str, float] = {}
        for p in t.processes:
            own[p.process] = own.get(p.process, 0.0) + p.cpu_s
        for name, cpu_s in own.items():
            used.setdefault(name, []).append(cpu_s)
    medians = {name: statistics.median(values) for name, values in used.items()}
    return ", ".join(f"{name} {cpu_s:.1f}" for name, cpu_s in medians.items() if cpu_s >= 0.05)


def timelines(options: argparse.Namespace) -> None:
    changes = options.changes or ([] if options.what else ["num_samples=16"])
    codes = {"this": HERE, **{code.name: code for code in map(Path.resolve, options.compare)}}
    found: dict[str, list[Timeline]] = {label: [] for label in codes}
    yardstick_s: list[float] = []

    def alone() -> None:
        if options.cold:
            forget_files()

    for _ in range(options.repeats):
        alone()
        yardstick_s.append(run_program([sys.executable, "-c", YARDSTICK]).wall_s)
        for label, code in codes.items():
            alone()
            file = Path(options.what).resolve() if options.what else code / "experiments" / "digits.py"
            found[label].append(one_run(code, file, changes, options.executor, python=options.python))

    name = Path(options.what or "digits.py").name
    how = " ".join([name, *changes, *(["from Python"] if options.python else []), *(["cold"] if options.cold else [])])
    print(f"{how}; {options.repeats} repeats, {os.cpu_count()} cores; seconds from exec")
    moments = [
        (moment, [spread(t.moments[moment] for t in ts if moment in t.moments) for ts in found.values()])
        for moment in MOMENTS
    ]
    ends = [ratios(ts, yardstick_s) for ts in found.values()]
    summary = [(rows[0][0], [text for _, text in rows]) for rows in zip(*ends, strict=True)]
    ran = ("executor", [" ".join(sorted({t.executor for t in ts})) for ts in found.values()])
    heads = list(found)
    table(heads, [ran, *phase_rows(found), *moments, *summary])
    print(f"{YARDSTICK}: {spread(yardstick_s)} s")
    for label, ts in found.items():
        print(f"CPU s by process, {label}: {cpu_of(ts)}")
    if options.json:
        runs = {label: [t.to_json() for t in ts] for label, ts in found.items()}
        options.json.write_text(json.dumps({"yardstick_s": yardstick_s, "runs": runs}, indent=1) + "\n")
    if options.picture:
        middle = sorted(found["this"], key=lambda t: t.moments["prompt"])[len(found["this"]) // 2]
        options.picture.write_text(picture(middle, f"{how} ({middle.executor})"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="?", help="an experiment file (default: each checkout's digits.py), peers, quadratic"
    )
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", dest="changes")
    parser.add_argument("--executor", help="as raytune-hpo run takes it")
    parser.add_argument("--python", action="store_true", help="call raytune_hpo.run in a script")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="from disk, see above")
    parser.add_argument("--compare", type=Path, nargs="+", default=[], metavar="CODE_DIR", help="other checkouts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run's timeline")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw one")
    parser.add_argument("--trials", type=int, nargs="+", default=[16, 64, 256], help="peers: sizes")
    parser.add_argument("--seeds", type=int, default=3, help="peers: of each size, from 0")
    parser.add_argument("--tune", action="store_true", help="quadratic: ours by ray.tune.report, too")
    options = parser.parse_args()
    if options.what == "peers":
        peers(options)
    elif options.what == "quadratic":
        quadratic(options)
    else:
        timelines(options)


if __name__ == "__main__":
    main()
