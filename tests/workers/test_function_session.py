"""FunctionSession: Ray's public functions inside a function trainable, one report at a time.

It stands where Ray keeps its own session; if Ray moves that, these tests are the first to say so.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray import tune
from ray.train._internal import session as ray_session_module

from raytune_hpo import get_checkpoint, report
from raytune_hpo.workers import function_session, reporting
from raytune_hpo.workers.function_session import FunctionSession
from raytune_hpo.workers.metric_values import plain_metrics
from raytune_hpo.workers.outcomes import Raised, Report, Returned

MOVED = f"ray {ray.__version__} no longer finds its session in ray.train._internal.session._session"


@pytest.fixture
def start(tmp_path):
    sessions = []

    def make(function, config=None, checkpoint=None, prepare=lambda: None):
        numbers = iter(range(100))

        def scratch():
            folder = tmp_path / f"scratch{next(numbers)}"
            folder.mkdir()
            return folder

        session = FunctionSession(
            function, config or {}, trial_id="t00007", checkpoint=checkpoint, scratch=scratch, prepare_thread=prepare
        )
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.stop()
    assert ray_session_module.get_session() is None


def outcomes(session):
    out = [session.next()]
    while isinstance(out[-1], Report):
        out.append(session.next())
    return out


def test_ray_still_keeps_its_session_where_ours_goes():
    assert hasattr(ray_session_module, "_session"), MOVED
    assert ray_session_module.get_session() is None, MOVED
    marker = object()
    ray_session_module._session = marker
    try:
        assert ray_session_module.get_session() is marker, MOVED
    finally:
        ray_session_module._session = None


def test_rays_public_functions(start, tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from/state").write_text("5")
    seen = {}

    def function(config):
        seen.update(config=config, id=tune.get_context().get_trial_id(), name=tune.get_context().get_trial_name())
        seen.update(dir=tune.get_context().get_trial_dir(), experiment=tune.get_context().get_experiment_name())
        with tune.get_checkpoint().as_directory() as folder:
            seen["state"] = (Path(folder) / "state").read_text()
        tune.report({"loss": 1.0})
        tune.report(metrics={"loss": 0.5})

    found = outcomes(start(function, {"x": 3}, tmp_path / "from"))
    assert found == [Report({"loss": 1.0}, None), Report({"loss": 0.5}, None), Returned()], MOVED
    assert seen.pop("dir")
    expected = {"config": {"x": 3}, "id": "t00007", "name": "t00007", "experiment": "", "state": "5"}
    assert seen == expected


def test_without_a_checkpoint_there_is_none(start):
    def function(config):
        tune.report({"none": tune.get_checkpoint() is None})

    assert start(function).next() == Report({"none": True}, None)


def test_outside_a_trial_nothing_is_left(start):
    session = start(lambda config: tune.report({"a": 1}))
    session.next()
    assert ray_session_module.get_session().trial_id == session.trial_id
    assert session.stop()
    assert ray_session_module.get_session() is None


def test_a_checkpoint_of_the_functions_own_folder_is_copied_at_once(start, tmp_path):
    own = tmp_path / "own"
    own.mkdir()

    def function(config):
        for number in range(2):
            (own / "state").write_text(str(number))
            tune.report({"n": number}, checkpoint=tune.Checkpoint.from_directory(str(own)))
            (own / "state").write_text("changed")

    session = start(function)
    folders = [session.next().checkpoint, session.next().checkpoint]
    assert [(f / "state").read_text() for f in folders] == ["0", "1"]
    assert own not in folders


def test_a_folder_of_ours_is_not_copied(start):
    def function(config):
        with reporting.checkpoint_folder() as folder:
            (folder / "state").write_text("x")
            tune.report({"n": 1}, checkpoint=tune.Checkpoint.from_directory(str(folder)))

    session = start(function)
    report = session.next()
    assert report.checkpoint.name == "scratch0"


def test_a_generator_and_a_returned_dictionary_report(start):
    def yields(config):
        yield {"n": 1}
        yield None
        yield {"n": 2}

    def returns(config):
        return {"n": 1}

    def both(config):
        tune.report({"n": 1})
        return {"n": 2}

    two = [Report({"n": 1}, None), Report({"n": 2}, None), Returned()]
    assert outcomes(start(yields)) == two
    assert outcomes(start(returns)) == [two[0], Returned()]
    assert outcomes(start(both)) == two
    assert outcomes(start(lambda config: None)) == [Returned()]


@pytest.mark.parametrize("answer", [3, "done", [1]])
def test_anything_else_returned_is_an_error(start, answer):
    found = start(lambda config: answer).next()
    assert isinstance(found, Raised)
    assert "returns or yields nothing or a dictionary" in found.summary


def test_an_exception_is_one_line_and_a_traceback_from_the_users_code_on(start):
    def inner():
        raise ValueError("first line\nsecond line")

    def function(config):
        tune.report({"n": 1})
        inner()

    session = start(function)
    session.next()
    found = session.next()
    assert isinstance(found, Raised)
    assert found.summary.startswith("test_function_session.py, line ")
    assert found.summary.endswith(", in inner: ValueError: first line second line")
    assert "in inner" in found.text
    assert "workers/function_session.py" not in found.text.replace(__file__, "")
    assert not found.out_of_memory


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError("x")])
def test_no_exception_of_the_users_code_passes(start, error):
    def function(config):
        raise error

    found = start(function).next()
    assert isinstance(found, Raised)
    assert f", in function: {type(error).__name__}" in found.summary
    assert found.out_of_memory == isinstance(error, MemoryError)


def test_the_function_waits_inside_report(start):
    reached = []

    def function(config):
        for number in range(3):
            reached.append(number)
            tune.report({"n": number})

    session = start(function)
    session.next()
    time.sleep(0.05)
    assert reached == [0]
    session.next()
    time.sleep(0.05)
    assert reached == [0, 1]


def test_stop_unwinds_the_function_where_it_waits(start):
    unwound = []

    def function(config):
        try:
            while True:
                tune.report({"n": 1})
        except Exception:
            unwound.append("except Exception must not catch the end")
        finally:
            unwound.append("finally")

    session = start(function)
    session.next()
    assert session.stop()
    assert unwound == ["finally"]
    assert session.stop()


def test_a_function_that_goes_on_after_the_end_is_ended_again(start):
    def function(config):
        for _ in range(3):
            try:
                tune.report({"n": 1})
            except BaseException:
                continue

    session = start(function)
    session.next()
    assert session.stop()


def test_a_generator_is_unwound_as_well(start):
    unwound = []

    def function(config):
        try:
            while True:
                yield {"n": 1}
        finally:
            unwound.append(True)

    session = start(function)
    session.next()
    session.next()
    assert session.stop()
    del session
    assert unwound == [True]


def test_stop_says_when_the_function_does_not_end(start, monkeypatch):
    monkeypatch.setattr(function_session, "STOP_TIMEOUT_S", 0.1)
    release = threading.Event()

    def function(config):
        try:
            tune.report({"n": 1})
        finally:
            release.wait(10)

    session = start(function)
    session.next()
    assert not session.stop()
    release.set()


def test_a_session_that_never_started_stops(start):
    assert start(lambda config: None).stop()


def test_the_thread_is_prepared_first(start):
    order = []
    session = start(lambda config: order.append("function"), prepare=lambda: order.append("prepare"))
    session.next()
    assert order == ["prepare", "function"]


def test_save_is_offered(start, tmp_path):
    def function(config):
        reporting.on_save(lambda folder: (folder / "state").write_text("saved"))
        tune.report({"n": 1})

    session = start(function)
    session.next()
    session.save(tmp_path)
    assert (tmp_path / "state").read_text() == "saved"


def test_without_a_session_the_helpers_do_nothing():
    reporting.on_save(lambda folder: None)
    with reporting.checkpoint_folder() as folder:
        assert list(folder.iterdir()) == []
    assert not folder.exists()
    assert reporting.get_checkpoint() is None
    assert reporting.trial_id() == ""
    with pytest.warns(UserWarning, match="outside of a trial"):
        report({"loss": 1.0})


def test_our_own_report_and_checkpoint(start, tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from/state").write_text("5")

    def function(config):
        assert (get_checkpoint() / "state").read_text() == "5"
        report({"loss": 1.0})
        (tmp_path / "own").mkdir()
        (tmp_path / "own/state").write_text("6")
        report({"loss": 0.5, "id": reporting.trial_id()}, checkpoint=str(tmp_path / "own"))

    first, second, last = outcomes(start(function, checkpoint=tmp_path / "from"))
    assert first == Report({"loss": 1.0}, None)
    assert second.metrics == {"loss": 0.5, "id": "t00007"}
    assert (second.checkpoint / "state").read_text() == "6"
    assert second.checkpoint != tmp_path / "own"
    assert last == Returned()


LATE = """
import sys
from raytune_hpo.workers.function_session import FunctionSession

def function(config):
    from raytune_hpo import report
    report({"ray": "ray" in sys.modules})
    from ray import tune
    tune.report({"id": tune.get_context().get_trial_id()})

session = FunctionSession(
    function, {}, trial_id="t00003", checkpoint=None, scratch=lambda: None, prepare_thread=lambda: None
)
print(session.next().metrics, session.next().metrics, session.stop())
from ray.train._internal import session as module
print(module.get_session(), module.__spec__.loader, [f for f in sys.meta_path if "tune_session" in type(f).__module__])
"""


def test_ray_tune_is_imported_by_those_who_use_it():
    """And finds the session also when that is in the middle of the trial."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True, timeout=60)
    reports, after = done.stdout.splitlines()
    assert reports == "{'ray': False} {'id': 't00003'} True", MOVED
    assert after.startswith("None <_frozen_importlib_external.SourceFileLoader"), after
    assert after.endswith("[]"), after


def test_a_trial_that_does_not_end_is_not_heard_as_the_next_one(start, monkeypatch):
    monkeypatch.setattr(function_session, "STOP_TIMEOUT_S", 0.1)
    release, over = threading.Event(), []

    def stubborn(config):
        try:
            report({"n": 1})
        except BaseException:
            release.wait(10)
        for said in (report, tune.report):
            try:
                said({"n": "of the old trial"})
            except BaseException as error:
                over.append(type(error).__name__)

    old = start(stubborn)
    old.next()
    assert not old.stop()
    new = start(lambda config: report({"n": 2}))
    assert new.next() == Report({"n": 2}, None)
    release.set()
    assert old.stop()
    assert new.next() == Returned()
    assert over == ["Stopped", "Stopped"]


def test_a_function_may_change_its_config(start):
    config = {"x": {"y": 1}}

    def function(config):
        config["x"]["y"] = 2

    start(function, config).next()
    assert config == {"x": {"y": 1}}


def test_numbers_of_numpy_and_torch_become_pythons():
    given = {
        "a": np.float32(0.5),
        "b": np.int64(3),
        "c": np.bool_(True),
        "d": np.array(0.25),
        "e": torch.tensor(2.0),
        "f": torch.tensor(3, requires_grad=False),
        "g": torch.tensor(1.5, requires_grad=True),
        "h": np.str_("text"),
        "i": None,
        "j": "x",
        "k": np.float64("nan"),
    }
    plain = plain_metrics(given).kept
    types = {name: type(value) for name, value in plain.items()}
    assert types["a"] is types["d"] is types["e"] is types["g"] is types["k"] is float
    assert types["b"] is types["f"] is int
    assert types["c"] is bool
    assert types["h"] is str
    assert math.isnan(plain["k"])
    assert (plain["a"], plain["b"], plain["c"], plain["g"]) == (0.5, 3, True, 1.5)


@pytest.mark.parametrize("value", [np.zeros(33), torch.zeros(33, 2), object(), 1j, b"x", "x" * 1001, 10**400])
def test_what_is_no_plain_value_is_left_out_and_named(start, value):
    kept, left_out = plain_metrics({"loss": 1.0, "odd": value})
    assert kept == {"loss": 1.0}
    assert list(left_out) == ["odd"]

    def function(config):
        for _ in range(3):
            tune.report({"loss": 1.0, "odd": value})

    session = start(function)
    with pytest.warns(UserWarning, match="left out of what is reported.*'odd'") as said:
        assert outcomes(session) == [Report({"loss": 1.0}, None)] * 3 + [Returned()]
    assert [Path(warning.filename).name for warning in said] == [Path(__file__).name], "once, at the line that reports"


def test_elements_of_one():
    """One element is a number, whatever axes it has."""
    given = {"a": torch.ones(()), "b": np.ones(()), "c": torch.ones(1, 1), "d": np.ones(1)}
    assert plain_metrics(given).kept == dict.fromkeys("abcd", 1.0)


def test_a_function_at_work_is_answered_for_and_never_runs_past_what_it_may(tmp_path: Path) -> None:
    """Reports that come about when an answer is given: none is lost, doubled or waited for without end."""
    rng = random.Random(1)
    allowed = 0

    def function(config: dict[str, Any]) -> None:
        for epoch in range(1, 301):
            time.sleep(max(0.0, rng.gauss(0.001, 0.0005)))
            assert epoch <= allowed
            report({"epoch": epoch})

    session = FunctionSession(
        function, {}, trial_id="t0", checkpoint=None, scratch=lambda: tmp_path, prepare_thread=lambda: None
    )
    seen: list[int] = []
    ended: Any = None
    while ended is None:
        most = rng.randrange(1, 5)
        allowed = max(allowed, len(seen) + most)
        outcomes: list[Any] = []
        while not outcomes and ended is None:
            outcomes = session.run(allowed - len(seen), 0.001, at_least=rng.randrange(2))
            seen += [o.metrics["epoch"] for o in outcomes if isinstance(o, Report)]
            ended = next((o for o in outcomes if not isinstance(o, Report)), None)
    session.stop()
    assert isinstance(ended, Returned), ended
    assert seen == list(range(1, 301))
