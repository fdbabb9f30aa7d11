"""A process that trains trials of a run that it asks: `python asking_person.py FILE RUN_DIR LOG [SLOW]`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from raytune_hpo import open_run


def main(file: str, run_dir: str, log: str, slow: str = "0.01") -> None:
    with Path(log).open("a") as out, open_run(file, run_dir, lease_s=4.0) as run:

        def note(**facts: Any) -> None:
            out.write(json.dumps(facts) + "\n")
            out.flush()

        while (trial := run.ask()) is not None:
            note(asked=trial.id, epoch=trial.epoch)
            for epoch in range(trial.epoch + 1, 10):
                time.sleep(float(slow))
                decision = run.report(trial, epoch, {"loss": trial.config["x"] + 1 / epoch})
                note(trial=trial.id, epoch=epoch, decision=decision)
                if decision == "stop":
                    break
        note(done=True, owns=run.owns)


if __name__ == "__main__":
    main(*sys.argv[1:])
