"""raytune-hpo validate FILE"""

from __future__ import annotations

import argparse
import itertools

from raytune_hpo.cli.arguments import add_experiment, add_json, experiment_of, print_json

SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    experiment = experiment_of(options)
    search = experiment.search()
    configs = []
    for n in itertools.takewhile(lambda n: n < min(SHOWN, experiment.samples), itertools.count()):
        config = search.suggest(f"t{n:05d}")
        if config is None:
            break
        configs.append(config)
    if options.json:
        print_json({"valid": True, "experiment": experiment.to_json(), "first_configs": configs})
        return 0
    from raytune_hpo.space import describe, flatten

    metric, mode = experiment.objective
    searcher, scheduler = experiment.option("searcher")[0], experiment.option("scheduler")[0]
    total = search.total()
    grid = f" (the grid has {total} points)" if total is not None else ""
    print(f"{experiment.name}: valid. {experiment.samples} trials{grid}, {searcher} + {scheduler}, {mode} {metric}")
    print("space:")
    width = max(map(len, [*experiment.search_space.parameters, *experiment.search_space.constants]))
    for path, parameter in experiment.search_space.parameters.items():
        print(f"  {path:{width}}  {type(parameter).__name__} {describe(parameter)}")
    for path, value in experiment.search_space.constants.items():
        print(f"  {path:{width}}  = {value}")
    print(f"first {len(configs)} configs:")
    for config in configs:
        print(
            "  " + "  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in flatten(config).items())
        )
    return 0
