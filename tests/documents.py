"""The code blocks of README.md and docs/*.md, and a folder in which they run as a reader would run them.

A block says its language. ```python and ```bash are run, unless the line before says why not: <!-- not run: REASON -->.
```text is what no one runs: output, a drawing, a listing.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raytune_hpo import load_experiment
from raytune_hpo.cli.main import main, parser

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
RUN = ("python", "bash")
#: What runs longer than these is made as short: more trials and epochs show a reader more, and the test nothing.
TRIALS, EPOCHS = 16, 9
SMALL = {"num_samples": 6, "max_epochs": 3}

FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+) -->\n)?(?P<fence>^```)(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$", re.M
)


@dataclass(frozen=True)
class Block:
    """line: of its fence, from 1. reason: why it is not run, None if it is."""

    document: Path
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.document.relative_to(REPOSITORY)}, line {self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, without what is said of them behind a #."""
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in self.text.replace("\\\n", " ").splitlines())
        return [line for line in lines if line]


def blocks_of(document: Path, text: str | None = None) -> list[Block]:
    text = document.read_text() if text is None else text
    return [
        Block(document, text.count("\n", 0, at.start("fence")) + 1, at["language"], at["text"], at["reason"])
        for at in FENCE.finditer(text)
    ]


def faults(blocks: Sequence[Block]) -> list[str]:
    """What keeps blocks from being either run, marked, or text."""
    return [
        *(f"{b}: ```{b.language} is none of ```python, ```bash and ```text" for b in blocks
          if b.language not in (*RUN, "text")),
        *(f"{b}: is marked as not run, which no text is" for b in blocks if b.reason and b.language == "text"),
        *(f"{b}: {line!r} is run by no test: a command of ours, or mark the block" for b in blocks
          if b.language == "bash" and not b.reason for line in b.commands if not line.startswith("raytune-hpo ")),
        *(f"{b}: {line!r} {fault}" for b in blocks if b.language == "bash" for line in b.commands
          for fault in _wrong(line)),
    ]  # fmt: skip


def _wrong(line: str) -> Iterator[str]:
    """What is wrong with a command, run or not, by what it names."""
    program, *arguments = shlex.split(line)
    if program == "make" and not re.search(rf"^{arguments[0]}:", (REPOSITORY / "Makefile").read_text(), re.M):
        yield "names no target of the Makefile"
    if program == "python" and arguments[0].endswith(".py") and not (REPOSITORY / arguments[0]).is_file():
        yield "names no file"
    if program == "raytune-hpo":
        try:
            with contextlib.redirect_stderr(io.StringIO()) as said:
                parser().parse_args(_without_redirection(arguments))
        except SystemExit:
            yield said.getvalue().strip()


def _without_redirection(arguments: list[str]) -> list[str]:
    return arguments[: arguments.index(">")] if ">" in arguments else arguments


class Scene:
    """A reader's folder: what the documents have told to do is done in it, each command once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "experiments").symlink_to(REPOSITORY / "experiments")
        np.save(folder / "x.npy", np.zeros((3, 64), np.float32))
        self._done: set[str] = set()
        # The five minutes of the README, which every other page goes on from. Its run is what they call RUN_DIR, too.
        with contextlib.chdir(folder):
            for line in ("example digits > my.py", "run my.py --run-dir first", "export first -o model/"):
                self.command(f"raytune-hpo {line}")
        (folder / "RUN_DIR").symlink_to("first")

    def run(self, block: Block) -> None:
        """An experiment by the command, other Python as a script.

        Raises what it raises, AssertionError for a command that exits with another code than 0.
        """
        with contextlib.chdir(self.folder):
            if block.language == "bash":
                for line in block.commands:
                    self.command(line)
                return
            file = Path(f"{block.document.stem}_{block.line}.py")
            file.write_text(block.text)
            if re.search(r"^experiment = ", block.text, re.M):
                self.command(f"raytune-hpo run {file}")
            else:
                runpy.run_path(str(file), run_name="__main__")

    def command(self, line: str) -> None:
        if line in self._done:
            return
        self._done.add(line)
        arguments = shlex.split(line)[1:]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(_small(_without_redirection(arguments)))
        assert code == 0, f"{line}: exit code {code}: {err.getvalue()}"
        if ">" in arguments:
            Path(arguments[-1]).write_text(out.getvalue())


def _small(arguments: list[str]) -> list[str]:
    """In this process, and of a run or a panda no more than EPOCHS epochs of TRIALS trials."""
    options = parser().parse_args(arguments)
    if options.verb not in ("run", "panda"):
        return arguments
    small = ["--executor", "inline"] if options.verb == "run" else []
    if options.file.endswith(".py"):
        experiment = load_experiment(options.file).resolved
        for name, most in (("num_samples", TRIALS), ("max_epochs", EPOCHS)):
            if getattr(experiment, name) > most and not (options.verb == "panda" and name == "num_samples"):
                small += ["--set", f"{name}={SMALL[name]}"]
    return [*arguments, *small]
