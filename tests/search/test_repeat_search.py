"""RepeatSearch: every start point as often as asked, one repetition of all before the next."""

from __future__ import annotations

import json

import pytest

from raytune_hpo import Experiment, ExperimentError, Float
from raytune_hpo.search import SearchAlgorithm
from raytune_hpo.space import SearchSpace
from raytune_hpo.testing.searchers import make, tell

POINTS = [{"x": 0.2}, {"x": 0.8}, {"x": 0.2}]


def build(**options: int) -> SearchAlgorithm:
    space = SearchSpace({"x": Float(0, 1)})
    return make("repeat", options, space, mode="min", seed=0, start_points=POINTS)


def test_all_configs_come_before_the_first_comes_again() -> None:
    algorithm = build(repeats=3)
    assert algorithm.total() == 9
    plans, configs = [], []
    for number in range(9):
        plans.append(algorithm.plan())
        configs.append(algorithm.suggest(f"t{number}"))
    assert [plan.repeat for plan in plans] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {(plan.share, plan.parent) for plan in plans} == {(1.0, None)}
    assert configs == POINTS * 3  # one given twice is trained twice as often
    assert algorithm.suggest("t9") is None
    assert algorithm.exhausted


@pytest.mark.parametrize("how", ["state", "replay"])
def test_it_goes_on_where_it_was(how: str) -> None:
    whole, resumed = build(repeats=2), build(repeats=2)
    for number in range(4):
        whole.suggest(f"t{number}")
    tell(whole, "t1", None)
    if how == "state":
        resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    else:
        for s in whole.history:
            resumed.replay(s.trial_id, s.config)
        tell(resumed, "t1", None)
    assert resumed.state_dict() == whole.state_dict()
    rest = [resumed.suggest(f"t{n}") for n in range(4, 7)]
    assert rest == [whole.suggest(f"t{n}") for n in range(4, 7)] == [POINTS[1], POINTS[2], None]


def test_in_an_experiment() -> None:
    fields = {"name": "r", "task": "digits", "space": {"lr": Float(1e-3, 1e-1, "log"), "batch_size": 64}}
    made = Experiment(**fields, searcher={"name": "repeat", "repeats": 4}, start_points=[{"lr": 0.01}, {"lr": 0.02}])
    assert made.resolved.num_samples == 8
    assert Experiment.from_json(made.to_json()).resolved == made.resolved
    with pytest.raises(ExperimentError, match="start_points"):
        Experiment(**fields, searcher="repeat")
    with pytest.raises(ExperimentError, match=r"searcher\.repeats"):
        Experiment(**fields, searcher={"name": "repeat", "repeats": 0}, start_points=[{"lr": 0.01}])
