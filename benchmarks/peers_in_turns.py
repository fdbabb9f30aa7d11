"""Whole programs in turns: ours and what a user of Optuna writes for the same search. See startup.py."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medians import spread, table
from timeline import one_run
from whole_process import HERE, forget_files, run_program

PEERS = Path(__file__).resolve().parent / "peers"
OURS, OPTUNA = "raytune_hpo", "optuna"


def _peer(script: str, *arguments: object, cold: bool) -> dict[str, Any]:
    """What a script prints, with its wall and CPU seconds."""
    if cold:
        forget_files()
    program = run_program([sys.executable, str(PEERS / script), *map(str, arguments)])
    return {"wall_s": program.wall_s, "cpu_s": program.cpu_s, **json.loads(program.stdout.strip().splitlines()[-1])}


def _ours(trials: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    if options.cold:
        forget_files()
    changes = [f"num_samples={trials}", f"seed={seed}", *options.changes]
    file = HERE / "experiments" / "digits.py"
    run = one_run(HERE, file, changes, options.executor, python=options.python)
    test = (run.test or {}).get("test_accuracy")
    return {
        "wall_s": run.moments["prompt"],
        "cpu_s": run.cpu_s,
        "best": run.best,
        "test": test,
        "epochs": run.reports,
        "executor": run.executor,
    }


def _cells(rows: Sequence[dict[str, Any]], beside: Sequence[dict[str, Any]]) -> list[str]:
    """wall_s and cpu_s with their ratios, turn by turn, to those of `beside`."""
    cells = []
    for key in ("wall_s", "cpu_s"):
        cells.append(spread(row[key] for row in rows))
        cells.append(f"{statistics.median(row[key] / other[key] for row, other in zip(rows, beside, strict=True)):.2f}")
    return cells


def peers(options: argparse.Namespace) -> None:
    """The digits search of several sizes, by a seed a turn."""
    everything = {}
    for trials in options.trials:
        found: dict[str, list[dict[str, Any]]] = {OURS: [], OPTUNA: []}
        for seed in range(options.seeds):
            found[OURS].append(_ours(trials, seed, options))
            found[OPTUNA].append(_peer("optuna_digits.py", "--trials", trials, "--seed", seed, cold=options.cold))
        ran = " ".join(sorted({row["executor"] for row in found[OURS]}))
        print(f"digits, {trials} trials, {options.seeds} seeds, {os.cpu_count()} cores, executor {ran}")
        heads = (
            "wall s",
            "of optuna's",
            "CPU s",
            "of optuna's",
            "epochs",
            "best validation accuracy by seed",
            "median test",
        )
        rows = []
        for name, results in found.items():
            best = " ".join(f"{row['best']:.3f}" for row in results)
            tests = [row["test"] for row in results if row["test"] is not None]
            test = f"{statistics.median(tests):.3f}" if tests else "-"
            epochs = spread((row["epochs"] for row in results), ".0f")
            rows.append((name, [*_cells(results, found[OPTUNA]), epochs, best, test]))
        table(heads, rows)
        sys.stdout.flush()
        everything[trials] = found
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")


def quadratic(options: argparse.Namespace) -> None:
    """100 evaluations of (x - 2)**2, by a seed a turn."""
    arguments = {OURS: ["ours_quadratic.py"], OPTUNA: ["optuna_quadratic.py"]}
    if options.tune:
        arguments[f"{OURS}, tune.report"] = ["ours_quadratic.py", "--tune"]
    if options.executor:
        for name in arguments:
            arguments[name] += ["--executor", options.executor] if name != OPTUNA else []
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments}
    for seed in range(options.repeats):
        for name, (script, *rest) in arguments.items():
            found[name].append(_peer(script, *rest, "--seed", seed, cold=options.cold))
    print(f"(x - 2)**2, 100 evaluations, {options.repeats} seeds, {os.cpu_count()} cores")
    heads = ("wall s", "of optuna's", "CPU s", "of optuna's", "smallest value")
    rows = [
        (name, [*_cells(results, found[OPTUNA]), spread((row["best"] for row in results), ".1e")])
        for name, results in found.items()
    ]
    table(heads, rows)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
