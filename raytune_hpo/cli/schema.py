"""raytune-hpo schema NAME"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import print_json, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a document, as `trials` or `journal`; left out: which there are")


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.schemas import DOCUMENTS, NAMES, schema

    if options.name is None:
        for name in NAMES:
            say(f"{name:12} {DOCUMENTS[name][0] if name in DOCUMENTS else 'a line of journal.jsonl'}")
        return 0
    print_json(schema(options.name))
    return 0
