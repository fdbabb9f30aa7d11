"""What a live page may ask of its run: the commands of one trial, and configs to try next.

    POST /TOKEN/commands {"command": "stop", "trial": "t00003"} -> {"said": "t00003 stopped after epoch 4"}
                                                                -> 409 {"error": one line}

It is `raytune-hpo trial` and `enqueue` by another door: answered when it stands in the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytune_hpo.checks import no_such
from raytune_hpo.engine.commanding import give
from raytune_hpo.errors import ExperimentError

MOST_BYTES = 1 << 20
WAIT_S = 20.0
#: As the page names them -> the command, and what may come with it.
COMMANDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "stop": ("stop", ("trial",)),
    "pause": ("hold", ("trial",)),
    "continue": ("release", ("trial",)),
    "promote": ("promote", ("trial", "epochs")),
    "clone": ("clone", ("trial", "changes", "epoch")),
    "tag": ("mark", ("trial", "tags", "untag")),
    "note": ("mark", ("trial", "note")),
    "enqueue": ("enqueue", ("configs",)),
}


def taken(run_dir: Path, asked: Any) -> str:
    """Give a run what its page asks for. Answers what came of it, in words. Raises ExperimentError."""
    if not isinstance(asked, dict):
        raise ExperimentError("command", asked, "must be an object")
    name = asked.get("command")
    if not isinstance(name, str) or name not in COMMANDS:
        raise ExperimentError("command", name, no_such("command", str(name), COMMANDS))
    command, fields = COMMANDS[name]
    arguments = {field: value for field, value in asked.items() if field != "command"}
    more = next((field for field in arguments if field not in fields), None)
    if more is not None:
        raise ExperimentError(more, arguments[more], f"does not go with {name}, which takes {', '.join(fields)}")
    answer = give(run_dir, command, WAIT_S, **arguments)
    if answer.outcome is None:
        return "noted; the process that has the run has not answered yet"
    return answer.outcome if answer.is_running else f"{answer.outcome} (raytune-hpo resume goes on with it)"
