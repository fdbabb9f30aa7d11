"""benchmarks/search_quality.py: the recordings are whole, the replay is exact, the figures mean what they say."""

from __future__ import annotations

import json
import math
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import held_out_problems  # noqa: E402
import record_curves  # noqa: E402
import recordings  # noqa: E402
import search_peers  # noqa: E402
import search_problems  # noqa: E402
import search_quality  # noqa: E402
import simulated_pool  # noqa: E402
from search_problems import Problem, Recorded  # noqa: E402
from simulated_pool import Report, Run  # noqa: E402

SOLO = recordings.SOLO
LANES = tuple(name for name in recordings.RECORDINGS if name not in SOLO)


@pytest.fixture
def problem(request: pytest.FixtureRequest) -> Problem:
    return loaded(request.param)


@cache
def loaded(name: str) -> Problem:
    return search_quality._problem(name)


recorded = pytest.mark.parametrize("problem", SOLO, indirect=True)
every = pytest.mark.parametrize("problem", [*search_problems.PROBLEMS, *held_out_problems.EVERY], indirect=True)
chosen_by = pytest.mark.parametrize("problem", search_problems.PROBLEMS, indirect=True)


def run(p: Problem, method: str, seed: int = 0, *, workers: int = 4, budget: int = 20) -> Run:
    experiment = search_quality.make_experiment(p, search_quality.METHODS[method], seed, budget)
    return simulated_pool.simulate(experiment, p, workers=workers, budget_s=budget * p.full_s / workers)


# The recordings -------------------------------------------------------------------------------------


def test_recordings_are_small() -> None:
    assert sum(f.stat().st_size for f in (BENCHMARKS / "curves").glob("*.parquet")) < 20_000_000


@pytest.mark.parametrize("name", LANES)
def test_recordings_by_lanes_are_whole(name: str) -> None:
    from pyarrow import parquet

    file = BENCHMARKS / "curves" / f"{name}.parquet"
    about, recording = parquet.read_metadata(file).metadata, recordings.RECORDINGS[name]
    configs = recording.configs()
    assert json.loads(about[b"configs"]) == configs
    assert json.loads(about[b"fixed"]) == recording.fixed
    assert json.loads(about[b"options"]).items() <= recording.task.options().items()
    shape = (recording.seeds, len(configs), recording.epochs)
    values = parquet.read_table(file)[recording.metric].to_numpy().reshape(shape)
    dead = np.isnan(values)
    assert (np.diff(dead.astype(int), axis=2) >= 0).all(), "a curve goes on after it diverged"
    assert 0.5 < (~dead).mean() <= 1
    worths = np.nanmin(np.where(dead, np.inf, values), axis=2)
    alive = np.isfinite(worths).all(axis=0)
    assert (worths[0] != worths[1])[alive].mean() > 0.5, "the two seeds are the same"
    assert np.corrcoef(np.argsort(np.argsort(worths[0, alive])), np.argsort(np.argsort(worths[1, alive])))[0, 1] > 0.5
    problem = loaded(name)
    for i in range(0, len(configs), 53):
        for seed in range(recording.seeds):
            np.testing.assert_array_equal(problem.curve(configs[i], seed).values, values[seed, i].astype(np.float64))


def test_two_recordings_are_of_related_tasks_over_one_space() -> None:
    one, other = (recordings.RECORDINGS[name] for name in ("digits_mlp", "mnist_mlp"))
    assert one.configs() == other.configs()
    worths = np.array([[loaded(n).worth(c) for c in one.configs()] for n in ("digits_mlp", "mnist_mlp")])
    both = np.isfinite(worths).all(axis=0)
    ranks = np.argsort(np.argsort(worths[:, both], axis=1), axis=1)
    assert np.corrcoef(ranks)[0, 1] > 0.6


def test_what_is_held_out_is_not_chosen_by() -> None:
    assert not {*search_problems.PROBLEMS} & {*held_out_problems.EVERY}
    assert {*recordings.HELD_OUT} < {*held_out_problems.PROBLEMS}


@pytest.mark.parametrize("name", SOLO)
def test_recordings_are_whole(name: str) -> None:
    from pyarrow import parquet

    file = BENCHMARKS / "curves" / f"{name}.parquet"
    about = parquet.read_metadata(file).metadata
    recording = record_curves.RECORDINGS[name]
    assert json.loads(about[b"fixed"]) == recording.fixed
    assert (int(about[b"seed"]), about[b"task"].decode()) == (record_curves.SEED, type(recording.task).__name__)
    assert json.loads(about[b"options"]).items() <= recording.task.options().items()
    table = parquet.read_table(file).to_pandas()
    assert len(table) == 1000 * 30
    parameters = list(recording.space)
    assert (table.epoch.to_numpy().reshape(1000, 30) == np.arange(1, 31)).all()
    configs = table[parameters].to_numpy().reshape(1000, 30, len(parameters))
    assert (configs == configs[:, :1]).all()
    assert len(np.unique(configs[:, 0], axis=0)) == 1000
    loss = table.validation_loss.to_numpy().reshape(1000, 30)
    dead = np.isnan(loss)
    assert (np.diff(dead.astype(int), axis=1) >= 0).all(), "a curve goes on after it diverged"
    assert 0.5 < (~dead).mean() <= 1
    accuracy = table.validation_accuracy.to_numpy().reshape(1000, 30)
    assert (np.isnan(accuracy) == dead).all()
    assert accuracy[~dead].min() >= 0
    assert accuracy[~dead].max() <= 1
    seconds = table.seconds.to_numpy().reshape(1000, 30)
    first_nan = np.cumsum(dead, axis=1) == 1
    assert (seconds[~dead | first_nan] > 0).all()


def test_the_command_records_what_the_file_holds() -> None:
    """One cheap config again: to rounding, since another CPU may add up in another order."""
    recording = record_curves.RECORDINGS["digits"]
    data = recording.task.load(record_curves.SEED).for_trials()
    number, config = next(
        (i, c)
        for i, c in enumerate(recording.configs())
        if c["batch_size"] == 512 and c["hidden_units"] == 16 and c["lr"] == pytest.approx(0.00215443)
    )
    seed = record_curves.derive_seed(record_curves.SEED, "curves", "digits", number)
    again = np.array(record_curves.train(recording, data, config, seed))[:, 1]
    assert again == pytest.approx(loaded("digits").curve(config).values, rel=1e-3)


def test_a_recording_that_was_killed_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "x.partial.jsonl"
    assert record_curves.read_partial(file) == {}
    file.write_text("[0, [[0.5, 1.0, 0.1]]]\n[1, [[0.5, 1.")
    assert record_curves.read_partial(file) == {0: [[0.5, 1.0, 0.1]]}
    assert file.read_text() == "[0, [[0.5, 1.0, 0.1]]]\n"


def test_a_recording_of_another_grid_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    recording = record_curves.RECORDINGS["digits"]
    other = replace(recording, levels={"lr": 4, "dropout": 10})
    monkeypatch.setitem(search_problems.RECORDINGS, "digits", other)
    with pytest.raises(ValueError, match="record it again"):
        Recorded("digits")


# The problems ---------------------------------------------------------------------------------------


@recorded
def test_a_lookup_is_exact_on_the_grid(problem: Problem) -> None:
    from pyarrow import parquet

    table = parquet.read_table(BENCHMARKS / "curves" / f"{problem.name}.parquet")
    values = table[problem.metric].to_numpy().reshape(1000, 30)
    seconds = table["seconds"].to_numpy().reshape(1000, 30)
    configs = record_curves.RECORDINGS[problem.name].configs()
    for i in range(0, 1000, 7):
        curve = problem.curve(configs[i])
        np.testing.assert_array_equal(curve.values, values[i].astype(np.float64))
        np.testing.assert_array_equal(curve.seconds, seconds[i].astype(np.float64))


@recorded
def test_between_the_grid_a_curve_lies_between_its_neighbours(problem: Problem) -> None:
    axes = record_curves.RECORDINGS[problem.name].axes()
    low = {name: values[1] for name, values in axes.items()}
    high = {**low, "lr": axes["lr"][2]}
    nearer_low = {**low, "lr": low["lr"] ** 0.75 * high["lr"] ** 0.25}
    at_low, at_high, between = (problem.curve(c).values for c in (low, high, nearer_low))
    assert between == pytest.approx(0.75 * at_low + 0.25 * at_high, rel=1e-4)


@every
def test_nothing_is_better_than_the_optimum(problem: Problem) -> None:
    rng = np.random.default_rng(0)
    configs = [problem.space.sample(rng) for _ in range(300)]
    sign = 1 if problem.mode == "min" else -1
    assert min(sign * (problem.worth(c) - problem.best) for c in configs) > 0
    assert problem.regret(problem.optimum) == pytest.approx(0, abs=1e-5)


# The replay -----------------------------------------------------------------------------------------


@every
def test_a_replay_is_a_function_of_the_seed(problem: Problem) -> None:
    one, again, other = (repr(run(problem, "random+asha", seed)) for seed in (0, 0, 1))  # NaN is NaN in words
    assert one == again
    assert one != other


@recorded
@pytest.mark.parametrize("method", ["random", "random+asha", "random+hyperband", "random+median"])
def test_time_passes_as_recorded(problem: Problem, method: str) -> None:
    """Every epoch takes its seconds, at no time train more than `workers`, and no worker waits."""
    workers, budget = 3, 12
    done = run(problem, method, workers=workers, budget=budget)
    intervals, last = [], {}
    for report in done.reports:
        assert report.epoch == last.get(report.trial, 0) + 1
        last[report.trial] = report.epoch
        curve = problem.curve(done.configs[report.trial])
        np.testing.assert_equal(report.value, float(curve.values[report.epoch - 1]))
        intervals.append((report.now - float(curve.seconds[report.epoch - 1]), report.now))
    assert min(begin for begin, _ in intervals) >= -1e-9
    spent, budget_s = sum(end - begin for begin, end in intervals), budget * problem.full_s / workers
    assert max(end for _, end in intervals) <= budget_s
    assert 0.97 * workers * budget_s < spent <= workers * budget_s
    for now in np.linspace(0, budget_s * 0.97, 200):
        assert sum(begin <= now < end for begin, end in intervals) <= workers
    if method != "random":
        assert len(done.configs) > 1.5 * len(run(problem, "random", workers=workers, budget=budget).configs)


@every
def test_an_oracle_has_no_regret(problem: Problem) -> None:
    found = search_quality.run_once(
        problem, "random", 0, workers=4, budgets=[5, 20], start_points=[problem.optimum]
    ).regrets
    assert found[-1] == pytest.approx(0, abs=1e-5)


@chosen_by
def test_regret_of_random_search_falls_with_the_budget(problem: Problem) -> None:
    budgets = [10, 20, 40, 80]
    runs = [search_quality.run_once(problem, "random", s, workers=4, budgets=budgets).regrets for s in range(10)]
    means = np.log10(runs).mean(axis=0)
    assert (np.diff(means) <= 0).all()
    assert means[-1] < means[0] - 0.1


def test_the_incumbent_is_what_the_method_saw() -> None:
    """Not the best config that was tried, nor one that has diverged since; its regret is that of its full curve."""
    p = loaded("branin")
    configs = {"a": {"x1": 0.0, "x2": 5.0}, "b": p.optimum, "c": {"x1": 1.0, "x2": 1.0}}
    reports = [
        Report(1.0, "a", 1, 9.0),
        Report(2.0, "c", 1, 5.0),
        Report(3.0, "b", 1, 9.5),
        Report(4.0, "c", 2, math.nan),
    ]
    of = Run(reports, configs)
    assert search_quality.regret_at(of, p, 0.5) == math.inf
    assert search_quality.regret_at(of, p, 1.5) == p.regret(configs["a"])
    assert search_quality.regret_at(of, p, 3.5) == p.regret(configs["c"])
    assert search_quality.regret_at(of, p, 4.5) == p.regret(configs["a"])


# The statistics and the program -------------------------------------------------------------------------


def test_ratio_and_verdict() -> None:
    rng = np.random.default_rng(0)
    nothing = search_quality.ratio([np.zeros(20)])
    assert (nothing.mean, nothing.low, nothing.high, nothing.verdict) == (1, 1, 1, "unclear")
    assert search_quality.ratio([rng.normal(0, 1, 20)]).verdict == "unclear"
    half = search_quality.ratio([np.log10(0.5) + rng.normal(0, 0.3, 20), np.log10(0.5) + rng.normal(0, 0.3, 20)])
    assert half.verdict == "yes"
    assert half.low < 0.5 < half.high
    assert half.high / half.low == pytest.approx(10 ** (2 * 1.96 * 0.3 / math.sqrt(40)), rel=0.25)
    assert search_quality.ratio([np.full(20, 0.1)]).verdict == "no"


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = [
        r.low <= 1 <= r.high
        for r in (search_quality.ratio([rng.normal(0, 0.5, 20) for _ in range(4)]) for _ in range(40))
    ]
    assert np.mean(hits) > 0.85


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs.jsonl"
    command = ["--methods", "random", "hyperopt", "--seeds", "2", "--problems", "branin", "hartmann6"]
    command += ["--budgets", "20", "10", "--json", str(runs)]
    search_quality.main(command)
    printed = capsys.readouterr().out
    assert len(runs.read_text().splitlines()) == 8
    blocks = printed.split("\n\n")
    assert len(blocks) == 4
    assert "at 10" in blocks[1].splitlines()[1]
    for block in blocks[1:]:
        assert [line for line in block.splitlines() if line.startswith("hyperopt ")], block
    assert blocks[-1].splitlines()[2].split()[-1] in ("yes", "no", "unclear")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a run was repeated that the file holds")

    monkeypatch.setattr(search_quality.multiprocessing, "Pool", never)
    search_quality.main(command)
    assert capsys.readouterr().out == printed


class Scripted:
    """A peer that asks for what it is given; cuts: (until, epoch) at which a job is cut short."""

    def __init__(self, jobs, cuts=()):
        self.jobs, self.cuts, self.told = list(jobs), set(cuts), []

    def ask(self):
        return search_peers.Job(*self.jobs.pop(0), None) if self.jobs else None

    def reported(self, job, epoch):
        return (job.until, epoch) not in self.cuts

    def ended(self, job, *, failed):
        self.told.append((job.until, job.best, failed, job.cut))


def test_a_peers_config_goes_on_from_where_it_was() -> None:
    p = loaded("decays")
    config = p.space.sample(np.random.default_rng(0))
    curve = p.curve(config)
    peer = Scripted([(config, 3), (config, 9), (config, 5), (config, 20)], cuts=[(20, 12)])
    with pytest.raises(RuntimeError, match="nothing is asked"):
        search_peers.simulate(peer, p, workers=1, budget_s=1e9)
    assert peer.told == [
        (until, pytest.approx(curve.values[:last].min()), False, cut)
        for until, last, cut in ((3, 3, False), (9, 9, False), (5, 9, False), (20, 12, True))
    ]
    peer = Scripted([(config, 3), (config, 9), (config, p.max_epochs)])
    found = search_peers.simulate(peer, p, workers=1, budget_s=float(curve.seconds[:9].sum()) + 1e-9)
    assert [r.epoch for r in found.reports] == list(range(1, 10))
    assert found.reports[-1].now == pytest.approx(curve.seconds[:9].sum())
    assert list(found.configs) == ["t00000"]


@pytest.mark.filterwarnings("default")  # theirs
@pytest.mark.parametrize(
    ("name", "module"), [("Optuna TPE + Hyperband", "optuna"), ("SMAC Hyperband", "smac"), ("DEHB", "dehb")]
)
def test_a_peer_searches_every_space(name: str, module: str) -> None:
    """SMAC and DEHB are an extra."""
    pytest.importorskip(module)
    for p in map(loaded, ("digits", "digits_mlp")):
        for config in search_peers.run_peer(p, name, 0, workers=4, budget_s=2 * p.full_s).configs.values():
            p.space.check(config)
        outcome = search_quality.run_once(p, name, 0, workers=4, budgets=[2, 4])
        assert len(outcome.regrets) == 2
        assert np.isfinite(outcome.regrets).all()


def test_every_method_is_one_of_the_product() -> None:
    """Those whose searcher this version has can be run; a method of a scheduler that is unknown would be left out."""
    from raytune_hpo.schedulers import SCHEDULERS
    from raytune_hpo.search import SEARCHERS

    for searcher, scheduler in search_quality.METHODS.values():
        names = [given if isinstance(given, str) else given["name"] for given in (searcher, scheduler)]
        assert names[1] in (*SCHEDULERS, "auto")
        if names[0] in (*SEARCHERS, "auto"):
            search_quality.make_experiment(loaded("branin"), (searcher, scheduler), 0, 80)


def test_modules_of_the_benchmark_shadow_nothing() -> None:
    modules: list[ModuleType] = [
        record_curves,
        recordings,
        search_problems,
        held_out_problems,
        search_quality,
        simulated_pool,
    ]
    assert all(Path(str(m.__file__)).parent == BENCHMARKS for m in modules)
