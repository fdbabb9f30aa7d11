"""Listeners: every event once, in order, in threads that nothing waits for."""

from __future__ import annotations

import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import ray.air
from ray.tune import Callback
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from written_run import RUN_ID, end, finished_run, result, suggest, written_run

from raytune_hpo import ExperimentError, Listener, follow, load_results
from raytune_hpo.journal.events import Event, SessionOpened, Started, Step
from raytune_hpo.journal.file import Cursor, Journal, read
from raytune_hpo.listeners import following
from raytune_hpo.listeners.following import Listening
from raytune_hpo.listeners.listener import RunView
from raytune_hpo.listeners.ray_callback import CallbackTrial
from raytune_hpo.listeners.registry import made_listener, made_listeners


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
    listening.open(journal, journal.link.events)
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
        listening.open(journal, journal.link.events)
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
    listening.open(journal, journal.link.events)
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
    listening.open(journal, journal.link.events)
    found: list[str] = []
    until(lambda: found.extend(listening.troubles()) or found)
    assert found == ["listener Breaks failed and is switched off: ValueError: the sink is gone"]
    journal.append(1, result("t00000", 1, 0.5))
    listening.close()
    assert listening.troubles() == []
    assert broken.calls == ["begin"]
    assert sound.told == kinds(run)


def test_a_slow_disk_doubles_no_event_and_nothing_is_told_before_it_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line stands in the file before it is synced; a cursor that reads the file then must not take it."""
    run = written_run(tmp_path / "run", SessionOpened(1), suggest("t00000"))
    reading = read(run / "journal.jsonl", RUN_ID)
    journal = Journal(run / "journal.jsonl", RUN_ID, reading.link, reading.end)
    kept, told_early = Kept(), []

    def slow_sync(descriptor: int) -> None:
        cursor = Cursor(journal.path, RUN_ID, journal)
        told_early.extend(step for step in cursor.steps() if step.number > journal.link.number)
        time.sleep(0.15)

    monkeypatch.setattr("raytune_hpo.journal.file.os.fsync", slow_sync)
    listening = Listening([kept], view(run))
    listening.open(journal, 2)
    for epoch in range(1, 7):
        journal.append(epoch, result("t00000", epoch, 0.5))
    listening.close()
    assert told_early == []
    assert kept.told == kinds(run)


def test_a_sink_that_holds_more_than_the_journal_is_told_what_came_in_its_place(begun: tuple[Path, Journal]) -> None:
    """The journal's last line was damaged, and set aside: its events are to happen again."""
    run, journal = begun
    kept = Kept()
    kept.told = [(0, "session"), (1, "suggest"), (2, "result"), (3, "decide")]
    listening = Listening([kept], view(run))
    listening.open(journal, journal.link.events)
    journal.append(1, result("t00000", 1, 0.5))
    listening.close()
    assert [number for number, _ in kept.told[4:]] == [2, 3]


class Exits(Kept):
    def event(self, number: int, event: Event, step: Step) -> None:
        sys.exit("enough")


def test_one_that_exits_is_reported_as_well(begun: tuple[Path, Journal]) -> None:
    run, journal = begun
    listening = Listening([Exits()], view(run))
    listening.open(journal, 0)
    found: list[str] = []
    until(lambda: found.extend(listening.troubles()) or found)
    assert found == ["listener Exits failed and is switched off: SystemExit: enough"]


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
    assert ends == {"t00000": "complete", "t00001": "complete", "t00002": "complete"}, "t00003 was never begun"
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


def test_two_callbacks_of_one_class_have_each_a_folder(tmp_path: Path) -> None:
    made = made_listeners([CSVLoggerCallback(), JsonLoggerCallback(), CSVLoggerCallback(), Kept])
    names = [getattr(listener, "name", None) for listener in made]
    assert names == ["CSVLoggerCallback", "JsonLoggerCallback", "CSVLoggerCallback-2", None]


class NeedsABegunTrial(Callback):  # type: ignore[misc]
    """As MLflow's and W&B's do: what they are told of a trial needs what they made when it began."""

    def __init__(self) -> None:
        self.runs: dict[str, Any] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.runs[trial.trial_id] = [trial.experiment_dir_name, trial.local_experiment_path, trial.path]

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        self.runs[trial.trial_id].append(result["training_iteration"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.runs[trial.trial_id].append("complete")

    on_trial_error = on_trial_complete


def test_a_callback_in_a_new_session_is_told_of_the_beginning_of_trials_that_go_on(tmp_path: Path) -> None:
    run = written_run(
        tmp_path / "run",
        SessionOpened(1),
        suggest("t00000"),
        suggest("t00001"),
        Started("t00000", 0),
        result("t00000", 1, 0.5),
    )
    follow(run, NeedsABegunTrial())
    reading = read(run / "journal.jsonl", RUN_ID)
    journal = Journal(run / "journal.jsonl", RUN_ID, reading.link, reading.end)
    journal.append(9, result("t00000", 2, 0.6))
    journal.append(9, [end("t00000", "stopped", "x"), end("t00001", "stopped", "x")])
    second = NeedsABegunTrial()
    follow(run, second)
    folder = run / "listeners" / "NeedsABegunTrial"
    assert second.runs == {"t00000": ["run", str(folder), str(folder / "t00000"), 2, "complete"]}


def test_the_loggers_of_others_ask_a_trial_for_nothing_that_is_not_there() -> None:
    """What the callbacks of Ray's integrations read of a trial, by reading them."""
    trial = CallbackTrial("t00000", {"lr": 0.1}, "/runs/run/listeners/X/t00000", "hand")
    for module in ("wandb", "mlflow", "comet"):
        text = (Path(ray.air.__file__).parent / "integrations" / f"{module}.py").read_text()
        for name in set(re.findall(r"\btrial\.(\w+)", text)):
            assert hasattr(trial, name), f"{module}: trial.{name}"
