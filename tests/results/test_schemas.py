"""What is said of documents by JSON Schema. (That documents fit is checked wherever a test prints one: conftest.py.)"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from raytune_hpo import Experiment, Float, amend, open_run, resume, run
from raytune_hpo.cli.main import VERBS, main, parser
from raytune_hpo.results.schemas import DOCUMENTS, NAMES, schema


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_schema(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", name]) == 0
    printed = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(printed)
    assert printed == json.loads(json.dumps(schema(name)))
    assert not Draft202012Validator(printed).is_valid({})


def test_every_verb_with_json_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        with pytest.raises(SystemExit):
            parser(verb).parse_args([verb, "--help"])
        if "--json " in capsys.readouterr().out:
            assert ("run" if verb in ("panda", "resume", "retry") else verb) in DOCUMENTS, verb
    assert main(["schema"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(NAMES)
    assert main(["schema", "nothing"]) == 2
    assert "schema = 'nothing': must be one of run, list" in capsys.readouterr().err


def test_journals_are_what_is_said_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = Experiment(
        name="a",
        task="digits",
        space={"lr": Float(1e-3, 1.0, "log")},
        scheduler="asha",
        searcher="hyperopt",
        num_samples=3,
        max_epochs=3,
        executor="inline",
        on_finish="cat",
    )
    run(experiment, tmp_path / "run", quiet=True)
    amend(tmp_path / "run", {"num_samples": 5})
    resume(tmp_path / "run", quiet=True)
    capsys.readouterr()
    validator = Draft202012Validator(schema("journal"))
    lines = (tmp_path / "run" / "journal.jsonl").read_text().splitlines()
    for line in lines:
        validator.validate(json.loads(line))
    broken = json.loads(lines[-1])
    broken["events"][0]["more"] = 1
    assert not validator.is_valid(broken)


def test_what_is_asked_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Experiment(name="a", task=None, space={"x": Float(0, 1)}, metric="loss", mode="min", num_samples=2)
    with open_run(asked, tmp_path / "run"):
        assert main(["ask", str(tmp_path / "run")]) == 0
        trial = json.loads(capsys.readouterr().out)
        Draft202012Validator(schema("ask")).validate(trial)
        assert main(["tell", str(tmp_path / "run"), trial["trial"], "--metrics", '{"loss": 1.0}']) == 0
        Draft202012Validator(schema("tell")).validate(json.loads(capsys.readouterr().out))
