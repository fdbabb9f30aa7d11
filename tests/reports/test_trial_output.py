"""What a trial prints, logs and warns is kept, wherever it runs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Float, load_results, report, run
from raytune_hpo.cli import logs as logs_verb
from raytune_hpo.cli.logs import CONTROL
from raytune_hpo.cli.main import main
from raytune_hpo.journal.events import Started, Warned
from raytune_hpo.results.results import Results
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.workers import trial_log

EXECUTORS = ["inline", "processes"]


def experiment(task: Any, **fields: Any) -> Experiment:
    values: dict[str, Any] = {"scheduler": "fifo", "searcher": "random", "num_samples": 4, "max_epochs": 2, **fields}
    return Experiment(name="output", task=task, space={"x": Float(0.0, 1.0)}, metric="y", mode="min", **values)


def logs(results: Results) -> dict[str, str]:
    found = {event.trial: event.log for event in results.of(Started)}
    files = {trial: results.run_dir / log for trial, log in found.items() if log is not None}
    return {trial: file.read_text() for trial, file in files.items() if file.exists()}


def warned(results: Results) -> dict[str, dict[str, int]]:
    return {seen.line: seen.trials for seen in results.ledger.warnings.values()}


def speaks(config: dict[str, Any]) -> None:
    from raytune_hpo.workers.reporting import trial_id

    name = trial_id()
    if name == "t00002":
        report({"y": 1.0})
        return
    print("printed by", name)
    logger, handler = logging.getLogger("theirs"), logging.StreamHandler()
    logger.addHandler(handler)
    logger.warning("logged by %s", name)
    logger.removeHandler(handler)
    report({"y": 1.0})
    for _ in range(3):
        warnings.warn("the learning rate is high", RuntimeWarning, stacklevel=1)
    report({"y": 2.0})
    print("after the last report of", name)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are shown as they are outside of pytest."""

    def show(*given: Any) -> None:
        print(warnings.formatwarning(*given[:4]), file=sys.stderr)

    monkeypatch.setattr(warnings, "showwarning", show)


@pytest.mark.usefixtures("ray_session", "shown")
@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("executor", EXECUTORS)
def test_b20_each_trial_has_its_log_and_its_warnings(
    executor: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    showwarning, filters = warnings.showwarning, list(warnings.filters)
    results = run(experiment(speaks, executor=executor), tmp_path / "run")
    assert (warnings.showwarning, list(warnings.filters)) == (showwarning, filters)
    said = logs(results)
    assert sorted(said) == ["t00000", "t00001", "t00003"]  # a silent one has none
    for trial, text in said.items():
        for line in (f"printed by {trial}", f"logged by {trial}", f"after the last report of {trial}"):
            assert text.count(line) == 1
        assert text.count("RuntimeWarning: the learning rate is high") == 1
        assert not [other for other in said if other != trial and other in text]
    ((line, trials),) = warned(results).items()
    assert line.startswith("RuntimeWarning: the learning rate is high (test_trial_output.py:")
    assert trials == dict.fromkeys(said, 3)
    assert warned(load_results(tmp_path / "run")) == warned(results)
    assert ("printed by t00000" in capfd.readouterr().out) == (executor == "inline")
    assert not list((tmp_path / "run" / "logs").glob(".*"))


@pytest.mark.usefixtures("ray_session")
def test_near_b20_children_and_c_code_are_heard_and_a_flood_is_cut(
    tmp_path: Path,
) -> None:
    def floods(config: dict[str, Any]) -> None:
        subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
        os.write(1, b"a descriptor\n")
        for number in range(60_000):
            print(f"line {number:06d} of many")
        report({"y": 1.0})

    results = run(experiment(floods, executor="processes", num_samples=1, max_epochs=1), tmp_path / "run")
    (text,) = logs(results).values()
    assert text.startswith("a child\na descriptor\nline 000000 of many\n")
    assert text.endswith("line 059999 of many\n")
    assert "bytes left out\n" in text
    assert len(text) < trial_log.HEAD_BYTES + trial_log.TAIL_BYTES + 100


@dataclass(frozen=True)
class Speaking(Digits):
    def build_model(self, config: Mapping[str, Any]) -> Any:
        print("building for", config["lr"])
        warnings.warn(f"lr={config['lr']} is what it is", UserWarning, stacklevel=1)
        return super().build_model(config)


@pytest.mark.usefixtures("ray_session", "shown")
@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("executor", ["lanes", "inline"])
def test_near_b20_lanes_share_a_log_and_have_warnings_of_their_own(executor: str, tmp_path: Path) -> None:
    space = {"lr": Float(1e-3, 1e-1, "log"), "batch_size": 256}
    made = Experiment(
        name="output", task=Speaking(), space=space, num_samples=3, max_epochs=1, scheduler="fifo",
        searcher="random", executor=executor,
    )  # fmt: skip
    results = run(made, tmp_path / "run")
    assert set(results.trials["status"]) == {"completed"}
    names = {event.log for event in results.of(Started)}
    texts = [(tmp_path / "run" / name).read_text() for name in names if name is not None]
    for trial in results.ledger.trials.values():
        assert any(f"building for {trial.config['lr']}" in text for text in texts)
    ((_, trials),) = warned(results).items()  # one to people, though each has another number in it
    assert set(trials) == set(results.ledger.trials)
    assert {event.category for event in results.of(Warned)} == {"UserWarning"}


def test_near_b20_a_long_log_keeps_its_beginning_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_log, "HEAD_BYTES", 100)
    monkeypatch.setattr(trial_log, "TAIL_BYTES", 100)
    file = os.open(tmp_path / "log", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    written = 0
    for number in range(500):
        written += os.write(file, f"{number:09d}\n".encode())
        assert trial_log.shorten(file, slack=3) <= 700
    trial_log.shorten(file)
    os.close(file)
    head, mark, tail = (tmp_path / "log").read_text().partition("\n---- ")
    left_out, _, tail = tail.partition(" bytes left out\n")
    assert head == "".join(f"{n:09d}\n" for n in range(10))
    assert tail == "".join(f"{n:09d}\n" for n in range(490, 500))
    assert mark
    assert int(left_out) == written - 200


ECHO = """
import sys, warnings
from raytune_hpo import Experiment, Float, report

def train(config):
    print("this is", config["x"] > 0, "\\x1b]0;title\\x07")
    warnings.warn("look out")
    report({"y": 1.0})

experiment = Experiment(name="echo", task=train, space={"x": Float(0.0, 1.0)}, metric="y", mode="min", max_epochs=1,
                        num_samples=3, scheduler="fifo", searcher="random", executor="inline")
"""


@pytest.mark.usefixtures("shown")
@pytest.mark.filterwarnings("always")
def test_b20_the_command_line_shows_logs_and_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, path = tmp_path / "echo.py", str(tmp_path / "run")
    file.write_text(ECHO)
    assert main(["run", str(file), "--run-dir", path]) == 0
    said = capsys.readouterr()
    assert said.out.count("t00000 warned: UserWarning: look out (echo.py:7)") == 1
    assert said.out.count("warned: 3 trials: UserWarning: look out (echo.py:7)") == 1
    assert said.err.count("UserWarning: look out") == 1  # a person has seen it
    assert main(["logs", path, "t00002", "-f"]) == 0
    (shown, *rest) = capsys.readouterr().out.splitlines()
    assert shown.startswith("this is True")
    assert "UserWarning: look out" in rest[0]
    assert main(["logs", path, "t00007"]) == 2
    assert "trial = 't00007': " in capsys.readouterr().err


def test_near_b20_a_strangers_journal_names_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret.log").write_text("secret")
    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "logs" / "t1.log").symlink_to(tmp_path / "secret.log")
    for name in ("../secret.log", "logs/../../secret.log", str(tmp_path / "secret.log"), "logs"):
        assert logs_verb._file(tmp_path / "run", name) is None
    with pytest.raises(ExperimentError, match="is a link"):
        logs_verb._file(tmp_path / "run", "logs/t1.log")
    assert (
        CONTROL.sub("", "a\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jb\tc\r\n")
        == "a\x1b[31mred\x1b[0m 0;title2Jb\tc\r\n"
    )
