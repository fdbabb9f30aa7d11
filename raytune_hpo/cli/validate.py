"""raytune-hpo validate FILE"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_experiment, add_json, experiment_of, print_json, say
from raytune_hpo.journal.names import trial_name
from raytune_hpo.storage.run_directory import RunDirectory

SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser, run_dir="to check its experiment")
    parser.add_argument("--address", help="the Ray cluster it is meant for: this machine need not have its resources")
    parser.add_argument(
        "--deep", action="store_true", help="also load the data and take a batch of it through the task's methods"
    )
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.experiment.automatic import chosen, pairing
    from raytune_hpo.workers.before_start import check_code, check_place, remarks

    written = experiment_of(options)
    experiment = written.resolved
    RunDirectory.check_new(RunDirectory.new_path(experiment.storage, experiment.name))
    if options.address is None:
        check_place(experiment, None)
    else:
        check_code(experiment, options.address)
    search = experiment.new_search()
    if experiment.scheduler.is_object:
        experiment.new_scheduler()
    configs = []
    for n in range(min(SHOWN, experiment.num_samples)):
        config = search.suggest(trial_name(n))
        if config is None:
            break
        configs.append(config)
    told = remarks(experiment, options.address)
    means = [*chosen(written), *pairing(experiment)]
    if options.deep:
        from raytune_hpo.workers.first_check import deep_remarks

        told += deep_remarks(experiment)
    if options.json:
        print_json(
            {
                "valid": True,
                "experiment": experiment.to_json(),
                "first_configs": configs,
                "pairing": means,
                "remarks": told,
            }
        )
        return 0
    from raytune_hpo.display.summary import shown_config
    from raytune_hpo.results.text_table import plural
    from raytune_hpo.space import describe

    objective, searcher, scheduler = experiment.objective, experiment.searcher.name, experiment.scheduler.name
    total = search.total()
    of_total = f" (this search ends after {total})" if total is not None else ""
    trials = plural(experiment.num_samples, "trial") + of_total
    say(f"{experiment.name}: valid. {trials}, {searcher} + {scheduler}, {objective.mode} {objective.metric}")
    for remark in means + told:
        say(remark)
    say("space:")
    width = max(map(len, [*experiment.space.parameters, *experiment.space.constants]))
    for path, parameter in experiment.space.parameters.items():
        say(f"  {path:{width}}  {type(parameter).__name__} {describe(parameter)}")
    for path, value in experiment.space.constants.items():
        say(f"  {path:{width}}  = {value}")
    say(f"first {plural(len(configs), 'config')}:")
    for config in configs:
        say("  " + shown_config(config, {**experiment.space.to_json(), "constants": {}}))
    return 0
