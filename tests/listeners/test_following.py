"""Listeners: every event once, in order, in threads that nothing waits for."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ray.tune import Callback
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from written_run import RUN_ID, finished_run, result, suggest, written_run

from raytune_hpo import ExperimentError, Listener, follow, load_results
from raytune_hpo.journal.events import Event, SessionOpened, Step
from raytune_hpo.journal.file import Journal, read
from raytune_hpo.listeners import following
from raytune_hpo.listeners.following import Listening, made_listener
from raytune_hpo.listeners.listener import RunView


class Kept(Listener):
    """A sink that can say what it holds."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []
        self.calls: list[str] = []

    def begin(self, run: RunView) -> None:
        self.calls.append("begin")

    def position(self) -> int:
        return len(self.told)

    def event(self, number: int, event: Event, step: Step) -> None:
        self.told.append((number, event.KIND))

    def end(self) -> None:
        self.calls.append("end")


class Hangs(Kept):
    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()

    def event(self, number: int, event: Event, step: Step) -> None:
        self.may_go_on.wait()
        super().event(number, event, step)


class Breaks(Kept):
    def event(self, number: int, event: Event, step: Step) -> None:
        raise ValueError("the sink\nis gone")


def view(path: Path) -> RunView:
    return RunView(path, RUN_ID, {"metric": "validation_accuracy", "mode": "max", "name": "hand", "num_samples": 4})


def kinds(path: Path) -> list[tuple[int, str]]:
    return [(number, event.KIND) for number, event in enumerate(load_results(path).events)]


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, Journal]:
    run = written_run(tmp_path / "run", SessionOpened(1), suggest("t00000"))
    reading = read(run / "journal.jsonl", RUN_ID)
    return run, Journal(run / "journal.jsonl", RUN_ID, reading.link, reading.end)


def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def test_every_event_once_and_in_order_while_the_run_goes_on(begun: tuple[Path, Journal]) -> None:
    run, journal = begun
    one, other = Kept(), Kept()
    listening = Listening([one, other], view(run))
    listening.open(journal)
    until(lambda: len(one.told) == 2)
    for epoch in range(1, 40):
        journal.append(epoch, result("t00000", epoch, 0.5))
    listening.close()
    assert one.told == other.told == kinds(run)
    assert len(one.told) == 80
    assert one.calls == ["begin", "end"]


def test_it_goes_on_from_where_its_sink_is(begun: tuple[Path, Journal]) -> None:
    run, journal = begun
    kept = Kept()
    for epoch in range(1, 4):
        listening = Listening([kept], view(run))
        listening.open(journal)
        journal.append(epoch, result("t00000", epoch, 0.5))
        listening.close()
    assert kept.told == kinds(run)
    follow(run, kept)
    assert kept.told == kinds(run)


def test_one_that_hangs_stalls_neither_the_run_nor_its_end(
    begun: tuple[Path, Journal], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(following, "CLOSE_S", 0.5)
    run, journal = begun
    slow, quick = Hangs(), Kept()
    listening = Listening([slow, quick], view(run))
    listening.open(journal)
    for epoch in range(1, 10):
        journal.append(epoch, result("t00000", epoch, 0.5))
    listening.close()
    assert quick.told == kinds(run)
    assert slow.told == []
    assert "listener Hangs is behind: raytune_hpo.follow(run_dir, ...) tells it the rest" in capsys.readouterr().err
    slow.may_go_on.set()
    until(lambda: slow.calls == ["begin", "end"])
    assert slow.told == kinds(run)


def test_one_that_raises_is_reported_once_in_one_line_and_the_others_go_on(begun: tuple[Path, Journal]) -> None:
    run, journal = begun
    broken, sound = Breaks(), Kept()
    listening = Listening([broken, sound], view(run))
    listening.open(journal)
    found: list[str] = []
    until(lambda: found.extend(listening.troubles()) or found)
    assert found == ["listener Breaks failed and is switched off: ValueError: the sink is gone"]
    journal.append(1, result("t00000", 1, 0.5))
    listening.close()
    assert listening.troubles() == []
    assert broken.calls == ["begin"]
    assert sound.told == kinds(run)


def test_a_session_that_never_began_ends_its_listeners(tmp_path: Path) -> None:
    kept = Kept()
    Listening([kept], view(tmp_path)).close()
    assert (kept.calls, kept.told) == (["begin", "end"], [])


def test_an_export_raises_what_the_listener_raises_and_says_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is gone"):
        follow(finished_run(tmp_path / "run"), Breaks)
    with pytest.raises(ExperimentError, match="holds no run"):
        follow(tmp_path / "none", Kept)


class Told(Callback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.told.append(("start", trial.trial_id))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.told.append(("result", trial.trial_id, str(result["training_iteration"])))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.told.append(("complete", trial.trial_id))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.told.append(("error", trial.trial_id))


def test_a_callback_of_rays_is_told_of_results_and_ends(tmp_path: Path) -> None:
    run, callback = finished_run(tmp_path / "run"), Told()
    follow(run, callback)
    results = [t[1:] for t in callback.told if t[0] == "result"]
    assert results == [("t00000", "1"), ("t00001", "1"), ("t00001", "2"), ("t00001", "3"), ("t00002", "1")]
    ends = {t[1]: t[0] for t in callback.told if t[0] in ("complete", "error")}
    assert ends == {"t00000": "complete", "t00001": "complete", "t00002": "complete", "t00003": "error"}
    once = list(callback.told)
    follow(run, callback)
    assert callback.told == once, "it had been told everything"


def test_rays_loggers_write_a_file_a_trial(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    for logger, name in ((CSVLoggerCallback(), "progress.csv"), (JsonLoggerCallback(), "result.json")):
        assert isinstance(made_listener(logger), Listener)
        follow(run, logger)
        rows = (run / "listeners" / type(logger).__name__ / "t00001" / name).read_text().splitlines()
        assert sum("0.95" in row for row in rows) == 1
