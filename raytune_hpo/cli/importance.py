"""raytune-hpo importance RUN_DIR"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_json, print_json, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument("--pairs", action="store_true", help="also what each two do together")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.importance import HANDBOOK, handbook_place, importance
    from raytune_hpo.results.results import load_results

    results = load_results(options.run_dir)
    found = importance(results, pairs=options.pairs)
    if options.json:
        print_json({"run_dir": str(results.run_dir), "metric": results.metric, **found.to_json()})
        return 0
    say(found.verdict)
    if not found.can_tell:
        return 0
    from raytune_hpo.results.text_table import plural, text_table

    rows = [[name, _shown(s), str(handbook_place(name) or "-")] for name, s in found.main.items()]
    say(text_table(["parameter", "share of variance", "handbook"], rows))
    if found.pairs:
        rows = [[" x ".join(names), _shown(s)] for names, s in found.pairs.items()]
        say(text_table(["pair", "share of variance"], rows))
    say(
        f"the rest, {found.rest:.0%}: {'larger' if options.pairs else 'all'} interactions, and what the forest reads "
        "into chance"
    )
    bad = f"; {plural(found.bad, 'diverged or failed trial')} tied for the worst rank" if found.bad else ""
    say(f"of the ranks by {results.metric}{bad}")
    say("handbook: " + "; ".join(f"{place} {words}" for place, (words, _) in enumerate(HANDBOOK, start=1)))
    return 0


def _shown(share: object) -> str:
    from raytune_hpo.results.forest_anova import Share

    assert isinstance(share, Share)
    return f"{max(share.share, 0):.1%} +- {share.deviation:.1%}"
