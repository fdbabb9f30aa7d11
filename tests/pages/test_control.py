"""Commands to a run from its live page: by POST, with the link's token, one line for what cannot be."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from served import TOKEN, served

from raytune_hpo import Experiment, Float, amend, load_results, run
from raytune_hpo.cli.main import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control")
    experiment = Experiment(
        name="a",
        task="digits",
        space={"lr": Float(1e-3, 1.0, "log")},
        searcher="random",
        scheduler="fifo",
        num_samples=2,
        max_epochs=2,
        executor="inline",
    )
    return run(experiment, folder / "run", quiet=True).run_dir


def post(url: str, body: Any, kind: str = "application/json", **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + "commands", data, {"content-type": kind, **headers}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else text


def test_a_trial_is_commanded(finished: Path) -> None:
    with served(finished, control=True) as url:
        assert b"<body data-live data-control>" in urllib.request.urlopen(url).read()
        code, told = post(url, {"command": "tag", "trial": "t00000", "tags": ["good"]})
        assert (code, told) == (200, {"said": "t00000: tags: good (raytune-hpo resume goes on with it)"})
        assert post(url, {"command": "note", "trial": "t00000", "note": "the first"})[0] == 200
        amend(finished, {"max_epochs": 4})
        code, told = post(url, {"command": "clone", "trial": "t00000", "changes": {"lr": 0.003}})
        assert code == 200, told
        assert told["said"].startswith("t00002 goes on from t00000 after epoch 2")
        assert post(url, {"command": "enqueue", "configs": [{"lr": 0.5}]})[0] == 200
    trials = load_results(finished).ledger.trials
    assert list(trials["t00000"].tags) == ["good"]
    assert trials["t00002"].config["lr"] == 0.003
    with served(finished.parent, control=True) as url:  # of a folder of runs
        code, told = post(f"{url}runs/run/", {"command": "stop", "trial": "t00002"})
        assert code == 200, told
        assert post(f"{url}runs/none/", {"command": "stop", "trial": "t00002"})[0] == 404


WRONG = {
    "ended": ({"command": "stop", "trial": "t00000"}, 409, "has ended: it is completed"),
    "no such trial": ({"command": "stop", "trial": "t00099"}, 409, "no such trial in this run"),
    "no command": ({}, 409, "command = None"),
    "not of a page": ({"command": "amend", "set": {}}, 409, "command = 'amend'"),
    "more than it takes": ({"command": "stop", "trial": "t00000", "force": True}, 409, "does not go with stop"),
    "of another type": ({"command": "stop", "trial": 3}, 409, "must be of type str"),
    "a list": ([], 409, "must be an object"),
    "no JSON": (b"{", 400, "a command is JSON"),
    "too much": (b" " * (2 << 20), 413, "at most"),
}


@pytest.mark.parametrize(("body", "code", "said"), WRONG.values(), ids=WRONG)
def test_wrong_commands_change_nothing(finished: Path, body: Any, code: int, said: str) -> None:
    before = len(load_results(finished).ledger.trials)
    with served(finished, control=True) as url:
        found, told = post(url, body)
        assert (found, said in told["error"]) == (code, True), told
        assert "\n" not in told["error"]
    assert len(load_results(finished).ledger.trials) == before


def test_whoever_may_not(finished: Path) -> None:
    command = {"command": "tag", "trial": "t00000", "tags": ["bad"]}
    with served(finished, control=True) as url:
        assert post(url.replace(TOKEN, "another"), command)[0] == 403
        assert post(url, command, host="evil.example")[0] == 421
        assert post(url, command, kind="text/plain")[0] == 415
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(url + "commands")
    with served(finished) as url:
        assert post(url, command)[0] == 404
        assert b"<body data-live>" in urllib.request.urlopen(url).read()
    assert "bad" not in load_results(finished).ledger.trials["t00000"].tags


def test_one_of_both(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    assert main(["watch", str(finished), "--control", "--read-only"]) == 2
    assert "does not go with --read-only" in capsys.readouterr().err
