"""Ray Tune's own searchers as objects: over this package's space, conditions and all, through crashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search.hyperopt import HyperOptSearch
from ray.tune.search.optuna import OptunaSearch

from raytune_hpo import Experiment, ExperimentError
from raytune_hpo.engine.run import resume
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.testing.schedulers import check_same_table, check_sound
from raytune_hpo.testing.simulation import METRIC, Simulation, make_experiment

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's searchers warn of Optuna's experimental arguments

SEARCHERS = {
    "optuna": lambda: OptunaSearch(seed=1),
    "hyperopt": lambda: HyperOptSearch(random_state_seed=1, n_initial_points=4),
}


def experiment(name: str, **fields: Any) -> Experiment:
    return make_experiment("asha", samples=14, epochs=4, searcher=SEARCHERS[name](), **fields)


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_config_lies_in_the_space_and_crashes_change_nothing(name: str) -> None:
    exp = experiment(name)
    calm = Simulation(exp).run()
    check_sound(calm)
    kinds = {t.config["model"]["kind"] for t in calm.trials}
    assert len(kinds) > 1
    for trial in calm.trials:
        assert ("extra" in trial.config) == (trial.config["model"]["kind"] == "b")
    for step in range(3, calm.appends, 19):
        crashed = Simulation(exp, crash_steps={step}).run()
        check_sound(crashed)
        check_same_table(calm, crashed)


def test_it_is_named_in_the_run_and_must_be_passed_again(tmp_path: Path) -> None:
    exp = experiment("optuna")
    document = json.loads(json.dumps(exp.to_json()))
    assert document["searcher"] == {"name": "foreign", "class": "ray.tune.search.optuna.optuna_search:OptunaSearch"}
    again = Experiment.from_json(document)
    with pytest.raises(ExperimentError, match=r"resume\(run_dir, searcher="):
        again.resolved.new_search()
    with_it = Experiment.from_json(document, given={"searcher": SEARCHERS["optuna"]()}).resolved
    assert with_it.new_search().suggest("t00000") == exp.resolved.new_search().suggest("t00000")
    directory = RunDirectory.create(tmp_path / "run", document, None)
    directory.unlock()
    with pytest.raises(ExperimentError, match=r"OptunaSearch.*was an object"):
        resume(tmp_path / "run")


def test_a_searcher_with_a_space_of_its_own_must_stay_in_the_experiments() -> None:
    from ray import tune

    own = {"x": tune.uniform(2.0, 3.0), "model": {"units": 8, "kind": "a"}}
    with pytest.raises(ExperimentError, match=r"config\.x"):
        make_experiment(
            "fifo", samples=3, epochs=1, searcher=OptunaSearch(own, metric=METRIC, mode="max")
        ).resolved.new_search().suggest("t00000")


def test_what_is_no_searcher_is_refused_without_ray() -> None:
    for wrong in (object(), OptunaSearch, 3):
        with pytest.raises(ExperimentError, match="searcher"):
            make_experiment("fifo", samples=3, epochs=1, searcher=wrong)
