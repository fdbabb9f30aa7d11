"""Spaces that are larger than a search can think about are refused when the experiment is built; warnings stay."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytune_hpo import Choice, Experiment, ExperimentError, Float, Int
from raytune_hpo.cli.main import main
from raytune_hpo.objective import Objective
from raytune_hpo.search import build
from raytune_hpo.space import SearchSpace
from raytune_hpo.states import Outcome


def train(config: dict[str, Any]) -> None: ...


def resolved(space: dict[str, Any], searcher: Any, **fields: Any) -> Any:
    given = {"name": "size", "task": train, "metric": "loss", "mode": "min", **fields}
    return Experiment(space=space, searcher=searcher, **given).resolved


def floats(count: int) -> dict[str, Any]:
    return {f"x{i}": Float(0.0, 1.0) for i in range(count)}


MANY = {"a": Choice(list(range(10_000))), "b": Float(0.0, 1.0)}


@pytest.mark.parametrize(
    ("searcher", "space", "text"),
    [
        ("cmaes", floats(501), "500 numbers, and this space has 501"),
        ("bayesopt", MANY, "1,000 columns (a parameter is one, an unordered Choice one an option), and this space has"),
        ("bayesopt", floats(1001), "this space has 1,001"),
        ({"name": "bayesopt", "surrogate": "sampled_gp"}, floats(401), "400 columns"),
        ("hyperopt", MANY, "1,000 parameters (ten options of an unordered Choice count as one)"),
        ("bohb", floats(1001), "1,000 parameters, and"),
        ({"name": "random", "sampler": "sobol"}, floats(21_202), "searcher.sampler = 'sobol': has 21,201 parameters"),
    ],
)
def test_c20_a_space_too_large_for_its_searcher(searcher: Any, space: dict[str, Any], text: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        resolved(space, searcher)
    assert text in str(raised.value)
    assert str(raised.value).startswith("searcher")


def test_c20_and_validate_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "exp.py"
    file.write_text(
        "from raytune_hpo import Choice, Experiment, Float\n"
        "def train(config): ...\n"
        "experiment = Experiment(name='x', task=train, metric='loss', mode='min', searcher='bayesopt',\n"
        "    space={'a': Choice(list(range(10_000))), 'b': Float(0, 1)})\n"
    )
    assert main(["validate", str(file)]) == 2
    error = capsys.readouterr().err
    assert "searcher = 'bayesopt': takes about a second a suggestion for 1,000 columns" in error
    assert "take evolutionary, coarse_to_fine or random" in error


def test_near_c20_the_others_take_them_and_an_ordered_choice_is_one() -> None:
    for searcher in ("evolutionary", "coarse_to_fine", "random", "optuna"):
        resolved(MANY, searcher)
    resolved({"a": Choice(list(range(10_000)), ordered=True), "b": Float(0.0, 1.0)}, "bayesopt")
    resolved(floats(500), "cmaes")


def suggested(searcher: str, space: SearchSpace, finished: int) -> float:
    """Seconds of this process for one suggestion after so many finished trials."""
    search = build(searcher, {}, space, Objective("loss", "min"), max_epochs=1, seed=0)
    for i in range(finished):
        config = space.sample(np.random.default_rng(i))
        search.replay(f"t{i}", config)
        search.observe(f"t{i}", Outcome.COMPLETED, float(i % 7), 1)
    began = time.process_time()
    assert search.suggest("next") is not None
    return time.process_time() - began


def test_near_c20_cmaes_does_not_try_for_ever_to_draw_within_the_cube() -> None:
    suggested("cmaes", SearchSpace(floats(2)), 12)  # imports
    # 9 s of it before; a tenth of that leaves room for any machine.
    assert suggested("cmaes", SearchSpace(floats(500)), 40) < 3


def test_near_c20_so_many_options_are_not_compared_with_one_another() -> None:
    began = time.process_time()
    choice = Choice([*range(50_000), True, "1", [1], [2]])
    assert time.process_time() - began < 5  # 50 s before
    assert choice.n == 50_004
    for twice in ([1, 2, 1.0], [[1], [1]], ["a", "a"], [{"a": 1}, {"a": 1}]):
        with pytest.raises(ExperimentError, match="stands in the list twice"):
            Choice(twice)


def test_near_c20_numbers_of_trials() -> None:
    with pytest.raises(ExperimentError, match="num_samples = 10000000: is the population of pbt"):
        resolved({"lr": Float(0.0, 1.0)}, "random", scheduler={"name": "pbt", "mutate": ["lr"]}, num_samples=10**7)
    for field in ("num_samples", "max_epochs"):
        with pytest.raises(ExperimentError, match=f"{field} = .*must be an integer from 1 to 1000000000"):
            resolved({"lr": Float(0.0, 1.0)}, "random", **{field: 10**400})
    with pytest.raises(ExperimentError, match="the grid would have over 100,000 points"):
        resolved({f"x{i}": Int(1, 10) for i in range(9)}, {"name": "grid", "points": 10})


def test_c20_a_search_that_thinks_hides_no_warning_of_a_trial_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inline, a trial trains in another thread while the driver's search thinks: filters are the process's."""
    from raytune_hpo.search import hyperopt_search

    hyperopt = hyperopt_search.imported_hyperopt()
    plain = hyperopt.tpe.suggest

    def beside(*arguments: Any, **options: Any) -> Any:
        warnings.warn("of a trial", UserWarning, stacklevel=1)
        return plain(*arguments, **options)

    monkeypatch.setattr(hyperopt.tpe, "suggest", beside)
    with pytest.warns(UserWarning, match="of a trial"):
        suggested("hyperopt", SearchSpace(floats(2)), 12)
