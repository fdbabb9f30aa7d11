"""raytune-hpo enqueue RUN_DIR --config '{"lr": 0.01}'"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from raytune_hpo.cli.commanding import add_wait, say_answer
from raytune_hpo.errors import ExperimentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run: it may run, have been interrupted, or have finished")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--config", metavar="JSON", help="a config; constants of the space may be left out")
    given.add_argument(
        "--file", metavar="FILE", help="many: a list of configs, or one config a line, as JSON; - is standard input"
    )
    add_wait(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.engine.commanding import enqueue

    configs = [_read("--config", options.config)] if options.config is not None else _many(options.file)
    answer = enqueue(options.run_dir, configs, wait_s=options.wait)
    say_answer("enqueue", answer, options.run_dir)
    return 0


def _many(file: str) -> list[Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError("--file", file, f"cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        found = _read(f"--file {file}", text)
        return list(found)
    lines = [line for line in text.splitlines() if line.strip()]
    return [_read(f"--file {file}, line {number}", line) for number, line in enumerate(lines, start=1)]


def _read(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExperimentError(where, text, f"is no JSON: {error}") from error
