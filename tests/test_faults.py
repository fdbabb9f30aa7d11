"""Faults that were: each test is red on the code that had it, and most start no Ray."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest
from run_by_hand import RunByHand
from written_run import checkpoint, end, finished_run, result, suggest, written_run

import raytune_hpo
from raytune_hpo import (
    EarlyStopping,
    Experiment,
    ExperimentError,
    Float,
    SearchOptions,
    StopRun,
    load_experiment,
    load_results,
    option,
    resume,
    run,
)
from raytune_hpo.cli.main import main
from raytune_hpo.engine.judge import Judge
from raytune_hpo.engine.population import Population
from raytune_hpo.engine.reopening import open_journal
from raytune_hpo.journal.events import (
    CheckpointSaved,
    Decided,
    Event,
    Noticed,
    Reported,
    SessionOpened,
    Started,
    Suggested,
)
from raytune_hpo.objective import Objective
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.states import Decision, Status
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.tasks import Digits
from raytune_hpo.workers import machine

Capture = pytest.CaptureFixture[str]
REPOSITORY = Path(__file__).resolve().parents[1]
SPACE = {"lr": Float(1e-4, 1e-1, "log")}


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=60
    )


# The best trial's own end was counted as one without a new best ------------------------------------------


def ended(*accuracies: float) -> Ledger:
    ledger = Ledger(Objective("validation_accuracy", "max"))
    for i, accuracy in enumerate(accuracies):
        trial = f"t{i:05d}"
        for event in (suggest(trial), *result(trial, 1, accuracy), end(trial, "completed", "max_epochs")):
            ledger.apply(event)
    return ledger


def test_the_best_trials_own_end_is_no_trial_without_improvement() -> None:
    assert ended(0.5).ended_since_best == 0
    assert ended(0.5, 0.4).ended_since_best == 1
    assert ended(0.5, 0.6, 0.7).ended_since_best == 0
    assert ended(0.7, 0.6, 0.5, 0.8, 0.1, 0.2).ended_since_best == 2


def test_a_run_does_not_end_while_every_trial_is_a_new_best() -> None:
    """With no_improvement_trials=1 it ended with its first trial, whatever came after."""
    made = Experiment(name="x", task="digits", space=SPACE, stop=StopRun(no_improvement_trials=1)).resolved
    judge = Judge(made, SchedulerHost(made.new_scheduler()))
    assert judge.run_is_over(ended(0.5)) is None
    assert judge.run_is_over(ended(0.5, 0.6)) is None
    assert judge.run_is_over(ended(0.5, 0.4)) == "no improvement over 1 trials"


# EarlyStopping's own metric and mode were overwritten by the objective's ----------------------------------


def test_early_stopping_keeps_the_metric_that_it_was_given() -> None:
    own = EarlyStopping(2, metric="validation_loss", mode="min")
    made = Experiment(name="x", task="digits", space=SPACE, early_stopping=own)
    assert made.resolved.early_stopping == own
    assert made.resolved.objective == Objective("validation_accuracy", "max")
    assert Experiment.from_json(made.to_json()).resolved.early_stopping == own
    only_metric = made.override({"early_stopping": {"patience": 2, "metric": "train_loss"}}).resolved.early_stopping
    assert only_metric == EarlyStopping(2, metric="train_loss", mode="min")
    left_out = made.override({"early_stopping": {"patience": 2}}).resolved.early_stopping
    assert left_out == EarlyStopping(2, metric="validation_accuracy", mode="max")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metric": "validation_los"}, ["early_stopping.metric = 'validation_los'", "did you mean 'validation_loss'"]),
        ({"metric": "validation_loss", "mode": "max"}, ["early_stopping.mode = 'max'", "better when it is lower"]),
        ({"mode": "min"}, ["early_stopping.mode = 'min'", "better when it is higher"]),
    ],
)
def test_an_early_stopping_that_cannot_be_is_refused(given: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ExperimentError) as caught:
        Experiment(name="x", task="digits", space=SPACE, early_stopping={"patience": 2, **given})
    for word in words:
        assert word in str(caught.value)


def population(experiment: Experiment) -> Population:
    made = experiment.resolved

    def adopt(*_: Any) -> Any:
        raise AssertionError

    return Population(made, made.new_search(), SchedulerHost(made.new_scheduler()), adopt)


def test_a_trial_is_stopped_by_the_metric_that_was_given() -> None:
    """The objective gets better in every epoch, the loss that early stopping looks at does not."""
    own = EarlyStopping(2, metric="validation_loss", mode="min")
    made = Experiment(name="x", task="digits", space=SPACE, early_stopping=own, scheduler="fifo", searcher="random")
    people = population(made)
    trial = people.next_trial()
    assert trial is not None
    people.do(Started(trial.id, epoch=0))
    answers = []
    for epoch, loss in enumerate((1.0, 0.9, 0.95, 0.92), start=1):
        metrics = {"validation_accuracy": epoch / 10, "validation_loss": loss, "train_loss": 1 / epoch}
        answers.append(people.report(trial, epoch, metrics, 0.1))
    assert answers == ["continue", "continue", "continue", "end"]
    assert (trial.status, trial.reason, trial.epoch) == (Status.STOPPED, "plateau", 4)


def worse_and_worse(config: dict[str, Any]) -> None:
    from ray import tune

    for epoch in range(1, 13):
        tune.report({"score": epoch, "strain": max(epoch, 3)})


@pytest.mark.usefixtures("ray_session")
def test_a_run_is_stopped_by_the_metric_that_was_given(tmp_path: Path) -> None:
    results = run(
        Experiment(
            name="x", task=worse_and_worse, space={"x": Float(0.0, 1.0)}, metric="score", mode="max", max_epochs=12,
            num_samples=1, searcher="random", scheduler="fifo",
            early_stopping=EarlyStopping(3, metric="strain", mode="min"),
        ),
        tmp_path / "run",
    )  # fmt: skip
    (trial,) = results.ledger.trials.values()
    assert (trial.reason, trial.epoch) == ("plateau", 4)
    assert list(results.curves.decision) == [Decision.CONTINUE] * 3 + [Decision.PLATEAU]


# Who only looked whether a run is in use took its lock, and a session that began then was refused ------------


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory.create(tmp_path / "run", {}, None)
    made.unlock()
    return made


def test_looking_takes_no_lock_that_keeps_another_from_looking(directory: RunDirectory) -> None:
    """Two who look at the same instant: each said that the other had the run."""
    descriptor = os.open(directory.path / "lock", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # as one who looks holds it, for an instant
        assert not directory.in_use()
    finally:
        os.close(descriptor)


def test_looking_writes_nothing(directory: RunDirectory) -> None:
    lock = directory.path / "lock"
    before = (lock.read_bytes(), lock.stat().st_mtime_ns)
    assert not directory.in_use()
    assert (lock.read_bytes(), lock.stat().st_mtime_ns) == before


LOOK = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(descriptor, fcntl.LOCK_SH)
print("looking", flush=True)
time.sleep(float(sys.argv[2]))
os.close(descriptor)
print("gone", flush=True)
time.sleep(5)
"""


def test_a_session_waits_for_one_who_only_looks(directory: RunDirectory) -> None:
    command = [sys.executable, "-c", LOOK, str(directory.path / "lock"), "0.15"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as looker:
        assert looker.stdout is not None
        assert looker.stdout.readline() == "looking\n"
        directory.lock()
        directory.unlock()
        looker.kill()


def test_a_run_that_is_taken_is_in_use_and_refused_soon(directory: RunDirectory) -> None:
    directory.lock()
    assert RunDirectory(directory.path).in_use()
    began = time.monotonic()
    with pytest.raises(ExperimentError, match=f"is in use by process {os.getpid()}"):
        RunDirectory(directory.path).lock()
    assert time.monotonic() - began < 5
    directory.unlock()
    assert not RunDirectory(directory.path).in_use()


# Two experiment files in one process, each with a helper.py beside it -----------------------------------


def test_two_experiment_files_have_each_their_own_helper(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / f"of_{number}"
        (folder / "parts").mkdir(parents=True)
        (folder / "helper_of_faults.py").write_text(f"NAME = 'number-{number}'\n")
        (folder / "parts" / "__init__.py").write_text("")
        (folder / "parts" / "inner_of_faults.py").write_text(f"SEED = {number}\n")
        (folder / f"experiment_{number}.py").write_text(
            "from raytune_hpo import Experiment, Float\nfrom helper_of_faults import NAME\n"
            "from parts.inner_of_faults import SEED\n"
            "experiment = Experiment(name=NAME, task='digits', space={'lr': Float(0.1, 1)}, seed=SEED)\n"
        )
    before = list(sys.path)
    try:
        found = [load_experiment(tmp_path / f"of_{n}" / f"experiment_{n}.py") for n in (1, 2)]
        assert [(made.name, made.seed) for made in found] == [("number-1", 1), ("number-2", 2)]
    finally:
        sys.path[:] = before
        for name in ("helper_of_faults", "parts", "parts.inner_of_faults"):
            sys.modules.pop(name, None)


# A task with a Path for an option ------------------------------------------------------------------------


@dataclass(frozen=True)
class OfAFolder(Digits):
    folder: Path = Path("data")
    other: Path | None = None


PATH_TASK = """
from dataclasses import dataclass
from pathlib import Path
from raytune_hpo import Experiment, Float
from raytune_hpo.tasks import Digits

@dataclass(frozen=True)
class Mine(Digits):
    folder: Path = Path("data")

experiment = Experiment(name="paths", task=Mine(folder=Path("/data/mine")), space={"lr": Float(1e-3, 0.1)},
                        num_samples=2, storage="runs")
"""


def test_a_task_with_a_path_comes_back_from_json_equal() -> None:
    task = OfAFolder(folder=Path("/data/mine"), other=Path("there"))
    made = Experiment(name="x", task=task, space=SPACE)
    data = json.loads(json.dumps(made.to_json(), allow_nan=False))
    again = Experiment.from_json(data).resolved.task
    assert again == task
    assert isinstance(again, OfAFolder)
    assert isinstance(again.folder, Path)
    assert Experiment.from_json(data).to_json() == data
    assert Experiment.from_json(Experiment(name="x", task=OfAFolder(), space=SPACE).to_json()).resolved.task == (
        OfAFolder()
    )


def test_a_run_of_a_task_with_a_path_is_described_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The directory was made, and then its description could not be written: a half-made run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paths.py").write_text(PATH_TASK)
    assert main(["validate", "paths.py", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["experiment"]["task"]["options"]["folder"] == "/data/mine"
    loaded = load_experiment(tmp_path / "paths.py")
    directory = RunDirectory.create(tmp_path / "run", loaded.to_json(), tmp_path / "paths.py")
    directory.unlock()
    assert load_experiment(directory.path).resolved.task == loaded.resolved.task


def test_what_cannot_be_written_down_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        RunDirectory.create(tmp_path / "run", {"task": object()}, None)
    assert not (tmp_path / "run").exists()


# A URL was taken for a folder ----------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://bucket", "file:///tmp/x", "hdfs://host:1/x"])
def test_a_storage_that_is_a_url_is_refused(url: str) -> None:
    with pytest.raises(ExperimentError, match=r"storage = .*is a URL: runs live in folders"):
        Experiment(name="x", task="digits", space=SPACE, storage=url)


def test_urls_on_the_command_line_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.py").write_text(
        "from raytune_hpo import Experiment, Float\n"
        "experiment = Experiment(name='x', task='digits', space={'lr': Float(0.1, 1)})\n"
    )
    before = set(tmp_path.rglob("*"))
    for field, arguments in (
        ("run directory", ["run", "x.py", "--run-dir", "s3://bucket/x"]),
        ("storage", ["run", "x.py", "--set", "storage=s3://bucket/x"]),
        ("storage", ["validate", "x.py", "--set", "storage=s3://bucket/x"]),
    ):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"raytune-hpo: {field} = 's3://bucket/x': is a URL")
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before


def test_folders_with_a_colon_are_folders() -> None:
    for name in ("runs:old", "a:b/c", "./s3://x"):
        assert Experiment(name="x", task="digits", space=SPACE, storage=name).resolved.storage == name


# What every command has ------------------------------------------------------------------------------------


def test_the_version_in_three_ways(tmp_path: Path, capsys: Capture) -> None:
    from importlib import metadata

    version = metadata.version("raytune-hpo")
    assert raytune_hpo.__version__ == version
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"raytune-hpo {version}\n"
    done = python("-m", "raytune_hpo", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"raytune-hpo {version}\n", "")


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = python("-m", "raytune_hpo", "best", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("raytune-hpo: run directory = ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("typed", "meant"), [("rnu", "run"), ("resmue", "resume"), ("trails", "trials")])
def test_a_mistyped_command_is_told_what_was_meant(typed: str, meant: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([typed, "x"])
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"'{typed}': no such command; did you mean '{meant}'?" in err


def test_an_intervention_says_what_the_run_is_under(tmp_path: Path, capsys: Capture) -> None:
    """It said "is a asha run"."""
    path = str(written_run(tmp_path / "run", suggest("t00000")))
    for arguments in (["nudge", path, "lr=0.1"], ["rollback", path, "--epoch", "1"], ["pause", path]):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == (
            f"raytune-hpo: run directory = '{path}': is a run under asha; only a panda's takes interventions\n"
        )


def test_list_shows_the_runs_of_a_folder(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = tmp_path / "runs"
    assert main(["list"]) == 2
    assert "storage = 'runs': is no folder" in capsys.readouterr().err
    storage.mkdir()
    assert main(["list"]) == 0
    assert capsys.readouterr().out == "no runs in runs\n"
    finished_run(storage / "a-done")
    written_run(storage / "b-killed", suggest("t00000"))
    taken = RunDirectory(written_run(storage / "c-taken", suggest("t00000"), result("t00000", 1, 0.25)))
    taken.lock()
    written_run(storage / "d-damaged", "{torn\n", suggest("t00000"))
    (storage / "no run").mkdir()
    assert main(["list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["run", "status", "begun", "trials", "metric", "best"]
    assert lines[1] == ["a-done", "finished", "4", "validation_accuracy", "0.95"]
    assert lines[2] == ["b-killed", "killed", "1", "validation_accuracy", "-"]
    assert lines[3] == ["c-taken", "running", "1", "validation_accuracy", "0.25"]
    assert lines[4][:2] == ["d-damaged", "damaged"]
    assert len(lines) == 5
    taken.unlock()
    assert main(["list", str(storage), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["storage"] == str(storage)
    assert [(Path(r["run_dir"]).name, r["status"]) for r in document["runs"]] == [
        ("a-done", "finished"), ("b-killed", "killed"), ("c-taken", "killed"), ("d-damaged", "damaged"),
    ]  # fmt: skip
    assert document["runs"][0]["best"] == 0.95


# Results that show themselves, and change nothing by being looked at --------------------------------------


def test_results_show_themselves_in_a_few_lines(tmp_path: Path) -> None:
    """They printed every event of the run."""
    results = load_results(finished_run(tmp_path / "run"))
    assert repr(results).splitlines() == [
        "run: finished, 1 completed, 1 stopped, 1 diverged, 1 failed",
        "trial   validation_accuracy  epoch  status     config",
        "t00001  0.95                 2      completed  lr=0.05 batch_size=32",
        "t00000  0.8                  1      stopped    lr=0.01 batch_size=32",
    ]
    assert str(results) == repr(results)
    html = results._repr_html_()
    assert html.startswith("<div><p><b>run</b>: finished, 1 completed")
    assert html.count("<tr>") == 3
    nothing = load_results(written_run(tmp_path / "a<b", suggest("t00000")))
    assert repr(nothing) == "a<b: running, 1 pending"
    assert nothing._repr_html_() == "<div><p><b>a&lt;b</b>: running, 1 pending</p></div>"
    many: list[Event | tuple[Event, ...]] = [suggest(f"t{i:05d}") for i in range(9)]
    many += [result(f"t{i:05d}", 1, i / 10) for i in range(9)]
    assert len(repr(load_results(written_run(tmp_path / "many", *many))).splitlines()) == 7


def test_the_best_changes_nothing_in_the_ledger(tmp_path: Path) -> None:
    """Of a trial whose checkpoints are gone, it took them out of the ledger as well."""
    path = written_run(
        tmp_path / "run", suggest("t00000"), checkpoint("t00000", 1), result("t00000", 1, 0.5),
        checkpoint("t00000", 2), result("t00000", 2, 0.9),
    )  # fmt: skip
    (path / "checkpoints/t00000/00-00002.1").rmdir()
    results = load_results(path)
    before = repr(vars(results.ledger))
    trial = results.ledger.trials["t00000"]
    for _ in range(2):
        best = results.best
        assert best is not None
        assert best.checkpoint_epoch == 1
        assert [record.epoch for record in trial.checkpoints] == [1, 2]
    assert repr(vars(results.ledger)) == before


# A last line that is whole and does not fit was dropped in silence, and with it the checkpoints that it told of --


def with_checkpoints(config: dict[str, Any]) -> None:
    import tempfile

    from ray import tune

    begun = tune.get_checkpoint()
    epoch = 0
    if begun is not None:
        with begun.as_directory() as folder:
            epoch = int((Path(folder) / "epoch").read_text())
    while epoch < 6:
        epoch += 1
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "epoch").write_text(str(epoch))
            tune.report({"score": epoch}, checkpoint=tune.Checkpoint.from_directory(folder))


@pytest.mark.usefixtures("ray_session")
def test_a_session_after_damage_says_so_and_deletes_no_checkpoint(tmp_path: Path) -> None:
    made = Experiment(
        name="x", task=with_checkpoints, space={"x": Float(0.0, 1.0)}, metric="score", mode="max", max_epochs=6,
        num_samples=1, searcher="random", scheduler="fifo",
    )  # fmt: skip
    path = tmp_path / "run"
    killed = RunByHand(path, made)
    config = made.resolved.new_search().suggest("t00000")
    assert config is not None
    killed.add(Suggested("t00000", config), Started("t00000", 0))
    for epoch in range(1, 6):
        scratch = killed.store.scratch("t00000")
        (scratch / "epoch").write_text(str(epoch))
        record = killed.store.commit(scratch, "t00000", 0, epoch)
        decided = Decided("t00000", epoch, Decision.CONTINUE)
        reported = Reported("t00000", 0, epoch, {"score": epoch}, 0.1)
        killed.add(CheckpointSaved("t00000", record), reported, decided)
    journal = path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = lines[-1].replace(b'"epoch":5', b'"epoch":7', 1)
    journal.write_bytes(b"".join(lines[:-1]) + damaged)
    saved = set((path / "checkpoints").glob("*/*"))
    assert len(saved) == 5
    results = resume(path, task=with_checkpoints)
    assert (results.status, list(results.curves.score)) == ("finished", [1, 2, 3, 4, 5, 6])
    assert saved <= set((path / "checkpoints").glob("*/*")), "what the damaged line told of is deleted"
    (aside,) = path.glob("journal-damaged-*.jsonl")
    assert aside.read_bytes() == damaged
    (notice,) = [event.text for event in results.of(Noticed) if "set aside" in event.text]
    assert notice.startswith(f"line {len(lines)} of journal.jsonl was changed")
    assert notice.endswith("no checkpoint of before is deleted")


def test_damage_is_remembered_until_the_journal_says_so(tmp_path: Path) -> None:
    """A session that dies between setting the line aside and its first step must not make the next one forget it."""
    run_dir = written_run(tmp_path / "run", SessionOpened(1), suggest("t00000"), suggest("t00001"))
    journal = run_dir / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"t00001"', b'"t00002"'))
    for _ in range(2):
        reading, writer = open_journal(RunDirectory.open(run_dir))
        writer.close()
        assert reading.damage is not None
        assert "set aside in journal-damaged-" in reading.damage
    reading, writer = open_journal(RunDirectory.open(run_dir))
    writer.append(1.0, [SessionOpened(2), Noticed(str(reading.damage))])
    writer.close()
    assert open_journal(RunDirectory.open(run_dir))[0].damage is None


def test_a_run_whose_journal_is_gone_does_not_begin_again_over_its_checkpoints(tmp_path: Path) -> None:
    run_dir = finished_run(tmp_path / "run")
    (run_dir / "journal.jsonl").unlink()
    with pytest.raises(ExperimentError, match="is missing, though the run has checkpoints"):
        open_journal(RunDirectory.open(run_dir))


def test_a_finished_run_may_be_resumed_twice_in_one_process(tmp_path: Path) -> None:
    run_dir = finished_run(tmp_path / "run")
    assert [resume(run_dir).status, resume(run_dir).status] == ["finished", "finished"]


# Options of a user's own --------------------------------------------------------------------------------------


def test_options_of_every_kind_of_optional_and_none_of_unknown_kinds() -> None:
    @dataclass(frozen=True)
    class Sound(SearchOptions):
        one: Optional[int] = option(None, low=1)  # noqa: UP045
        two: int | None = option(None)
        three: tuple[str, ...] = option(("a",))

    hints = {"one": Optional[int], "two": int | None, "three": tuple[str, ...]}  # noqa: UP045
    Sound.__annotations__.update(hints)
    assert Sound(one=3, two=None).to_json() == {"one": 3, "two": None, "three": ["a"]}
    with pytest.raises(ExperimentError, match=r"searcher\.two = 'x': must be an integer$"):
        Sound(two="x")  # type: ignore[arg-type]
    for kind in (dict, int | str):

        @dataclass(frozen=True)
        class Odd(SearchOptions):
            one: Any = None

        Odd.__annotations__["one"] = kind
        with pytest.raises(ExperimentError, match="an option is int, float, str, bool or tuple"):
            Odd()

    @dataclass(frozen=True)
    class Named(SearchOptions):
        name: str = option("x")

    with pytest.raises(ExperimentError, match="is what the whole is called"):
        Named()


# The limits of control groups -----------------------------------------------------------------------------


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, str]], None]:
    """Writes /proc/self/cgroup and files under /sys/fs/cgroup; the machine has 64 CPUs and 100 GB free."""
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN", tmp_path / "own")
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "meminfo").write_text("MemTotal: 200000000 kB\nMemFree: 1 kB\nMemAvailable: 100000000 kB\n")

    def write(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(textwrap.dedent(own))
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    return write


GB = 10**9


def test_a_machine_without_limits(groups: Callable[[str, dict[str, str]], None]) -> None:
    assert (machine.cpus(), machine.cpu_quota()) == (64, None)
    groups("0::/\n", {"cpu.max": "max 100000", "memory.max": "max", "memory.current": "5"})
    assert (machine.cpus(), machine.cpu_quota()) == (64, None)
    assert machine.free_memory_bytes() == 100_000_000 * 1024


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("9900000 100000", 64), ("nonsense", 64)],
)
def test_the_cpus_of_a_control_group_of_version_2(
    quota: str, expected: int, groups: Callable[[str, dict[str, str]], None]
) -> None:
    groups("0::/pod/mine\n", {"pod/mine/cpu.max": quota})
    assert machine.cpus() == expected


def test_a_group_round_ones_own_counts(groups: Callable[[str, dict[str, str]], None]) -> None:
    files = {"pod/mine/cpu.max": "800000 100000", "pod/cpu.max": "300000 100000", "cpu.max": "max 100000"}
    files |= {"pod/mine/memory.max": "max", "pod/memory.max": str(4 * GB), "pod/memory.current": str(GB)}
    groups("0::/pod/mine\n", files)
    assert machine.cpu_quota() == 3
    assert machine.free_memory_bytes() == 3 * GB


def test_the_memory_of_a_control_group_of_version_2(groups: Callable[[str, dict[str, str]], None]) -> None:
    files = {"memory.max": str(4 * GB), "memory.current": str(3 * GB), "memory.stat": f"anon 1\ninactive_file {2 * GB}"}
    groups("0::/\n", files)
    assert machine.free_memory_bytes() == 3 * GB  # the kernel's copies of files can be had back
    groups("0::/\n", {"memory.current": str(9 * GB)})
    assert machine.free_memory_bytes() == 0


VERSION_1 = """\
12:cpu,cpuacct:/docker/abc
11:memory:/docker/abc
10:cpuset:/docker/abc
1:name=systemd:/docker/abc
"""


def test_the_limits_of_control_groups_of_version_1(groups: Callable[[str, dict[str, str]], None]) -> None:
    files = {"cpu/docker/abc/cpu.cfs_quota_us": "250000", "cpu/docker/abc/cpu.cfs_period_us": "100000"}
    files |= {"memory/docker/abc/memory.limit_in_bytes": str(2 * GB)}
    files |= {"memory/docker/abc/memory.usage_in_bytes": str(GB)}
    files |= {"memory/docker/abc/memory.stat": f"inactive_file {GB // 2}\ntotal_inactive_file {GB // 2}"}
    groups(VERSION_1, files)
    assert (machine.cpus(), machine.cpu_quota()) == (2, 2.5)
    assert machine.free_memory_bytes() == GB + GB // 2
    no_limit = {"cpu/docker/abc/cpu.cfs_quota_us": "-1", "memory/docker/abc/memory.limit_in_bytes": str(2**63 - 4096)}
    groups(VERSION_1, no_limit)
    assert machine.cpus() == 64
    assert machine.free_memory_bytes() == 100_000_000 * 1024


def test_odd_control_groups_are_no_errors(groups: Callable[[str, dict[str, str]], None]) -> None:
    groups("0::/\n", {"cpu.max": "100000 0", "memory.max": str(GB)})
    assert machine.cpus() == 64
    assert machine.free_memory_bytes() == GB  # how much of it is used is not known
    groups("", {"cpu.max": "200000 100000"})
    assert machine.cpus() == 2


def test_both_controllers_in_one_folder_without_a_link(groups: Callable[[str, dict[str, str]], None]) -> None:
    both = "cpu,cpuacct/docker/abc/cpu.cfs_"
    groups(VERSION_1, {f"{both}quota_us": "300000", f"{both}period_us": "100000"})
    assert machine.cpus() == 3


def test_a_container_that_sees_its_own_group_as_the_root(groups: Callable[[str, dict[str, str]], None]) -> None:
    """/proc/self/cgroup names the place on the host; what is mounted is the container's own."""
    files = {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}
    files |= {"memory/memory.limit_in_bytes": str(GB), "memory/memory.usage_in_bytes": "0"}
    groups(VERSION_1, files)
    assert machine.cpus() == 1
    assert machine.free_memory_bytes() == GB
