"""What every search algorithm must do, whatever it is: checks, and a class of tests.

    class TestMine(SearcherContract):
        case = Case(Mine, quick={"n_initial": 2}, tiny={"n_initial": 2})

Each check takes a Case and fails with an AssertionError. None of them knows an algorithm by name.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from raytune_hpo import search
from raytune_hpo.objective import Objective
from raytune_hpo.search import Search, SearchAlgorithm, searcher_class
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config, config_key, flatten
from raytune_hpo.space.grid import number_of_configs
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.states import Outcome
from raytune_hpo.testing.functions import FUNCTIONS
from raytune_hpo.testing.spaces import nasty_space, nasty_value, six_configs, small_space, small_value

PLAIN = (bool, int, float, str, list, dict, type(None))


@dataclass(frozen=True)
class Case:
    """One algorithm, by name or class, with options. beats_random: claims to; seeded: other seeds give other
    suggestions; budget_s: for 1,000 trials. quick: options that shorten the random phase, so that the model speaks
    early; tiny: likewise for a space of six configs; late: options for 1,000 trials, by which a costly model speaks of
    many trials without having suggested all of them.
    """

    searcher: str | type[SearchAlgorithm]
    options: dict[str, Any] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)
    tiny: dict[str, Any] = field(default_factory=dict)
    late: dict[str, Any] = field(default_factory=dict)
    beats_random: bool = False
    seeded: bool = True
    budget_s: float = 60.0

    @property
    def name(self) -> str:
        return searcher_class(self.searcher).name

    def build(
        self, space: SearchSpace, *, seed: int = 1, mode: Any = "min", start: Any = (), **more: Any
    ) -> SearchAlgorithm:
        return make(self.searcher, {**self.options, **more}, space, seed=seed, mode=mode, start_points=start)

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.options.values())])


def make(
    searcher: Any,
    options: Any,
    space: SearchSpace,
    *,
    mode: Any = "min",
    seed: int = 0,
    start_points: Any = (),
    max_epochs: int = 27,
) -> SearchAlgorithm:
    objective = Objective("loss", mode)
    return search.build(
        searcher, options, space, objective, max_epochs=max_epochs, seed=seed, start_points=list(start_points)
    )


def tell(algorithm: Search, trial_id: str, value: float | None, epoch: int = 1) -> None:
    """The end of a trial, as its value says: None if it failed, not finite if it diverged."""
    outcome = Outcome.FAILED if value is None else Outcome.COMPLETED if math.isfinite(value) else Outcome.DIVERGED
    algorithm.observe(trial_id, outcome, value, epoch)


def play(
    algorithm: SearchAlgorithm, value: Callable[[Config], float | None], first: int, last: int, lag: int = 0
) -> list[Config | None]:
    """Suggest numbers first..last-1, each result told `lag` suggestions late, newest of three first; all that are
    left at once where the algorithm waits for them."""
    configs: list[Config | None] = []
    for number in range(first, last):
        configs.append(algorithm.suggest(f"t{number}"))
        if configs[-1] is None and not algorithm.exhausted:
            for waited in reversed(algorithm.pending()):
                tell(algorithm, waited.trial_id, value(waited.config))
            configs[-1] = algorithm.suggest(f"t{number}")
        if configs[-1] is None:  # a grid may end
            break
        late = number - lag
        if late >= 0 and late % 3 == 2:  # told out of order, so that the order of observation matters
            for told in (late, late - 2, late - 1):
                suggestion = algorithm.history[told]
                tell(algorithm, f"t{told}", value(suggestion.config))
    return configs


def check_inside_the_space(case: Case) -> None:
    space = nasty_space()
    algorithm = case.build(space, **case.quick)
    for number in range(100):
        config = algorithm.suggest(f"t{number}")
        assert config is not None
        space.check(config)
        assert json.loads(json.dumps(config)) == config
        for path, leaf in flatten(config).items():
            assert type(leaf) in PLAIN, (path, type(leaf))
        momentum = config["optimizer"].get("momentum")
        assert (momentum is None) == (config["optimizer"]["name"] == "adam")
        assert ("nesterov" in config["optimizer"]) == (momentum is not None and momentum > 0.8)
        assert ("warmup" in config["optimizer"]) == (config["optimizer"].get("nesterov") is True)
        tell(algorithm, f"t{number}", nasty_value(config))


def check_seeds(case: Case) -> None:
    streams = [play(case.build(nasty_space(), seed=s, **case.quick), nasty_value, 0, 40) for s in (5, 5, 6)]
    assert streams[0] == streams[1]
    assert (streams[0] != streams[2]) == case.seeded


def check_restore(case: Case, how: str) -> None:
    """state_dict through JSON, or replay, at a moment with pending trials: the same stream goes on."""
    space = nasty_space()
    whole = case.build(space, **case.quick)
    play(whole, nasty_value, 0, 43, lag=4)
    elsewhere = case.build(space, seed=9).suggest("elsewhere")
    assert elsewhere is not None
    whole.evidence(elsewhere, {1: 2.0, 3: math.nan}, "another run")
    pending = [s.trial_id for s in whole.pending()]
    assert len(pending) >= 4
    resumed = case.build(space, **case.quick)
    if how == "state":
        resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    else:
        for s in whole.history:
            resumed.replay(s.trial_id, json.loads(json.dumps(s.config)))
        for s in whole.observed():
            assert s.outcome is not None
            resumed.observe(s.trial_id, s.outcome, s.value, s.epoch)
        resumed.evidence(elsewhere, {1: 2.0, 3: math.nan}, "another run")
    assert [s.trial_id for s in resumed.pending()] == pending
    assert [s.trial_id for s in resumed.observed()] == [s.trial_id for s in whole.observed()]
    assert resumed.state_dict() == whole.state_dict()
    assert play(resumed, nasty_value, 43, 70, lag=4) == play(whole, nasty_value, 43, 70, lag=4)


def check_correction(case: Case) -> None:
    """A trial that failed is tried again and ends well: the newer end counts, once, and a restart changes nothing."""

    def value(config: Config) -> float | None:
        return None if flatten(config)["size"] == "l" else nasty_value(config)

    whole, again = (case.build(nasty_space(), **case.quick) for _ in range(2))
    play(whole, value, 0, 34)
    for s in whole.history:
        again.replay(s.trial_id, s.config)
    observed = whole.observed()
    failed = [s.trial_id for s in observed if s.failed]
    assert failed
    for s in observed:
        tell(again, s.trial_id, value(s.config))
    for algorithm in (whole, again):
        for trial_id in failed:
            config = next(s.config for s in algorithm.history if s.trial_id == trial_id)
            algorithm.report(trial_id, 1, nasty_value(config))
            tell(algorithm, trial_id, nasty_value(config))
    assert [s.trial_id for s in whole.observed()] == [s.trial_id for s in observed], "observed twice"
    assert not any(s.failed for s in whole.observed())
    number = len(whole.history)
    assert play(whole, nasty_value, number, number + 15) == play(again, nasty_value, number, number + 15)
    assert whole.state_dict() == again.state_dict()


def check_mirror(case: Case) -> None:
    low = play(case.build(nasty_space(), mode="min", **case.quick), nasty_value, 0, 40)
    high = play(case.build(nasty_space(), mode="max", **case.quick), lambda c: -nasty_value(c), 0, 40)
    assert low == high


def check_failures_and_outliers(case: Case) -> None:
    """Failed trials and absurd values neither break the search nor draw it to themselves.

    Everything with kind "c" fails, everything with kind "b" and few units gives 1e300, one trial -1e300.
    """
    bad: list[float | None] = [math.nan, None, math.inf, -math.inf]

    def value(config: Config) -> float | None:
        if config["kind"] == "c":
            return bad[int(config["units"]) % 4]
        return 1e300 if config["kind"] == "b" and config["units"] < 40 else small_value(config)

    share = []
    for seed in range(3):
        algorithm = case.build(small_space(), seed=seed, **case.quick)
        configs = play(algorithm, value, 0, 90)
        assert None not in configs or len(algorithm.history) == algorithm.total()
        json.dumps(algorithm.state_dict(), allow_nan=False)
        if case.beats_random:
            share.append(statistics.mean(c is not None and value(c) in (*bad, 1e300) for c in configs[45:]))
        best = max((c for c in configs if c and c["kind"] == "a"), key=lambda c: -small_value(c))
        told = algorithm.history[[s.config for s in algorithm.history].index(best)]
        tell(algorithm, told.trial_id, -1e300)
        for number in range(90, 96):
            config = algorithm.suggest(f"t{number}")
            if config is None:
                assert len(algorithm.history) == algorithm.total()
                break
            algorithm.space.check(config)
            tell(algorithm, f"t{number}", value(config))
    if case.beats_random:  # half of the space is bad
        assert statistics.mean(share) < 0.3, share


def check_all_failed(case: Case) -> None:
    algorithm = case.build(nasty_space(), **case.quick)
    configs = play(algorithm, lambda c: None, 0, 40)
    assert len({config_key(c) for c in configs if c}) == 40


def check_thousand_trials(case: Case) -> None:
    algorithm = case.build(small_space(), **case.late)
    start = time.perf_counter()
    for number in range(1000):
        config = algorithm.suggest(f"t{number}")
        if config is None:  # a grid may end; a search that does not know its end may not
            assert number == algorithm.total()
            break
        tell(algorithm, f"t{number}", small_value(config))
    assert time.perf_counter() - start < case.budget_s


def check_start_points(case: Case) -> None:
    space = nasty_space()
    other = case.build(space, seed=77)
    start = [c for c in (other.suggest("a"), other.suggest("b"), other.suggest("c")) if c]
    algorithm = case.build(space, start=start, **case.quick)
    configs = play(algorithm, nasty_value, 0, 30)
    assert configs[:3] == start
    assert len({config_key(c) for c in configs if c}) == 30


def check_exhaustion(case: Case) -> None:
    """A space of six configs: each once, then None, also after a restart."""
    space = six_configs()
    assert number_of_configs(space) == 6
    algorithm = case.build(space, **case.tiny)
    keys = []
    for number in range(6):
        config = algorithm.suggest(f"t{number}")
        assert config is not None
        space.check(config)
        keys.append(config_key(config))
        tell(algorithm, f"t{number}", float(number))
    assert len(set(keys)) == 6
    resumed = case.build(space, **case.tiny)
    resumed.load_state_dict(algorithm.state_dict())
    for one in (algorithm, resumed):
        assert one.suggest("t6") is None
        assert one.suggest("t6") is None


def check_no_duplicates(case: Case) -> None:
    """A space in which one config is a quarter of the volume, and the best: still no repeats."""
    space = SearchSpace({"a": Choice(["x", "y"]), "b": Float(0.0, 1.0).when("a", "==", "y"), "n": Int(1, 2)})
    algorithm = case.build(space, **case.quick)
    configs = play(algorithm, lambda c: 0.0 if c["a"] == "x" else 1 + c["b"], 0, 40)
    found = [config_key(c) for c in configs if c]
    assert len(found) == min(40, algorithm.total() or 40)
    assert len(set(found)) == len(found)


def check_parallel(case: Case) -> None:
    """Eight suggestions without a result between them: all distinct, and not huddled together."""
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    algorithm = case.build(space, **case.quick)
    play(algorithm, lambda c: (c["x"] - 0.3) ** 2 + (c["y"] - 0.6) ** 2, 0, 24)
    batch = [algorithm.suggest(f"p{i}") for i in range(8)]
    points = [(c["x"], c["y"]) for c in batch if c]
    if algorithm.total() is not None:
        assert len(set(points)) == len(points)
        return
    assert len(points) == 8
    distances = [math.dist(a, b) for i, a in enumerate(points) for b in points[:i]]
    assert min(distances) > 1e-4, min(distances)


def log_regret(case: Case, function: str, seed: int, evaluations: int = 60) -> float:
    """log10 of the best regret among `evaluations` trials run one after the other."""
    space, regret = FUNCTIONS[function]
    algorithm = case.build(space, seed=seed)
    best = math.inf
    for number in range(evaluations):
        config = algorithm.suggest(f"t{number}")
        assert config is not None
        value = regret(config)
        tell(algorithm, f"t{number}", value)
        best = min(best, value)
    return math.log10(best)


def check_beats_random(case: Case, function: str, margin: float, win_rate: float, seeds: int) -> None:
    """Mean log10 regret lower than random's by `margin`, and lower on a share `win_rate` of the seeds."""
    ours = [log_regret(case, function, seed) for seed in range(seeds)]
    random = [log_regret(Case("random"), function, seed + 1000) for seed in range(seeds)]
    gain = statistics.mean(random) - statistics.mean(ours)
    wins = statistics.mean(a < b for a, b in zip(ours, random, strict=True))
    means = f"log10 regret {statistics.mean(ours):.2f}, random {statistics.mean(random):.2f}"
    print(f"{case} on {function}: {means}, wins {wins:.2f}")
    assert gain > margin, (gain, ours, random)
    assert wins >= win_rate, (wins, ours, random)


CHECKS = [
    check_inside_the_space,
    check_seeds,
    check_mirror,
    check_correction,
    check_failures_and_outliers,
    check_all_failed,
    check_thousand_trials,
    check_start_points,
    check_exhaustion,
    check_no_duplicates,
    check_parallel,
]


class SearcherContract:
    case: ClassVar[Case]

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
    def test_it_does_what_every_searcher_does(self, check: Callable[[Case], None]) -> None:
        check(self.case)

    @pytest.mark.parametrize("how", ["state", "replay"])
    def test_it_goes_on_after_a_restart_as_if_nothing_had_been(self, how: str) -> None:
        check_restore(self.case, how)

    @pytest.mark.parametrize("function", FUNCTIONS)
    def test_it_beats_random_if_it_says_so(self, function: str) -> None:
        if not self.case.beats_random:
            pytest.skip("its case does not say so: beats_random=True")
        check_beats_random(self.case, function, margin=0.0, win_rate=0.5, seeds=10)
