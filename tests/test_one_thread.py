"""one_thread: what thinks beside trainings leaves their cores alone, and gives back what it took."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from raytune_hpo import search
from raytune_hpo.objective import Objective
from raytune_hpo.one_thread import one_thread
from raytune_hpo.search import surrogates
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Float
from raytune_hpo.states import Outcome


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_the_libraries_have_their_threads_again() -> None:
    with one_thread():  # which loads them
        pass
    before = threads()
    with one_thread():
        assert threads() == {1}
        with one_thread():
            pass
        assert threads() == {1}
    assert threads() == before


def test_a_suggestion_is_thought_of_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    solve = surrogates.solve
    monkeypatch.setattr(surrogates, "solve", lambda *a: seen.append(threads()) or solve(*a))
    algorithm = search.build(
        "bayesopt", {"n_initial": 3}, SearchSpace({"x": Float(0, 1)}), Objective("loss", "min"), max_epochs=9, seed=0
    )
    for i, x in enumerate(np.random.default_rng(0).random(5)):
        algorithm.replay(f"t{i}", {"x": float(x)})
        algorithm.observe(f"t{i}", Outcome.COMPLETED, float(x), 9)
    algorithm.suggest("t5")
    assert seen
    assert all(found == {1} for found in seen)
