"""raytune-hpo pair-plot RUN_DIR"""

from __future__ import annotations

import argparse
from pathlib import Path

from raytune_hpo.cli.arguments import add_code, say

DEFAULT_FILE = "pair_plot.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of a run of a regression task")
    parser.add_argument("-o", "--output", help=f"the picture to write (default: {DEFAULT_FILE} in the run's folder)")
    add_code(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.display.pair_plot import pair_plot
    from raytune_hpo.display.summary import shown_path

    path = Path(options.output) if options.output else Path(options.run_dir) / DEFAULT_FILE
    pairs = pair_plot(options.run_dir, path, code=options.code)
    say(
        f"{pairs.trial}: RMSE {pairs.rmse:.4g}, R² {pairs.r2:.3f} on {len(pairs.y)} validation samples; "
        f"written to {shown_path(path.absolute())}"
    )
    return 0
