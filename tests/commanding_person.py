"""A person who commands a run, again and again: `python commanding_person.py RUN_DIR SEED LOG` until it is killed.

LOG: a line of JSON for each command that was sent, before it is, and for its answer.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from raytune_hpo import ExperimentError
from raytune_hpo.engine import commanding
from raytune_hpo.storage import commands

WAIT_S = 20.0


def command(rng: random.Random) -> tuple[str, dict[str, Any]]:
    trial = f"t{rng.randrange(24):05d}"
    lr = round(10 ** rng.uniform(-4, -1), 6)
    return rng.choice(
        [
            ("stop", {"trial": trial}),
            ("clone", {"trial": trial, "changes": {"lr": lr}}),
            ("promote", {"trial": trial}),
            ("mark", {"trial": trial, "tags": [f"n{rng.randrange(10**6)}"]}),
            (
                "import",
                {"source": f"runs-{rng.randrange(4)}.csv", "rows": [[{"lr": lr, "hidden_units": 16}, [[1, 0.5]]]]},
            ),
            ("enqueue", {"configs": [{"lr": lr, "hidden_units": 16}]}),
            ("amend", {"set": {"num_samples": "+1"}}),
            ("amend", {"set": {"max_epochs": "+1"}}),
            ("amend", {"set": {"metric": "validation_loss"}}),
        ]
    )


def main(run_dir: str, seed: str, log: str) -> None:
    rng = random.Random(seed)
    with Path(log).open("a") as file:

        def note(**facts: Any) -> None:
            file.write(json.dumps(facts) + "\n")
            file.flush()

        send = commands.send

        def noted(path: Path, name: str, **arguments: Any) -> str:
            command_id = send(path, name, **arguments)
            note(sent=command_id)
            return command_id

        commands.send = noted
        while True:
            name, arguments = command(rng)
            began = time.monotonic()
            try:
                answer = commanding.give(run_dir, name, WAIT_S, **arguments)
                outcome, applied = answer.outcome, True
            except ExperimentError as error:
                outcome, applied = str(error), False
            note(command=name, outcome=outcome, applied=applied, seconds=time.monotonic() - began)
            time.sleep(rng.uniform(0.0, 1.0))


if __name__ == "__main__":
    main(*sys.argv[1:])
