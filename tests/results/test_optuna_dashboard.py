"""optuna-dashboard's own API shows of an exported run what --json says. Skipped where it is not installed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from odd_run import odd_run

from raytune_hpo import load_results
from raytune_hpo.cli.main import main
from raytune_hpo.results.curves import values_by_epoch
from raytune_hpo.space import SearchSpace

STATES = {"completed": "Complete", "stopped": "Pruned", "diverged": "Fail", "failed": "Fail", "running": "Running"}


def asked(app: Any, path: str) -> Any:
    """What a GET of the application answers, as JSON."""
    status: list[str] = []
    surroundings = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
        "HTTP_HOST": "localhost", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
    }  # fmt: skip
    body = b"".join(app(surroundings, lambda line, headers, *error: status.append(line)))
    assert status == ["200 OK"], body
    return json.loads(body)


def number(text: str) -> Any:
    """They write what is not finite as text."""
    return float(text) if isinstance(text, str) else text


@pytest.mark.filterwarnings("ignore")  # of what optuna-dashboard itself uses
@pytest.mark.parametrize("file", ["study.db", "study.log"])
def test_its_api_says_what_json_says(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    optuna = pytest.importorskip("optuna")
    dashboard = pytest.importorskip("optuna_dashboard")
    run = odd_run(tmp_path / "run")
    assert main(["export", str(run), "--to", "optuna", "-o", str(tmp_path / file)]) == 0
    capsys.readouterr()
    assert main(["trials", str(run), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["trials"]
    assert main(["best", str(run), "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    if file == "study.db":
        storage: Any = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / file}")
    else:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / file)))
    app = dashboard.wsgi(storage)
    (summary,) = asked(app, "/api/studies")["study_summaries"]
    assert summary["study_name"] == "run"
    study = asked(app, f"/api/studies/{summary['study_id']}")
    assert study["directions"] == ["maximize"]
    results = load_results(run)
    space, curves = SearchSpace.from_json(results.experiment["space"]), values_by_epoch(results)
    assert len(study["trials"]) == len(rows)
    for shown, row in zip(study["trials"], rows, strict=True):
        attributes = {one["key"]: one["value"] for one in shown["user_attrs"]}
        assert (attributes["trial_id"], attributes["status"]) == (row["trial_id"], row["status"])
        assert shown["state"] == STATES.get(row["status"], "Waiting")
        if shown["state"] in ("Complete", "Pruned"):
            assert shown["values"] == [row["best"]]
        read = {one["step"]: str(number(one["value"])) for one in shown["intermediate_values"]}
        assert read == {epoch: str(value) for epoch, value in curves[row["trial_id"]].items()}
        trial = results.ledger.trials[row["trial_id"]]
        config = space.values(trial.best_config or row["config"])  # that which was in force at its best epoch
        params = {one["name"]: one["param_external_value"] for one in shown["params"]}
        assert params == {path: str(value) for path, value in config.items()}
    (winner,) = study["best_trials"]
    assert winner["values"] == [best["metric"]]
    attributes = {one["key"]: one["value"] for one in winner["user_attrs"]}
    assert (attributes["trial_id"], attributes["best_epoch"]) == (best["trial_id"], str(best["epoch"]))
    assert {one["name"]: one["param_external_value"] for one in winner["params"]} == {
        path: str(value) for path, value in space.values(best["config"]).items()
    }
    if file == "study.db":
        storage.remove_session()
        storage.engine.dispose()
