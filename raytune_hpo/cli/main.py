"""raytune-hpo: the command line. One verb, one module; a verb's imports happen when it runs.

Exit codes: 0 done; 1 finished with failed trials, or stopped since they fail alike; 2 the experiment or the command is
wrong, nothing was started; 130 interrupted, state saved.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from raytune_hpo.checks import no_such
from raytune_hpo.display.lasting import lasting_streams
from raytune_hpo.errors import RaytuneHpoError
from raytune_hpo.printable import printable_lines

EXIT_WRONG = 2
EXIT_INTERRUPTED = 130

VERBS = {
    "run": "run an experiment file",
    "example": "list the example experiments that come with it, or print one",
    "list": "list the runs of a storage folder",
    "resume": "go on with an interrupted run",
    "retry": "try failed trials again, once their cause is mended, and go on with the run",
    "extend": "give a run more trials, epochs or time, while it runs or once it has finished",
    "amend": "change a run's space, searcher, scheduler or limits, while it runs or once it has finished",
    "trial": "stop, pause, continue, clone, promote, tag or annotate a trial of a run",
    "import": "tell a run's searcher of the trials of another run, of an Optuna study, of Ray Tune or of a table",
    "ask": "ask a run for a trial to train yourself",
    "tell": "tell a run what a trial has shown that you asked for",
    "serve": "own a run that is asked for its trials, until it is over",
    "enqueue": "let a run try configs of yours next",
    "validate": "check an experiment file without starting anything",
    "trials": "list the trials of a run",
    "logs": "show what a trial has printed, logged and warned",
    "best": "show the winner of a run",
    "confirm": "train a run's best configs again from fresh seeds, and say which is best",
    "retest": "train old best configs on today's data: do the settings still hold",
    "watch": "show a run, or all runs of a folder, as a page that goes on with it",
    "report": "write what there is to see of a run, or several, as one page for a browser",
    "importance": "tell which hyperparameters mattered in a run",
    "ensemble": "combine a run's models into one and test it",
    "lr-range": "find the range of learning rates that an experiment should search",
    "max-batch": "find the largest batch that fits the device's memory",
    "panda": "train one model with care, instead of a search",
    "nudge": "change values of a running panda's config",
    "rollback": "take a running panda back to an earlier epoch",
    "pause": "let a running panda wait until it is resumed",
    "replay": "train a trial again from the journal and compare the weights",
    "plot": "draw one of the report's figures, or all, as PNG, SVG, PDF or a page",
    "pair-plot": "draw what a run's winner predicts against what is, for regression",
    "export": "write a run's model to files that plain PyTorch reads, or the run for other tools",
    "predict": "let an exported model, or a run's winner, predict what a file of inputs holds",
    "schema": "print the JSON Schema of a document that is printed, or of the journal",
    "completion": "print what lets a shell complete these commands",
}


def _module(verb: str) -> str:
    name = {"import": "import_trials"}.get(verb, verb)  # no module can have that name
    return f"raytune_hpo.cli.{name.replace('-', '_')}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        mistyped = re.match(r"argument COMMAND: invalid choice: '(.*?)'", message)
        if mistyped is not None:
            message = f"{mistyped[1]!r}: {no_such('command', mistyped[1], VERBS)}"
        self.exit(EXIT_WRONG, " ".join(f"{self.prog}: {message} (see {self.prog} --help)".split()) + "\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        import raytune_hpo

        print(f"raytune-hpo {raytune_hpo.__version__}")
        parser.exit(0)


def parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The parser of all verbs; only `verb`'s module is imported for its arguments, all if None."""
    top = _Parser(
        prog="raytune-hpo",
        allow_abbrev=False,
        description="Tune hyperparameters of PyTorch models at population scale.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    verbs = top.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for name, text in VERBS.items():
        sub = verbs.add_parser(name, allow_abbrev=False, help=text, description=text[0].upper() + text[1:] + ".")
        if verb in (None, name):
            importlib.import_module(_module(name)).add_arguments(sub)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    given = ["--help"] if given == ["help"] else given
    with lasting_streams():
        return answer(given, ends=arguments is None)


def answer(given: list[str], *, ends: bool) -> int:
    """The exit code of a command. ends: whether the process does with it."""
    verb = next((a for a in given if a in VERBS), "")
    try:
        options = parser(verb).parse_args(given)
        module = importlib.import_module(_module(options.verb))
        code = int(module.main(options))
        sys.stdout.flush()
        lost = getattr(sys.stdout, "why", None)
        if "--json" in given and isinstance(lost, OSError) and lost.errno != errno.EPIPE:
            # (A reader that leaves has had enough; a document that is not there is none.)
            print(f"raytune-hpo: the JSON document cannot be written ({lost.strerror})", file=sys.stderr)
            code = code or 1
        if ends and "triton" not in sys.modules:  # which complains of what is still there
            # The process ends: a last look through all that torch has made would take a quarter of a second.
            gc.disable()
            gc.freeze()
        return code
    except RaytuneHpoError as error:  # (a TrialError: of a checkpoint that a verb reads)
        if "--verbose" in given and error.__cause__ is not None:
            sys.stderr.write(printable_lines("".join(traceback.format_exception(error.__cause__))))
        print(f"raytune-hpo: {printable_lines(str(error))}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        # Before a run has begun, or after it; a run answers to it by itself.
        print("raytune-hpo: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def run_file(file: str) -> NoReturn:
    """`raytune-hpo run FILE` with this process's arguments: what an experiment file does that is run as a script."""
    sys.exit(main(["run", file, *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
