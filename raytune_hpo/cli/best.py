"""raytune-hpo best RUN_DIR"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_json, print_json, say
from raytune_hpo.errors import ExperimentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.advice import advice
    from raytune_hpo.results.results import load_results

    results = load_results(options.run_dir)
    best = results.best
    if options.json:
        document = best.to_json() if best is not None else None
        told = [one.to_json() for one in advice(results)]
        run = {"run_dir": str(results.run_dir), "status": results.status, "metric": results.metric}
        print_json({**run, "best": document, "advice": told})
        return 0
    if best is None:
        raise ExperimentError("run directory", str(results.run_dir), "has no report yet")
    from raytune_hpo.display.summary import amended_lines, codes_line, shown_path, shown_value, test_line
    from raytune_hpo.space.configs import flatten

    say(f"{best.trial_id}: {results.metric} {best.metric:.5g} at epoch {best.epoch} (run {results.status})")
    if best.replicates is not None:
        again, spread = best.replicates, best.replicates["std"]
        values = ", ".join(f"{value:.5g}" for value in again["values"]) or "no value"
        failed = f", {again['failed']} failed" if again["failed"] else ""
        deviation = "" if spread is None else f", deviation {spread:.2g}"
        say(f"again from other seeds: {values}{failed}; mean {again['mean']:.5g}{deviation} with its own value")
    say("config:")
    for path, value in flatten(best.config).items():
        say(f"  {path} = {shown_value(value)}")
    say("validation: " + ", ".join(f"{k} {shown_value(v)}" for k, v in best.validation.items()))
    if best.test is not None:
        say("test:       " + ", ".join(f"{k} {shown_value(v)}" for k, v in best.test.items()))
    not_tested = test_line(results, best)
    if not_tested is not None:
        say(not_tested)
    say(f"checkpoint: {shown_path(best.checkpoint) if best.checkpoint else 'none kept'}")
    versions = codes_line(results)
    if versions is not None:
        say(versions)
    for line in amended_lines(results):
        say(line)
    for one in advice(results):
        say(f"note:       {one.text}")
    return 0
