"""Other runs, studies, folders and tables as evidence: read, fitted to a space, told to a run."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import (
    Choice,
    Experiment,
    ExperimentError,
    Float,
    Int,
    amend,
    import_trials,
    load_results,
    report,
    resume,
    run,
)
from raytune_hpo.cli.main import main
from raytune_hpo.evidence import Record, Records, fitted, read
from raytune_hpo.journal.events import EvidenceGiven, Noticed
from raytune_hpo.objective import Objective
from raytune_hpo.search.evidence import Evidence
from raytune_hpo.space import SearchSpace
from raytune_hpo.testing.searchers import make

LOSS = Objective("loss", "min")
SPACE = SearchSpace(
    {
        "lr": Float(1e-4, 1e-1, "log"),
        "units": Int(8, 64),
        "act": Choice(["relu", "tanh"]),
        "momentum": Float(0.0, 0.9).when("act", "==", "tanh"),
        "fixed": 3,
    }
)


def train(config: dict[str, Any]) -> None:
    for epoch in range(1, 5):
        report({"loss": abs(math.log10(config["lr"]) + 2) + config["units"] / 100 + 1 / epoch, "other": 1.0})


def small(folder: Path, **fields: Any) -> Experiment:
    return Experiment(
        **{
            "name": "small",
            "task": train,
            "space": {"lr": Float(1e-4, 1e-1, "log"), "units": Int(8, 64)},
            "metric": "loss",
            "mode": "min",
            "searcher": "bayesopt",
            "scheduler": "fifo",
            "num_samples": 4,
            "max_epochs": 4,
            "executor": "inline",
            "max_concurrent": 1,
            "storage": str(folder),
            **fields,
        }
    )


# What is read --------------------------------------------------------------------------------------------


def optuna_study(path: Path, trials: int, direction: str = "minimize", name: str = "study") -> str:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{path}"
    study = optuna.create_study(
        study_name=name, storage=url, direction=direction, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    done = []
    for number in range(trials):
        lr = 10 ** (-4 + 3 * ((number * 7) % 11) / 11)
        distributions = {
            "lr": optuna.distributions.FloatDistribution(1e-5, 1.0, log=True),
            "units": optuna.distributions.IntDistribution(1, 512),
        }
        value = abs(math.log10(lr) + 2)
        done.append(
            optuna.trial.create_trial(
                params={"lr": lr, "units": 8 + number % 50},
                distributions=distributions,
                value=value if direction == "minimize" else -value,
                intermediate_values={0: 5.0, 1: value} if direction == "minimize" else {},
            )
        )
    study.add_trials(done)
    return url


def test_an_optuna_study(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    url = optuna_study(tmp_path / "x.db", 12)
    study = optuna.load_study(study_name="study", storage=url)

    def objective(trial: Any) -> float:
        lr = trial.suggest_float("lr", 1e-5, 1.0, log=True)
        trial.suggest_int("units", 1, 512)
        if trial.number == 12:
            raise ValueError
        if trial.number == 13:
            trial.report(3.0, 4)
            raise optuna.TrialPruned
        return lr

    study.optimize(objective, n_trials=3, catch=(ValueError,))
    for text in (f"optuna:{url}#study", f"optuna:{url}"):
        found = read(text, LOSS)
        assert len(found.trials) == 14
        assert found.trials[0].curve == {1: 5.0, 2: found.trials[0].curve[2]}
        assert found.trials[12].curve == {4: 3.0}  # pruned
        assert list(found.trials[13].curve) == [1]
        assert dict(found.without) == {"is fail": 1}
    optuna_study(tmp_path / "x.db", 3, "maximize", "other")
    other = read(f"optuna:{url}#other", LOSS)
    assert other.reversed
    kept = fitted(other, SearchSpace({"lr": SPACE.parameters["lr"]}), LOSS)
    assert min(kept.rows, key=lambda row: row[1][1])[0]["lr"] == pytest.approx(0.01, rel=0.7)
    assert "maximized" in kept.text


def test_a_folder_of_ray_tune(tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one: two experiments in a folder, one trial of which has reported nothing."""
    from ray import tune

    monkeypatch.delenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", raising=False)

    def trainable(config: dict[str, Any]) -> None:
        if config["model"]["units"] == 9:
            return
        for epoch in range(3):
            tune.report({"loss": config["lr"] / (epoch + 1), "extra": {"deep": 1.0}})

    space = {"lr": tune.grid_search([0.01, 0.02]), "model": {"units": tune.grid_search([8, 9])}, "act": "relu"}
    for name in ("one", "two"):
        config = tune.RunConfig(name=name, storage_path=str(tmp_path / "ray"), verbose=0)
        tune.Tuner(trainable, param_space=space, run_config=config).fit()
        if name == "one":
            only = read(f"ray:{tmp_path / 'ray'}", LOSS)
    found = read(f"ray:{tmp_path / 'ray' / 'two'}", LOSS)
    for records in (only, found):
        assert sorted(r.values["lr"] for r in records.trials) == [0.01, 0.02]
        assert records.trials[0].values["model.units"] == 8
        assert list(records.trials[0].curve) == [1, 2, 3]
        assert sum(records.without.values()) == 2
    assert read(f"ray:{tmp_path / 'ray' / 'two'}", Objective("extra/deep", "min")).trials
    kept = fitted(found, SPACE, LOSS)
    assert [config["units"] for config, _ in kept.rows] == [8, 8]
    with pytest.raises(ExperimentError, match="holds several experiments: name one of them: one, two"):
        read(f"ray:{tmp_path / 'ray'}", LOSS)
    with pytest.raises(ExperimentError, match=r"'nope': is reported by no trial of .*, which has extra/deep, loss"):
        read(f"ray:{tmp_path / 'ray' / 'two'}", Objective("nope", "min"))


TABLES = {
    "a trial a row": ("lr,units,act,momentum,loss\n0.01,16,tanh,0.5,1.5\n0.02,8.0,relu,,2.5\n", [{1: 1.5}, {1: 2.5}]),
    "an epoch a row": (
        "trial,epoch,lr,units,act,loss\na,0,0.01,16,relu,3\na,1,0.01,16,relu,1.5\nb,0,0.02,8,relu,2.5\n",
        [{1: 3.0, 2: 1.5}, {1: 2.5}],
    ),
    "as others name them": (
        "config/lr,config/model/units,params_act,metrics.loss\n0.01,16,relu,1.5\n0.02,8,relu,2.5\n0.02,8,relu,\n",
        [{1: 1.5}, {1: 2.5}],
    ),
}


@pytest.mark.parametrize(("text", "curves"), TABLES.values(), ids=TABLES)
def test_a_table(tmp_path: Path, text: str, curves: list[dict[int, float]]) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    found = read(str(path), LOSS)
    assert [r.curve for r in found.trials] == curves
    kept = fitted(found, SPACE, LOSS)
    assert [(c["lr"], c["units"], c["fixed"]) for c, _ in kept.rows] == [(0.01, 16, 3), (0.02, 8, 3)]


def test_a_table_that_is_hard_to_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("epoch,norm,loss\n3,None,1.0\n5,NA,nan\n7,,2.0\n5,NA,3.0\n")
    space = SearchSpace({"epoch": Int(1, 9), "norm": Choice([None, "NA"])})
    found = fitted(read(str(path), LOSS, space.paths), space, LOSS)
    assert [config for config, _ in found.rows] == [{"epoch": 3, "norm": None}, {"epoch": 5, "norm": "NA"}]
    assert dict(found.unfit) == {"has no value": 1, "no value of norm": 1}
    path.write_text("epoch,lr,loss\ninf,0.1,1.0\n")
    with pytest.raises(ExperimentError, match=r"line 2: epoch = 'inf' is no epoch"):
        read(str(path), LOSS)


def test_what_trains_on_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.csv"
    lines = ["trial,epoch,lr,units,loss", "a,1,0.01,9,5.0", "b,1,0.02,10,2.0"]
    path.write_text("\n".join(lines))
    run(small(tmp_path), tmp_path / "run", quiet=True)
    import_trials(tmp_path / "run", str(path))
    path.write_text("\n".join([*lines, "a,3,0.01,9,0.5"]))
    monkeypatch.chdir(tmp_path)
    answer = import_trials(tmp_path / "run", "./runs.csv")
    assert answer.outcome is not None
    assert answer.outcome.startswith(f"1 trial of {path}: bayesopt learns from them; 1 were imported before")
    again = make("bayesopt", {}, SearchSpace(small(tmp_path).space), mode="min")
    for event in load_results(tmp_path / "run").of(EvidenceGiven):
        again.evidence(event.config, event.curve, event.source)
    assert [one.curve for one in again.elsewhere] == [{1: 5.0, 3: 0.5}, {1: 2.0}]


def test_our_own_table_and_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(small(tmp_path, searcher="random", num_samples=3), tmp_path / "run", quiet=True)
    capsys.readouterr()
    assert main(["trials", str(tmp_path / "run"), "--csv"]) == 0
    (tmp_path / "runs.csv").write_text(capsys.readouterr().out)
    own = read(str(tmp_path / "run"), LOSS)
    assert [len(r.curve) for r in own.trials] == [4, 4, 4]
    table = read(str(tmp_path / "runs.csv"), Objective("best", "min"))
    ours = [config for config, _ in fitted(own, SearchSpace(small(tmp_path).space), LOSS).rows]
    assert ours == [t.config for t in results.ledger.trials.values()]
    assert [c for c, _ in fitted(table, SearchSpace(small(tmp_path).space), LOSS).rows] == ours


# What fits -----------------------------------------------------------------------------------------------


def test_records_as_configs_of_a_space() -> None:
    space = SearchSpace(
        {
            "opt": {"lr": Float(0.0, 1.0, step=0.1), "name": Choice(["adam", "sgd"])},
            "units": Choice([32, 64]),
            "on": Choice([True, False]),
            "depth": Int(1, 4).when("on", "==", True),
            "seed": 7,
        }
    )

    def record(**values: Any) -> Record:
        return Record({"lr": 0.3, "name": "adam", "units": 32, "on": True, "depth": 2, **values}, {1: 1.0})

    records = Records(
        "there",
        [
            record(),
            record(lr="0.31", units=64.0, depth=3.0, seed=7, extra=1),
            record(on="False", seed=8, depth=99),
            record(lr=2.0),
            record(lr="much"),
            record(lr=True),
            record(units=48),
            record(depth=2.5),
            Record({"lr": 0.3, "name": "adam", "units": 32}, {1: 1.0}),
            Record({"a.lr": 0.3, "b.lr": 0.4, "name": "adam", "units": 32, "on": False}, {1: 1.0}),
        ],
    )
    found = fitted(records, space, LOSS)
    assert [config for config, _ in found.rows] == [
        {"opt": {"lr": 0.3, "name": "adam"}, "units": 32, "on": True, "depth": 2, "seed": 7},
        {"opt": {"lr": 0.3, "name": "adam"}, "units": 64, "on": True, "depth": 3, "seed": 7},
        {"opt": {"lr": 0.3, "name": "adam"}, "units": 32, "on": False, "seed": 7},
    ]
    assert found.unfit["opt.lr is not in [0, 1] step 0.1"] == 3
    assert found.text.startswith("7 left out: opt.lr is not in [0, 1] step 0.1 (3), ")
    assert "no value of on (1)" in found.text
    assert "no value of opt.lr (1)" in found.text
    assert "had another value of what is fixed here: seed in 1; not looked at: extra, a.lr, b.lr" in found.text


def test_curves_are_the_best_so_far_at_thirds() -> None:
    space = SearchSpace({"lr": Float(0, 1)})
    values = {e: float(e % 5 + 10 - e / 10) for e in range(1, 28)} | {1: math.nan}
    kept = fitted(Records("x", [Record({"lr": 0.5}, values)]), space, LOSS).rows[0][1]
    assert list(kept) == [1, 3, 9, 27]
    assert math.isnan(kept[1])
    assert kept[27] == min(v for v in values.values() if not math.isnan(v))
    single = fitted(Records("x", [Record({"lr": 0.5}, {20: 1.0})]), space, LOSS).rows[0][1]
    assert single == {20: 1.0}


# What a run makes of it ----------------------------------------------------------------------------------


def test_a_run_begins_with_what_is_known(tmp_path: Path) -> None:
    run(small(tmp_path, searcher="random", num_samples=20), tmp_path / "before", quiet=True)
    experiment = small(tmp_path, warm_start=[str(tmp_path / "before")])
    results = run(experiment, tmp_path / "run", quiet=True)
    told = list(results.of(EvidenceGiven))
    assert len(told) == 20
    said = [e.text for e in results.of(Noticed) if "trials of" in e.text]
    assert said == [f"20 trials of {tmp_path / 'before'}: bayesopt learns from them"]
    best = min(load_results(tmp_path / "before").ledger.trials.values(), key=lambda t: t.best or 9.0)
    assert results.ledger.trials["t00000"].config == best.config
    assert len(results.ledger.trials) == 4
    # It is in the journal: what it was read from may be gone, and what comes after follows from it.
    (tmp_path / "before" / "journal.jsonl").unlink()
    amend(tmp_path / "run", {"num_samples": 8})
    on = resume(tmp_path / "run", quiet=True)
    whole = run(
        small(tmp_path, num_samples=8, start_points=[t.config for t in list(on.ledger.trials.values())[:1]]),
        tmp_path / "cold",
        quiet=True,
    )
    assert [t.config for t in on.ledger.trials.values()] != [t.config for t in whole.ledger.trials.values()]
    assert on.ledger.evidence == {str(tmp_path / "before"): {json.dumps(e.config, sort_keys=True): 4 for e in told}}


def test_what_diverged_there_is_known_to_be_bad(tmp_path: Path) -> None:
    def diverging(config: dict[str, Any]) -> None:
        report({"loss": math.nan if config["lr"] > 0.01 else config["lr"]})

    fields = {"task": diverging, "max_epochs": 1}
    run(small(tmp_path, searcher="random", num_samples=12, fail_fast=None, **fields), tmp_path / "before", quiet=True)
    results = run(small(tmp_path, warm_start=[str(tmp_path / "before")], **fields), tmp_path / "run", quiet=True)
    told = list(results.of(EvidenceGiven))
    assert len(told) == 12
    assert any(math.isnan(e.curve[1]) for e in told)
    assert [t.config["lr"] < 0.01 for t in list(results.ledger.trials.values())[:1]] == [True]


def test_half_a_population_begins_with_the_best(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("lr,units,loss\n" + "".join(f"{0.001 + i / 1000},{8 + i},{i}\n" for i in range(20)))
    scheduler = {"name": "pbt", "interval": 2, "mutate": ["lr"]}
    experiment = small(
        tmp_path, searcher="random", scheduler=scheduler, num_samples=6, max_concurrent=6, warm_start=[path]
    )
    results = run(experiment, tmp_path / "run", quiet=True)
    begun = [t.config["units"] for t in results.ledger.trials.values()]
    assert [begun[i] for i in (0, 2, 4)] == [8, 9, 10] or {8, 9, 10} <= set(begun)
    assert any("half of the population of pbt begins" in e.text for e in results.of(Noticed))


def test_import_into_a_run_that_nobody_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("lr,units,loss\n0.01,9,1\n0.02,10,2\n5.0,10,2\n")
    run(small(tmp_path), tmp_path / "run", quiet=True)
    where = str(tmp_path / "run")
    capsys.readouterr()
    assert main(["import", where, "--from", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"2 trials of {path}: bayesopt learns from them; 1 left out: lr is not in [0.0001, 0.1] log (1)" in out
    assert main(["import", where, "--from", str(path)]) == 2
    assert "all its 2 trials were imported before" in capsys.readouterr().err
    with path.open("a") as file:
        file.write("0.03,11,3\n")
    assert main(["import", where, "--from", str(path)]) == 0
    assert "1 trial of" in (out := capsys.readouterr().out)
    assert "2 were imported before" in out
    assert len(list(load_results(where).of(EvidenceGiven))) == 3
    assert main(["best", where]) == 0
    assert f"evidence: 3 configs of {path}" in capsys.readouterr().out
    # A space that leaves some of it outside: the searcher is told of the rest.
    amend(where, {"space.lr": Float(0.015, 1e-1, "log"), "num_samples": "+3"})
    assert len(resume(where, quiet=True).ledger.trials) == 7


def test_a_thousand_trials(tmp_path: Path) -> None:
    url = optuna_study(tmp_path / "x.db", 1000)
    run(small(tmp_path, searcher="random"), tmp_path / "run", quiet=True)
    answer = import_trials(tmp_path / "run", f"optuna:{url}")
    assert answer.outcome is not None
    assert answer.outcome.startswith(f"1,000 trials of optuna:{url}: kept, but random makes no use of them")
    # (Configs that are the same were tried twice: both are known.)
    assert len(list(load_results(tmp_path / "run").of(EvidenceGiven))) == 1000


def damaged(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


WRONG = {
    "no such run": (lambda f: str(f / "nowhere"), "is no folder: must be RUN_DIR, optuna:URL#STUDY"),
    "no run": (str, "holds no run"),
    "itself": (lambda f: str(f / "run"), "is the run itself"),
    "itself, said otherwise": (lambda f: f"run:{f / 'run'}", "is the run itself"),
    "no table": (lambda f: str(f / "x.csv"), "no such file"),
    "a table of nothing": (lambda f: damaged(f, "y.csv", b""), "cannot be read"),
    "bytes": (lambda f: damaged(f, "z.csv", b"\xff\xfe\x00\x00,\x01\n"), "csv"),
    "no such column": (lambda f: damaged(f, "c.csv", b"lr,units,acc\n1,2,3\n"), "is reported by no trial of"),
    "text for a metric": (lambda f: damaged(f, "t.csv", b"lr,units,loss\n0.1,9,low\n"), "'low' is no number"),
    "no epoch": (lambda f: damaged(f, "e.csv", b"epoch,lr,units,loss\n1.5,0.1,9,1\n"), "'1.5' is no epoch"),
    "nothing fits": (lambda f: damaged(f, "n.csv", b"lr,units,loss\n9,9,1\n"), "1 left out: lr is not in"),
    "no trial": (lambda f: damaged(f, "o.csv", b"lr,units,loss\n"), "holds no trial"),
    "no database": (lambda f: f"optuna:sqlite:///{f / 'none.db'}", "no such database"),
    "no journal": (lambda f: f"optuna:{f / 'none.log'}", "no such file"),
    "a damaged database": (
        lambda f: f"optuna:sqlite:///{damaged(f, 'd.db', b'SQLite format 3' + b'x' * 99)}",
        "cannot",
    ),
    "a database of others": (lambda f: f"optuna:sqlite:///{f / 'others.db'}", "cannot be read"),
    "no such study": (lambda f: f"optuna:{optuna_study(f / 's.db', 1)}#mine", "has no study 'mine'; there are study"),
    "no driver": (lambda f: "optuna:nosuch://host/db", "cannot be read"),
    "no results": (lambda f: f"ray:{f / 'none'}", "is no folder"),
    "no trials there": (lambda f: f"ray:{f / 'run'}", "holds no trial of Ray Tune's"),
    "a damaged trial": (lambda f: f"ray:{f / 'ray'}", "cannot be read"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    run(small(folder), folder / "run", quiet=True)
    (folder / "ray" / "trial").mkdir(parents=True)
    (folder / "ray" / "trial" / "params.json").write_text("{")
    connection = sqlite3.connect(folder / "others.db")
    connection.execute("create table t (x)")
    connection.close()
    return folder


@pytest.mark.parametrize(("source", "said"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_line_and_changes_nothing(
    begun: Path, capsys: pytest.CaptureFixture[str], source: Any, said: str
) -> None:
    named, journal = source(begun), begun / "run" / "journal.jsonl"
    before = journal.read_bytes()
    assert main(["import", str(begun / "run"), "--from", named]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert journal.read_bytes() == before or "import" in before.decode(errors="replace")
    if said == "is the run itself":
        return  # as what another begins with it is one
    with pytest.raises(ExperimentError, match=r"warm_start\[0\]") as found:
        run(small(begun, warm_start=[named]), begun / "new", quiet=True)
    assert "\n" not in str(found.value)
    assert not (begun / "new").exists()


def test_a_list_is_asked_for(tmp_path: Path) -> None:
    for given in ("run", [1], [""]):
        with pytest.raises(ExperimentError, match="warm_start"):
            small(tmp_path, warm_start=given)


def test_evidence_travels_as_json() -> None:
    one = Evidence({"lr": 0.1}, {1: math.nan, 3: 2.0}, "there")
    again = Evidence.from_json(json.loads(json.dumps(one.to_json())))
    assert again.curve[3] == 2.0
    assert math.isnan(again.curve[1])
