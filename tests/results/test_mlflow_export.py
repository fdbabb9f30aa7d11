"""MLflow's own client reads the same of a run as --json says. Skipped without mlflow-skinny, sqlalchemy and alembic."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_run import ODD, odd_run
from standing_reports import standing
from trained_run import trained_run
from written_run import written_run

from raytune_hpo import Experiment, Float, load_results
from raytune_hpo.cli.main import main
from raytune_hpo.space.configs import flatten


@pytest.fixture
def tracking() -> Any:
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    return pytest.importorskip("mlflow.tracking")


class Client:
    """MLflow's, over what was exported to a folder."""

    def __init__(self, tracking: Any, folder: Path) -> None:
        self.client = tracking.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        (self.experiment,) = [e for e in self.client.search_experiments() if e.name != "Default"]
        runs = list(self._runs())
        self.parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        self.trials = {run.info.run_name: run for run in runs if run not in self.parents}

    def _runs(self) -> Iterator[Any]:
        yield from self.client.search_runs([self.experiment.experiment_id], max_results=1000)

    def curves(self, run: Any) -> dict[str, dict[int, str]]:
        """Metric -> step -> value as a text: NaN equals itself."""
        return {
            key: {m.step: str(m.value) for m in self.client.get_metric_history(run.info.run_id, key)}
            for key in run.data.metrics
        }


@pytest.mark.filterwarnings("ignore")  # of what mlflow itself uses
@pytest.mark.timeout(300)
def test_the_client_reads_what_json_says(tracking: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = odd_run(tmp_path / "run")
    assert main(["export", str(run), "--to", "mlflow", "-o", str(tmp_path / "ml")]) == 0
    said = capsys.readouterr()
    opened = f"mlflow ui --backend-store-uri sqlite:///{tmp_path / 'ml'}/mlflow.db"
    assert said.out == f"{tmp_path / 'ml'}: 5 trials; open it: {opened}\n"
    assert said.err.startswith("raytune-hpo: without the winner's model: ")
    assert said.err.count("\n") == 1
    assert main(["trials", str(run), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["trials"]
    found, results = Client(tracking, tmp_path / "ml"), load_results(run)
    (parent,) = found.parents
    assert (parent.info.run_name, parent.info.status) == ("run", "RUNNING")
    assert parent.data.tags["winner"] == "t00000"
    assert parent.data.metrics == {"best/validation_accuracy": 0.9}
    assert parent.data.params["metric"] == "validation_accuracy"
    assert sorted(found.trials) == [row["trial_id"] for row in rows]
    statuses = {"completed": "FINISHED", "stopped": "FINISHED", "diverged": "FAILED", "running": "RUNNING"}
    for row in rows:
        child = found.trials[row["trial_id"]]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.status == statuses.get(row["status"], "SCHEDULED")
        assert child.data.tags["status"] == row["status"]
        config = flatten(row["config"])
        assert {k: v if k == "layers" else json.loads(v) for k, v in child.data.params.items()} == {
            **config, "layers": json.dumps(config["layers"])
        }  # fmt: skip
        expected = {
            tag: {epoch: str(theirs(value)) for epoch, value in curve.items()}
            for tag, curve in standing(results).get(row["trial_id"], {}).items()
            if curve
        }
        if row["best"] is not None:
            expected["best/validation_accuracy"] = {row["best_epoch"]: str(row["best"])}
        odd = expected.pop(ODD, None)
        curves = found.curves(child)
        renamed = {key: curve for key, curve in curves.items() if key.startswith("_script_")}
        assert {key: curve for key, curve in curves.items() if key not in renamed} == expected
        assert list(renamed.values()) == ([] if odd is None else [odd])
    when = [e for s in results.steps for e in [(s.at, x.KIND, getattr(x, "trial", "")) for x in s.events]]
    began = next(at for at, kind, trial in when if kind == "start" and trial == "t00000")
    assert found.trials["t00000"].info.start_time == round(began * 1000)


def theirs(value: float) -> float:
    """MLflow's database holds infinities as the largest numbers."""
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
def test_the_winners_model_is_mlflows(tracking: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    made = Experiment(
        name="model", task="digits", space={"lr": Float(0.01, 0.1), "hidden_units": 16}, max_epochs=1, num_samples=2
    )
    run = trained_run(tmp_path / "run", made, [{"lr": lr, "hidden_units": 16} for lr in (0.01, 0.05)]).path
    assert main(["export", str(run), "--to", "mlflow", "-o", str(tmp_path / "ml")]) == 0
    assert "without" not in capsys.readouterr().err
    found, best = Client(tracking, tmp_path / "ml"), load_results(run).best
    assert best is not None
    outputs = {name: child.outputs.model_outputs if child.outputs else [] for name, child in found.trials.items()}
    assert {name for name, models in outputs.items() if models} == {best.trial_id}
    (output,) = outputs[best.trial_id]
    model = found.client.get_logged_model(output.model_id)
    assert (model.status, model.source_run_id, output.step) == (
        "READY", found.trials[best.trial_id].info.run_id, best.epoch
    )  # fmt: skip
    folder = Path(model.artifact_location.removeprefix("file://"))
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {"MLmodel"} | {
        f"data/{name}" for name in ("config.json", "metrics.json", "model.pt2", "weights.safetensors")
    }
    assert main(["export", str(run), "-o", str(tmp_path / "model")]) == 0
    import mlflow.pytorch

    from raytune_hpo import load_model

    x = np.random.default_rng(0).random((7, 64), dtype=np.float32)
    ours = load_model(tmp_path / "model")(x)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'ml' / 'mlflow.db'}")
    loaded = mlflow.pytorch.load_model(f"models:/{output.model_id}")
    np.testing.assert_array_equal(loaded(torch.tensor(x)).detach().numpy(), ours)


@pytest.mark.filterwarnings("ignore")
def test_a_run_without_trials(tracking: Any, tmp_path: Path) -> None:
    assert main(["export", str(written_run(tmp_path / "run")), "--to", "mlflow", "-o", str(tmp_path / "ml")]) == 0
    assert len(Client(tracking, tmp_path / "ml").parents) == 1
