"""Spaces as other tuners write them: refused by name, with ours beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Float
from raytune_hpo.cli.main import main
from raytune_hpo.space import SearchSpace


def line(value: Any) -> str:
    with pytest.raises(ExperimentError) as raised:
        SearchSpace({"units": Float(0, 1), "model": {"lr": value}})
    text = str(raised.value)
    assert "\n" not in text
    assert text.startswith("space.model.lr = ")
    return text.removeprefix("space.model.lr = ")


def test_a15_grid_search_beside_a_real_parameter() -> None:
    tune = pytest.importorskip("ray.tune")
    expected = 'grid_search([1, 2]): is Ray Tune\'s; ours is Choice([1, 2]), with searcher="grid"'
    assert line(tune.grid_search([1, 2])) == expected


def test_a16_parameters_of_ray_tune() -> None:
    tune = pytest.importorskip("ray.tune")
    ours = {
        "Float(0.0, 1.0)": tune.uniform(0, 1),
        'Float(1e-05, 0.1, scale="log")': tune.loguniform(1e-5, 0.1),
        "Choice(['a', 'b'])": tune.choice(["a", "b"]),
        "Int(0, 4)": tune.randint(0, 5),  # without its upper end
        "Int(0, 10, step=2)": tune.qrandint(0, 10, 2),  # with it
        'Int(1, 99, scale="log")': tune.lograndint(1, 100),
        "Float(0.0, 0.5, step=0.25)": tune.quniform(0, 0.5, 0.25),
        'Float(0.0005, 0.1, scale="log", step=0.0005)': tune.qloguniform(5e-4, 0.1, 5e-4),
        "Int(2, 8, step=2)": tune.quniform(2, 8, 2),
    }
    for written, theirs in ours.items():
        assert line(theirs).endswith(f": is Ray Tune's; ours is {written}")
        eval(written, {name: getattr(__import__("raytune_hpo"), name) for name in ("Float", "Int", "Choice")})
    assert line(tune.loguniform(1e-5, 0.1)).startswith("loguniform(1e-05, 0.1): is Ray Tune's")
    assert "has no equal here: ours have bounds, such as Float(-2.0, 2.0)" in line(tune.randn(0, 1))
    assert "has no equal here: compute it" in line(tune.sample_from(lambda config: 1))


def test_b13_dictionaries_of_other_tuners(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = {
        "Choice([8, 16])": {"values": [8, 16]},
        "Int(1, 9) (a constant of these keys needs other names)": {"min": 1, "max": 9},
        'Float(0.001, 0.1, scale="log")': {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1},
        "Int(0, 10, step=5)": {"distribution": "q_uniform", "min": 0, "max": 10, "q": 5},
    }
    for written, theirs in ours.items():
        assert line(theirs).endswith(f"is Weights & Biases'; ours is {written}")
    assert line({"_type": "quniform", "_value": [0, 8, 4]}).endswith("is NNI's; ours is Int(0, 8, step=4)")
    assert line({"_type": "choice", "_value": ["a", "b"]}).endswith("is NNI's; ours is Choice(['a', 'b'])")
    assert line({"type": "range", "bounds": [0.0, 1.5]}).endswith("is Ax's; ours is Float(0.0, 1.5)")

    file = tmp_path / "exp.py"
    file.write_text(
        "from raytune_hpo import Experiment, Float\n"
        "def train(config): ...\n"
        "experiment = Experiment(name='x', task=train, metric='loss', mode='min',\n"
        "    space={'a': Float(0, 1), 'lr': {'_type': 'uniform', '_value': [0, 1]}})\n"
    )
    assert main(["validate", str(file)]) == 2
    assert "space.lr = uniform(0, 1): is NNI's; ours is Float(0.0, 1.0)" in capsys.readouterr().err


def test_near_b13_a_dictionary_of_other_keys_is_a_part_of_the_config() -> None:
    kept = (
        {"values": [1, 2], "unit": "px"},
        {"min": 0, "max": 5, "clip": True},
        {"distribution": "pareto", "shape": 2},
        {"type": "range"},
        {"value": 3},
        {"min": 1},
    )
    for tree in kept:
        space = SearchSpace({"a": Float(0, 1), "part": tree})
        assert space.build({"a": 0.5})["part"] == tree
    nested = SearchSpace({"range": {"min": Float(0, 1), "max": 2}})
    assert nested.paths == ("range.min",)
    assert SearchSpace({"a": Float(0, 1), "betas": [0.9, 0.99]}).constants["betas"] == [0.9, 0.99]


def test_near_b13_a_space_that_was_recorded_before_is_read_as_it_is() -> None:
    recorded = {"parameters": {"a": Float(0, 1).to_json()}, "constants": {"clip.min": 0, "clip.max": 1}}
    space = SearchSpace.from_json(recorded)
    assert space.build({"a": 0.5}) == {"clip": {"min": 0, "max": 1}, "a": 0.5}
    assert space.with_constant("clip.max", 2).constants == {"clip.min": 0, "clip.max": 2}


def test_near_a16_parameters_of_hyperopt() -> None:
    hp = pytest.importorskip("hyperopt").hp
    ours = {
        "Float(0.0, 1.0)": hp.uniform("x", 0, 1),
        'Float(1.0, 2.718281828459045, scale="log")': hp.loguniform("x", 0, 1),
        "Int(1, 9)": hp.uniformint("x", 1, 9),
        "Int(0, 4)": hp.randint("x", 5),
        "Choice(['a', 'b'])": hp.choice("x", ["a", "b"]),
        "Choice([1, 2])": hp.pchoice("x", [(0.2, 1), (0.8, 2)]),
    }
    for written, theirs in ours.items():
        assert line(theirs).endswith(f"is hyperopt's; ours is {written}")
    assert "has no equal here" in line(hp.lognormal("x", 0, 1))


def test_near_a16_distributions_of_optuna_and_scipy() -> None:
    optuna = pytest.importorskip("optuna").distributions
    stats = pytest.importorskip("scipy.stats")
    ours = {
        'Float(1e-05, 0.1, scale="log")': [optuna.FloatDistribution(1e-5, 0.1, log=True), stats.loguniform(1e-5, 0.1)],
        "Int(1, 9, step=2)": [optuna.IntDistribution(1, 9, step=2)],
        "Choice(['a', 'b'])": [optuna.CategoricalDistribution(["a", "b"])],
        "Float(1.0, 3.0)": [stats.uniform(1, 2)],
        "Int(0, 4)": [stats.randint(0, 5)],
    }
    for written, theirs in ours.items():
        for value in theirs:
            assert line(value).endswith(f"ours is {written}")
    assert "has no equal here" in line(stats.expon())


def test_near_a16_libraries_that_are_not_installed() -> None:
    """Known by module and class alone: ConfigSpace, scikit-optimize, FLAML."""

    def like(module: str, name: str, **attributes: Any) -> Any:
        return type(name, (), {"__module__": module, **attributes})()

    integer = like(
        "ConfigSpace.hyperparameters.uniform_integer", "UniformIntegerHyperparameter", lower=1, upper=8, log=True
    )
    assert line(integer).endswith('is ConfigSpace\'s; ours is Int(1, 8, scale="log")')
    real = like("skopt.space.space", "Real", low=1e-3, high=1.0, prior="log-uniform")
    assert line(real).endswith('is scikit-optimize\'s; ours is Float(0.001, 1.0, scale="log")')
    flaml = like("flaml.tune.sample", "Float", lower=0, upper=1, sampler=None)
    assert line(flaml) == "uniform(0, 1): is FLAML's; ours is Float(0.0, 1.0)"
    other = like("ConfigSpace.hyperparameters.beta", "OfTheFuture")
    assert "is ConfigSpace's; has no equal here" in line(other)


def test_near_a16_ranges_sets_and_lists() -> None:
    assert line(range(1, 9)) == "range(1, 9): is no parameter; ours is Int(1, 8)"
    assert line(range(0, 9, 4)) == "range(0, 9, 4): is no parameter; ours is Int(0, 8, step=4)"
    assert line({2, 1}).endswith("is no plain JSON value; ours is Choice([1, 2])")
    with pytest.raises(ExperimentError, match=r"a list is a constant: Choice\(\[...\]\) searches its values"):
        SearchSpace({"lr": [0.1, 0.01]})


def test_near_a16_inside_a_choice_or_a_list() -> None:
    tune = pytest.importorskip("ray.tune")
    assert "is Ray Tune's; ours is Float(0.0, 1.0)" in line([1, tune.uniform(0, 1)])
    with pytest.raises(ExperimentError, match="is Ray Tune's"):
        Experiment(name="x", task="digits", space={"lr": {"deep": {"er": tune.randint(0, 5)}}}).resolved  # noqa: B018
