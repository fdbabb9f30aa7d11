"""Our algorithms as Ray searchers, and Ray searchers as ours."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from ray import tune
from ray.tune.search import Searcher

from raytune_hpo import search
from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Objective
from raytune_hpo.search.ray_searcher import ForeignSearch, RaySearcher
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.testing.searchers import tell

SPACE = SearchSpace({"x": Float(0, 1), "m": {"k": Choice(["a", "b"])}, "c": [1, 2]})


def ours(metric="loss", mode="min", name="hyperopt"):
    options = {"n_initial": 3} if name != "grid" else {}
    return RaySearcher(search.build(name, options, SPACE, Objective(metric, mode), max_epochs=9, seed=1))


def test_save_and_restore_go_on_exactly(tmp_path):
    whole = ours()
    for i in range(8):
        config = whole.suggest(f"t{i}")
        config["x"] = "a trial may write into its config"
        if i % 3 != 1:
            whole.on_trial_complete(f"t{i}", {"loss": float(i)}, error=i == 3)
    path = tmp_path / "searcher.json"
    whole.save(str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["searcher.json"]
    assert json.loads(path.read_text())["metric"] == "loss"
    resumed = ours()
    resumed.restore(str(path))
    assert resumed.algorithm.history[3].failed
    with pytest.raises(ExperimentError, match="was saved for"):
        ours(metric="acc").restore(str(path))
    assert [resumed.suggest(f"n{i}") for i in range(5)] == [whole.suggest(f"n{i}") for i in range(5)]
    assert pickle.loads(pickle.dumps(whole)).suggest("z") == resumed.suggest("z")


def test_a_cut_file_is_one_clear_error(tmp_path):
    path = tmp_path / "searcher.json"
    for text in ("", '{"metric": "lo', "[]", '{"metric": "loss", "mode": "max", "algorithm": {}}'):
        path.write_text(text)
        with pytest.raises(ExperimentError, match="checkpoint_path"):
            ours().restore(str(path))


def test_the_end_and_failures():
    searcher = ours(name="grid")
    for i in range(10):
        assert isinstance(searcher.suggest(f"t{i}"), dict)
    assert searcher.suggest("more") == Searcher.FINISHED
    searcher.on_trial_complete("t0", {"other": 1.0})
    searcher.on_trial_complete("t1", None, error=True)
    searcher.on_trial_complete("t2", {"loss": np.float32(2.0)})
    searcher.on_trial_complete("t3", {"loss": float("nan")})
    history = searcher.algorithm.history
    assert [s.failed for s in history[:4]] == [True, True, False, True]
    assert [s.outcome for s in history[:4]] == ["failed", "failed", "stopped", "diverged"]


def test_reports_reach_the_algorithm_and_the_end_says_how_it_was(tmp_path):
    """As Ray calls: the result at which a trial is stopped comes with its end only, that of a return comes twice."""
    objective = Objective("acc", "max")

    def fresh():
        return RaySearcher(search.build("bohb", {}, SPACE, objective, max_epochs=3, seed=1))

    def result(epoch, value, **more):
        return {"acc": value, "training_iteration": epoch, **more}

    searcher = fresh()
    for name in ("whole", "returned", "stopped", "paused", "raised", "diverged"):
        searcher.suggest(name)
        searcher.on_trial_result(name, result(1, 0.5))
    searcher.on_trial_result("whole", result(2, 0.9))
    searcher.on_trial_result("whole", result(2, 0.9))  # again, from a checkpoint
    searcher.save(str(tmp_path / "state"))
    searcher = fresh()
    searcher.restore(str(tmp_path / "state"))
    searcher.on_trial_complete("whole", result(3, 0.7, done=True))
    searcher.on_trial_complete("returned", result(1, 0.5, done=True))
    searcher.on_trial_complete("stopped", result(2, 0.4, done=True))
    searcher.on_trial_complete("paused")
    searcher.on_trial_complete("raised", error=True)
    searcher.on_trial_complete("diverged", result(2, float("nan"), done=True))
    assert {s.trial_id: (s.outcome, s.epoch, None if s.failed else s.value) for s in searcher.algorithm.history} == {
        "whole": ("completed", 3, -0.9),
        "returned": ("completed", 1, -0.5),
        "stopped": ("stopped", 2, -0.5),
        "paused": ("stopped", 1, -0.5),
        "raised": ("failed", 1, None),
        "diverged": ("diverged", 2, None),
    }
    assert searcher.algorithm.history[0].marks == [-0.5, -0.9]  # at epochs 1 and 3
    assert searcher.algorithm.history[2].marks == [-0.5]


def test_search_properties():
    searcher = ours(metric="acc")
    assert searcher.set_search_properties("acc", "min", {})
    for metric, mode, config in (("loss", "min", {}), ("acc", "max", {}), ("acc", "min", {"lr": 1})):
        with pytest.raises(ExperimentError):
            searcher.set_search_properties(metric, mode, config)


OWN = SearchSpace({"x": Float(0.0, 1.0), "m": {"n": Int(0, 9), "t": [1, True]}})


class Foreign(Searcher):
    """A seeded random searcher that answers with numpy scalars and tuples, as some do."""

    def __init__(self, seed, leak=False, **kwargs):
        super().__init__(**kwargs)
        self.rng = np.random.default_rng(seed)
        self.leak = leak
        self.told = []

    def suggest(self, trial_id):
        if len(self.told) >= 3:
            return Searcher.FINISHED
        inner = tune.uniform(0, 1) if self.leak else np.int64(self.rng.integers(10))
        return {"x": self.rng.random(dtype=np.float32), "m": {"n": inner, "t": (1, np.bool_(True))}}

    def set_search_properties(self, metric, mode, config, **spec):
        return False  # it has a space of its own

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.told.append((trial_id, result, error))


def test_a_foreign_searcher_is_driven_and_replayed():
    first = ForeignSearch(Foreign(1, metric="acc", mode="max"), OWN, Objective("acc", "max"))
    configs = [first.suggest(f"t{i}") for i in range(3)]
    assert {type(v) for c in configs for v in (c["x"], c["m"]["n"], c["m"]["t"], c["m"]["t"][1])} == {
        float,
        int,
        list,
        bool,
    }
    second = ForeignSearch(Foreign(1, metric="acc", mode="max"), OWN, Objective("acc", "max"))
    for i in range(2):
        second.replay(f"t{i}", json.loads(json.dumps(configs[i])))
    tell(second, "t0", 0.5)
    tell(second, "t1", float("nan"))
    assert second.searcher.told == [("t0", {"acc": 0.5}, False), ("t1", None, True)]
    assert second.suggest("t2") == configs[2]
    tell(second, "t2", 1.0)
    assert second.suggest("t3") is None
    assert second.exhausted
    other = ForeignSearch(Foreign(2, metric="acc", mode="max"), OWN, Objective("acc", "max"))
    with pytest.raises(ExperimentError, match="same options and seed"):
        other.replay("t0", configs[0])


def test_what_a_foreign_searcher_must_not_do():
    with pytest.raises(ExperimentError, match=r"config\.m\.n.*no plain value"):
        ForeignSearch(Foreign(1, leak=True, metric="a", mode="min"), OWN, Objective("a", "min")).suggest("t0")
    with pytest.raises(ExperimentError, match="metric='loss'"):
        ForeignSearch(Foreign(1, metric="acc", mode="max"), OWN, Objective("loss", "max"))
    with pytest.raises(ExperimentError, match=r"ray\.tune\.search\.Searcher"):
        ForeignSearch(object(), OWN, Objective("loss", "max"))


def tuned(searcher, tmp_path, trainable, samples, **config):
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            metric="loss",
            mode="min",
            num_samples=samples,
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), name="run", verbose=0, **config),
    )
    results = tuner.fit()
    assert len(results) == samples
    assert results.num_errors == 0
    assert len(searcher.algorithm.observed()) == samples
    found = {s.trial_id: s for s in searcher.algorithm.history}
    for result in results:
        assert result.config == found[result.metrics["trial_id"]].config
        SPACE.check(result.config)
    return results, found


def test_a_plain_tuner_runs_our_searcher(ray_session, tmp_path):
    def trainable(config):  # local, so that it travels to the workers by value
        tune.report({"loss": (config["x"] - 0.3) ** 2 + (config["m"]["k"] == "b")})

    _, found = tuned(ours(), tmp_path, trainable, 6)
    assert {s.outcome for s in found.values()} == {"completed"}


def test_in_a_plain_tuner_bohb_hears_the_reports(ray_session, tmp_path):
    def trainable(config):
        for epoch in range(1, 4):
            tune.report({"loss": (config["x"] - 0.3) ** 2 + 1 / epoch})

    searcher = RaySearcher(search.build("bohb", {}, SPACE, Objective("loss", "min"), max_epochs=3, seed=1))
    _, found = tuned(searcher, tmp_path, trainable, 6)
    for s in found.values():
        bowl = (s.config["x"] - 0.3) ** 2
        assert s.marks == pytest.approx([bowl + 1, bowl + 1 / 3])
        assert (s.outcome, s.epoch, s.value) == ("completed", 3, s.marks[-1])
    assert searcher.algorithm.split() is not None


def test_in_a_plain_tuner_rounds_end_at_their_share(ray_session, tmp_path):
    def trainable(config):  # it would train for much longer
        for epoch in range(1, 100):
            tune.report({"loss": (config["x"] - 0.3) ** 2 + 1 / epoch})

    options = {"rounds": 2, "samples": 4, "growth": 3.0}
    algorithm = search.build("coarse_to_fine", options, SPACE, Objective("loss", "min"), max_epochs=6, seed=1)
    searcher = RaySearcher(algorithm)
    results, found = tuned(searcher, tmp_path, trainable, 8, stop=searcher.stopper())
    assert [s.epoch for s in algorithm.history] == [2] * 4 + [6] * 4
    assert {s.outcome for s in algorithm.history} == {"completed"}
    for result in results:
        assert result.metrics["training_iteration"] == found[result.metrics["trial_id"]].epoch
    # What is carried over has its config, and trains from scratch.
    carried = algorithm.history[4]
    assert algorithm.plan_of(4).parent is not None
    assert carried.config == found[algorithm.plan_of(4).parent].config
