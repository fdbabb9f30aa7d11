"""What an executor cannot promise is said before anything starts (with rows A1, B12 and C22)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raytune_hpo.cli.main import main

FILE = """
from raytune_hpo import Experiment, Float, report
def train(config):
    report({"loss": config["x"]})
of_function = dict(task=train, space={"x": Float(0.0, 1.0)}, metric="loss", mode="min")
of_task = dict(task="digits", space={"lr": Float(0.01, 0.1)})
experiment = Experiment(name="x", **FIELDS)
"""


@pytest.mark.parametrize(("fields", "words"), [
    ("of_function, executor='inline'", ["crashes its process ends the run", "each has its working directory"]),
    ("of_task, executor='inline'", ["not killed"]),
    ("of_function, executor='auto'", ["auto takes workers: a function runs in a process of its own"]),
    ("of_task, executor='auto', fresh_workers=True", ["auto takes workers: fresh_workers asks for a process a trial"]),
    ("of_task, executor='auto'", ["auto begins in this process if it is quicker"]),
    ("of_task, executor='lanes'", ["lanes: trials share a process, a log, and the working directory"]),
    ("of_function, executor='processes'", []),
])  # fmt: skip
def test_near_a1_b12_c22_validate_says_what_an_executor_cannot(
    fields: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "exp.py"
    file.write_text(FILE.replace("FIELDS", fields))
    assert main(["validate", str(file), "--json"]) == 0
    remarks = json.loads(capsys.readouterr().out)["remarks"]
    assert len(remarks) == len(words)
    assert all(word in remark for word, remark in zip(words, remarks, strict=True))
    assert main(["validate", str(file)]) == 0
    assert all(remark in capsys.readouterr().out for remark in remarks[:1])
