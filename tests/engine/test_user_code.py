"""What a user's searcher, scheduler, listener or report may do wrong costs one line, never a wrong result."""

from __future__ import annotations

import functools
import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune

from raytune_hpo import Choice, Experiment, ExperimentError, Float, Int, Scheduler, SearchAlgorithm, Task
from raytune_hpo.engine import session as session_module
from raytune_hpo.experiment.loading import load_module
from raytune_hpo.experiment.references import innermost
from raytune_hpo.experiment.reopened import reopened
from raytune_hpo.journal import events
from raytune_hpo.journal.events import Event, Step
from raytune_hpo.search import build
from raytune_hpo.space import SearchSpace
from raytune_hpo.states import Status
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.testing.schedulers import check, check_same_table
from raytune_hpo.testing.simulation import METRIC, Faults, Simulation, curve, make_experiment, trainable

# Listeners ------------------------------------------------------------------------------------------------


class Pauses(Scheduler):
    """Every trial waits after its first epoch, so that it is started anew from what is known of it."""

    def on_trial_result(self, host: Any, trial: Any, result: dict[str, Any]) -> str:
        return "PAUSE" if result["epoch"] == 1 else "CONTINUE"


class Meddled(Simulation):
    """Whoever follows the journal changes what it is told."""

    def append(self, t: float, happened: Sequence[Event]) -> Step:
        step = super().append(t, happened)
        for event in step.events:
            for name in ("config", "new_config", "old_config", "metrics", "suggested", "note"):
                told = getattr(event, name, None)
                if isinstance(told, dict):
                    for key in list(told):
                        told[key] = {"meddled": True} if isinstance(told[key], dict) else 0.123
        return step


@pytest.mark.parametrize("scheduler", [Pauses, {"name": "pbt", "interval": 2}, "hyperband"], ids=str)
def test_what_a_listener_does_to_an_event_reaches_no_trial(scheduler: Any) -> None:
    def made(kind: type[Simulation]) -> Simulation:
        return kind(make_experiment(scheduler, samples=8, epochs=6), workers=2).run()

    check_same_table(check(made(Meddled)), check(made(Simulation)))


# Schedulers -----------------------------------------------------------------------------------------------


class Diverges(Scheduler):
    """Is asked about divergences, and remembers."""

    handles_divergence = True

    def prepare(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def on_trial_result(self, host: Any, trial: Any, result: dict[str, Any]) -> str:
        self.asked.append((trial.trial_id, result["epoch"]))
        return "CONTINUE"


def test_a_scheduler_that_handles_divergence_is_shown_the_same_after_a_restart() -> None:
    experiment = make_experiment(Diverges, samples=12, epochs=6, early_stopping={"patience": 2, "min_delta": 0.01})
    calm = Simulation(experiment, faults=Faults(nan=0.1)).run()
    assert Status.DIVERGED in {t.status for t in calm.trials}
    for step in range(1, calm.appends, 5):
        crashed = Simulation(experiment, faults=calm.faults, crash_steps={step}).run()
        assert crashed.population.host.scheduler.asked == calm.population.host.scheduler.asked  # type: ignore[attr-defined]
        check_same_table(crashed, calm)


class Answers(Scheduler):
    answer: Any = "CONTINUE"
    epoch: Any = 1

    def on_trial_result(self, host: Any, trial: Any, result: dict[str, Any]) -> Any:
        return self.answer

    def next_decision(self, trial: Any, epoch: int) -> Any:
        return self.epoch


@pytest.mark.parametrize(("name", "value", "words"), [
    ("answer", None, "Answers.on_trial_result = 'None': must be one of CONTINUE, PAUSE, STOP, NOOP"),
    ("answer", "continue", "Answers.on_trial_result = 'continue': must be one of"),
    ("epoch", math.nan, "Answers.next_decision = nan: must be an epoch, or infinity"),
    ("epoch", None, "Answers.next_decision = None: must be an epoch"),
])  # fmt: skip
def test_a_schedulers_wrong_answer_is_named(name: str, value: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, name, value)
    with pytest.raises(ExperimentError) as raised:
        Simulation(make_experiment(Answers, samples=3, epochs=4)).run()
    assert words in str(raised.value)


class ChoosesRunning(Scheduler):
    def choose_trial_to_run(self, host: Any) -> Any:
        return next(iter(host.get_trials()), None)


class StopsAtOnce(Scheduler):
    def on_trial_add(self, host: Any, trial: Any) -> None:
        if int(trial.trial_id[1:]) % 2:
            host.stop_trial(trial)


class StopsAgain(Scheduler):
    def on_trial_result(self, host: Any, trial: Any, result: dict[str, Any]) -> str:
        others = [t for t in host.get_live_trials() if t is not trial]
        if result["epoch"] == 2 and others:
            host.stop_trial(others[0])
        return "CONTINUE"

    def on_trial_complete(self, host: Any, trial: Any, result: dict[str, Any]) -> None:
        host.stop_trial(trial)

    on_trial_remove = on_trial_complete  # type: ignore[assignment]


def test_a_trial_that_runs_is_not_started_again() -> None:
    with pytest.raises(ExperimentError, match="chose t00000, which is neither pending nor paused"):
        Simulation(make_experiment(ChoosesRunning, samples=6, epochs=4), workers=3).run()


@pytest.mark.parametrize("scheduler", [StopsAtOnce, StopsAgain])
def test_trials_may_be_ended_wherever_the_scheduler_is_told_of_one(scheduler: Any) -> None:
    if scheduler is StopsAgain:  # that it is told of a removal without a result is part of the interface
        scheduler.on_trial_remove = lambda self, host, trial: host.stop_trial(trial)
    sim = check(Simulation(make_experiment(scheduler, samples=9, epochs=5), workers=3).run())
    assert len([t for t in sim.trials if t.status == Status.STOPPED]) >= 1


def test_a_scheduler_without_a_name_is_called_after_its_class() -> None:
    assert make_experiment(Diverges, samples=2, epochs=2).resolved.scheduler.name == "Diverges"


# Searchers ------------------------------------------------------------------------------------------------

SPACE = SearchSpace({"x": Float(0.0, 1.0), "n": Int(1, 4), "kind": Choice(["a", "b"]), "z": 3})
GOOD = {"x": 0.5, "n": 2, "kind": "a", "z": 3}


class Proposes(SearchAlgorithm):
    config: Any = None

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Any:
        return self.config


@pytest.mark.parametrize(("change", "words"), [
    ({"x": 5.0}, "Proposes.x = 5.0: must lie in"),
    ({"x": math.nan}, "Proposes.x = nan"),
    ({"y": 1}, "Proposes.y = 1: is not in the space"),
    ({"kind": "c"}, "Proposes.kind = 'c'"),
    ({"z": 4}, "Proposes.z = 4: is a constant"),
    ({"x": object()}, "no plain value"),
])  # fmt: skip
def test_a_searchers_wrong_config_is_named(change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proposes, "config", {**GOOD, **change})
    search = build(
        Proposes, {}, SPACE, make_experiment("fifo", samples=1, epochs=1).resolved.objective, max_epochs=1, seed=0
    )
    with pytest.raises(ExperimentError) as raised:
        search.suggest("t00000")
    assert words in str(raised.value)


def test_numbers_of_numpy_become_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proposes, "config", {**GOOD, "x": np.float64(0.25), "n": np.int64(3)})
    search = build(
        Proposes, {}, SPACE, make_experiment("fifo", samples=1, epochs=1).resolved.objective, max_epochs=1, seed=0
    )
    found = search.suggest("t00000")
    assert found == {**GOOD, "x": 0.25, "n": 3}
    assert [type(value) for value in found.values()] == [float, int, str, int]


@pytest.mark.parametrize("answer", [[1], "x", 3])
def test_what_is_no_config_is_named(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proposes, "config", answer)
    search = build(
        Proposes, {}, SPACE, make_experiment("fifo", samples=1, epochs=1).resolved.objective, max_epochs=1, seed=0
    )
    with pytest.raises(ExperimentError, match="propose must answer a config, None or WAIT"):
        search.suggest("t00000")


@pytest.mark.parametrize(("make", "words"), [
    (lambda s: s.GridSampler({"x": [0.1, 0.2]}), "use searcher=\"grid\""),
    (lambda s: s.PartialFixedSampler({"x": 0.1}, s.RandomSampler(seed=0)), "into the space, as a constant"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_samplers_that_name_values_are_refused(make: Any, words: str) -> None:
    optuna = pytest.importorskip("optuna")
    with pytest.raises(ExperimentError) as raised:
        Experiment(name="x", task="digits", space={"lr": Float(0.01, 0.1)}, searcher=make(optuna.samplers)).resolved  # noqa: B018
    assert words in str(raised.value)


def test_a_searcher_that_repeats_itself_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"x": Float(0.0, 1.0)}
    monkeypatch.setattr(Proposes, "config", {"x": 0.5})
    fields = {"metric": METRIC, "mode": "max", "searcher": Proposes, "scheduler": "fifo"}
    made = Experiment(name="x", task=trainable, space=space, num_samples=5, max_epochs=2, **fields)
    sim = Simulation(made, value=lambda config, epoch: config["x"]).run()
    notices = [e.text for e in sim.of(events.Noticed)]
    assert notices == [
        "searcher Proposes proposes only configs that it has proposed before: random ones take their place"
    ]


class FailsAt(SearchAlgorithm):
    place: Any = ""

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Any:
        if self.place == "propose":
            raise ConnectionError("the service\nis down")
        return self.space.sample(rng)

    def observe(self, *given: Any) -> None:
        super().observe(*given)
        if self.place == "observe":
            raise KeyError("x")


class FailingScheduler(Scheduler):
    def on_trial_result(self, host: Any, trial: Any, result: dict[str, Any]) -> str:
        return result["lossy"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("fields", "words"), [
    ({"searcher": FailsAt, "place": "propose"}, "'FailsAt': failed with ConnectionError: the service is down ("),
    ({"searcher": FailsAt, "place": "observe"}, "searcher = 'FailsAt': failed with KeyError: 'x' (test_user_code.py, "),
    ({"scheduler": FailingScheduler}, "'FailingScheduler': failed with KeyError: 'lossy' (test_user_code.py, "),
])  # fmt: skip
def test_what_a_users_class_raises_is_one_line(
    fields: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FailsAt, "place", fields.pop("place", ""))
    scheduler = fields.pop("scheduler", "fifo")
    with pytest.raises(ExperimentError) as raised:
        Simulation(make_experiment(scheduler, samples=3, epochs=2, **fields)).run()
    assert words in str(raised.value)
    assert raised.value.__cause__ is not None


# Tasks ----------------------------------------------------------------------------------------------------


class NotDescribed(Task):
    def __init__(self, n: int = 3) -> None:
        object.__setattr__(self, "n", n)

    def load(self, seed: int) -> Any:
        return (1, 2), (3, 4)

    def build_model(self, config: Any) -> Any:
        raise NotImplementedError


def test_a_task_whose_options_are_no_fields_is_refused() -> None:
    with pytest.raises(ExperimentError, match=r"'NotDescribed\.n': must be fields"):
        Experiment(name="x", task=NotDescribed(), space={"lr": Float(0.01, 0.1)}).resolved  # noqa: B018


def test_what_load_returns_is_checked() -> None:
    with pytest.raises(ExperimentError, match=r"NotDescribed\.load = 'tuple': must return Splits\(train="):
        NotDescribed().splits(0)


@pytest.mark.parametrize("wrap", [
    lambda f: f,
    lambda f: tune.with_parameters(f, data=[1]),
    lambda f: tune.with_resources(f, {"cpu": 1}),
    lambda f: tune.with_resources(tune.with_parameters(f, data=[1]), {"cpu": 1}),
    lambda f: functools.partial(f, data=[1]),
])  # fmt: skip
@pytest.mark.parametrize("name", ["train", "Train"])
def test_code_of_an_experiment_file_is_found_in_whatever_wraps_it(name: str, wrap: Any, tmp_path: Path) -> None:
    """Workers cannot import the file by name, so its code travels with the task."""
    file = tmp_path / "wrapped.py"
    file.write_text("""
from ray import tune
def train(config, data): pass
class Train(tune.Trainable):
    def setup(self, config, data): pass
""")
    module = load_module(file)
    assert innermost(wrap(getattr(module, name))) is getattr(module, name)


# Reports --------------------------------------------------------------------------------------------------


def test_a_number_too_large_for_a_float_costs_the_trial_and_not_the_run() -> None:
    def value(config: dict[str, Any], epoch: int) -> Any:
        return 10**400 if config["x"] > 0.7 else curve(config, epoch)

    sim = Simulation(make_experiment("fifo", samples=12, epochs=3, max_failures=0), value=value).run()
    failed = [t for t in sim.trials if t.status == Status.FAILED]
    assert failed
    assert all("is no float" in (t.error or "") for t in failed)
    assert {t.status for t in sim.trials} == {Status.FAILED, Status.COMPLETED}


# Resuming -------------------------------------------------------------------------------------------------


def test_an_experiment_file_that_starts_a_run_when_it_is_read_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "noguard.py"
    file.write_text("""
from raytune_hpo import Experiment, Float, run
experiment = Experiment(name="x", task="digits", space={"lr": Float(0.01, 0.1)})
run(experiment, "elsewhere")
assert False, "the reading ends where the run would have begun"
""")
    assert load_module(file).experiment.name == "x"
    said = 'noguard.py starts a run where it is read; that run is not started: put it under if __name__ == "__main__":'
    assert said in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


def test_a_scheduler_of_a_script_is_the_same_whether_it_is_run_or_read(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("""
from ray.tune.schedulers import AsyncHyperBandScheduler
from raytune_hpo import Experiment, Float
class Mine(AsyncHyperBandScheduler): pass
experiment = Experiment(name="x", task="digits", space={"lr": Float(0.01, 0.1)}, scheduler=Mine())
""")
    description = load_module(file).experiment.resolved.to_json()
    assert description["scheduler"]["class"].startswith("raytune_hpo_file_script:")
    description["scheduler"]["class"] = "__main__:Mine"  # as it was recorded by `python script.py`
    directory = RunDirectory.create(tmp_path / "run", description, file)
    with reopened(directory) as again:
        assert again.experiment.resolved.scheduler.given is not None
    description["scheduler"]["class"] = "__main__:Other"
    other = RunDirectory.create(tmp_path / "other", description, file)
    with pytest.raises(ExperimentError, match="the run was begun with __main__:Other"), reopened(other):
        pass


def test_listeners_that_cannot_be_made_again_do_not_end_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "launcher.py"
    file.write_text("x = 1\n")
    made = Experiment(name="x", task="digits", space={"lr": Float(0.01, 0.1)})
    directory = RunDirectory.create(tmp_path / "run", {**made.to_json(), "listeners": ["elsewhere:Mine"]}, file)
    with reopened(directory) as again:
        assert again.experiment.resolved.listeners == ()
    assert "without the experiment's listeners: " in capsys.readouterr().err


def test_errors_of_a_users_own_code_are_no_full_disk(tmp_path: Path) -> None:
    inside = FileNotFoundError(2, "no", str(tmp_path / "run" / "x"))
    for error in (ConnectionError("down"), TimeoutError("late"), FileNotFoundError(2, "no", "/elsewhere")):
        assert not session_module._of_storage(error, tmp_path / "run")
    for error in (inside, OSError(28, "full"), OSError(5, "input/output")):
        assert session_module._of_storage(error, tmp_path / "run")


def test_a_package_whose_import_failed_half_way_hides_no_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's serve leaves one behind, where starlette is installed and not all else that it needs."""
    (tmp_path / "half" / "inner").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    inner = importlib.import_module("half.inner")
    monkeypatch.delitem(sys.modules, "half")
    with pytest.raises(KeyError):
        iter(inner.__path__)
    file = tmp_path / "x.py"
    file.write_text("X = 3\n")
    assert load_module(file).X == 3
