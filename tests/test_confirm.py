"""confirm and retest on real data: noise has no winner, digits have one or a tie, kill -9 changes nothing.

The searched runs, and the repetitions where Ray is not the question, are trained in this process by the same trainers.
Costs, in seconds of CPU: 2 sessions of `confirm` 20, two of workers of this session's Ray 25, the rest 15.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from changing_digits import ChangingDigits
from process_tree import descendants, kill
from repeated_run import trained_repetitions
from written_run import result, suggest, written_run

from raytune_hpo import Experiment, ExperimentError, Float, Int
from raytune_hpo.cli.main import main
from raytune_hpo.display.confirm_text import confirm_text
from raytune_hpo.display.retest_text import retest_text
from raytune_hpo.results.results import Results, load_results
from raytune_hpo.results.sealed_test import openings
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.task import Task
from raytune_hpo.verdicts import confirm as confirming
from raytune_hpo.verdicts import retest as retesting
from raytune_hpo.verdicts.confirm import confirm
from raytune_hpo.verdicts.retest import retest

Capture = pytest.CaptureFixture[str]


def searched(path: Path, task: Task | str) -> Path:
    """A finished search of 8 trials of 3 epochs."""
    space = {"lr": Float(1e-3, 1.0, "log"), "hidden_units": Int(8, 64, "power_of_two"), "batch_size": 64}
    experiment = Experiment(
        name="searched", task=task, space=space, searcher="random", scheduler="fifo", num_samples=8, max_epochs=3,
        seed=3, max_concurrent=1, executor="processes",
    )  # fmt: skip
    trained_repetitions(path, experiment)
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("digits") / "run", "digits")


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("changing") / "run", ChangingDigits())


def in_process(path: Path, experiment: Experiment, **_: Any) -> Results:
    """`begin_or_go_on` with the same trainers and without Ray."""
    if not path.exists():
        trained_repetitions(path, experiment)
    return load_results(path)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (confirming, retesting):
        monkeypatch.setattr(module, "begin_or_go_on", in_process)


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    return lambda run: Path(shutil.copytree(run, tmp_path / "run"))


# confirm ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ray_session")
def test_noise_has_no_winner(tmp_path: Path, capsys: Capture) -> None:
    run = searched(tmp_path / "run", ChangingDigits(shuffled=True))
    assert main(["confirm", str(run), "-k", "3", "--seeds", "3", "--quiet"]) == 0
    text = capsys.readouterr().out
    print(text)
    assert "no winner: no better than chance" in text
    assert "\nwinner:" not in text
    made = json.loads((run / "confirm.json").read_text())
    assert (made["verdict"], made["winner"], made["tied"], made["test"]) == ("none", None, [], None)
    assert made["naive"] == pytest.approx(0.1016, abs=1e-4)
    assert made["above_naive"]["low"] < 0
    assert not (run / "test.json").exists()  # neither for a winner that there is not, nor for a lucky repetition
    assert not (run / "confirm" / "test.json").exists()
    repetitions = load_results(run / "confirm")
    assert repetitions.counts["completed"] == 9
    assert [t.repeat for t in repetitions.ledger.trials.values()] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.usefixtures("here")
def test_digits_have_a_winner_or_a_tie(digits: Path, copy: Callable[[Path], Path], capsys: Capture) -> None:
    run = copy(digits)
    made = confirm(run, 3, 5)
    assert made is not None
    text = confirm_text(made)
    print(text)
    assert made.verdict in ("winner", "tie")
    assert ("winner: " if made.verdict == "winner" else "a tie: ") in text
    first = made.contenders[0]
    assert first.mean is not None
    assert first.mean.low < 0.9 < first.mean.high
    assert made.naive == pytest.approx(0.1016, abs=1e-4)
    assert made.above_naive is not None
    assert made.above_naive.low > 0.5
    best = load_results(run).best
    assert best is not None
    confirmed = next(c for c in made.contenders if c.trial == best.trial_id).mean
    assert confirmed is not None
    assert made.optimism is not None
    assert made.optimism.estimate == pytest.approx(best.metric - confirmed.estimate)

    # The test split: opened once, for five models of the first; the same question is answered from the record.
    (opening,) = openings(run)
    assert (opening.purpose, opening.subject["trial"], opening.again) == ("confirm", first.trial, False)
    assert len(opening.subject["checkpoints"]) == 5
    assert opening.metrics is not None
    assert 0.85 < opening.metrics["test_accuracy"] < 0.97
    assert opening.metrics["test_accuracy_std"] > 0
    again = confirm(run, 3, 5)
    assert again is not None
    assert again.to_json() == made.to_json()
    assert len(openings(run)) == 1

    # Other seeds are another confirmation, in a folder of its own; the split stays sealed unless it is demanded.
    assert main(["confirm", str(run), "-k", "2", "--seeds", "2", "--json", "--quiet"]) == 0
    other = json.loads(capsys.readouterr().out.removeprefix(text).strip())
    assert (other["folder"], other["test"]) == ("confirm-2", None)
    assert f"opened for {first.trial}" in other["sealed"]
    assert "--again" in other["sealed"]
    assert len(openings(run)) == 1
    assert json.loads((run / "confirm.json").read_text()) == other
    demanded = confirm(run, 2, 2, again=True)
    assert demanded is not None
    assert demanded.opening is not None
    assert [o.again for o in openings(run)] == [False, True]
    ours = [c.repeated.values[:2].tolist() for c in sorted(made.contenders, key=lambda c: c.trial)]
    theirs = [c.repeated.values.tolist() for c in demanded.contenders]
    assert len(theirs) == 2
    assert ours != theirs  # of two repetitions, each chooses the other's epoch


@pytest.mark.usefixtures("here")
def test_no_test_leaves_the_split_sealed(digits: Path, copy: Callable[[Path], Path], capsys: Capture) -> None:
    run = copy(digits)
    assert main(["confirm", str(run), "-k", "2", "--seeds", "2", "--no-test"]) == 0
    assert "test:" not in capsys.readouterr().out
    assert openings(run) == []


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    """Nor what else differs between runs: where it is, and in which session a checkpoint was written."""
    subject = document["test"]["subject"]
    subject["checkpoints"] = [path.rpartition(".")[0] for path in subject["checkpoints"]]
    for config in document["configs"]:
        del config["seconds"]
    for name in ("begun", "ended"):
        del document["test"][name]
    del document["run_dir"]
    return document


@pytest.mark.timeout(600)
def test_kill_9_in_the_middle_changes_no_figure(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command and all of Ray below it are killed; the second time it ends as if nothing had happened."""
    calm, killed = (Path(shutil.copytree(digits, tmp_path / name)) for name in ("calm", "killed"))
    with monkeypatch.context() as patch:
        patch.setattr(confirming, "begin_or_go_on", in_process)
        assert confirm(calm, 3, 4) is not None
    command = [
        sys.executable,
        "-m",
        "raytune_hpo.cli.main",
        "confirm",
        str(killed),
        "-k",
        "3",
        "--seeds",
        "4",
        "--json",
    ]
    journal = killed / "confirm" / "journal.jsonl"
    rng = random.Random(0)

    def steps() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wanted = rng.randint(5, 20)
    while steps() < wanted:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    kill([process.pid, *descendants(process.pid)])
    process.communicate()
    assert not (killed / "confirm.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load_results(killed / "confirm").ledger.sessions == 2
    document = json.loads(done.stdout)
    assert document == json.loads((killed / "confirm.json").read_text())
    assert without_times(document) == without_times(json.loads((calm / "confirm.json").read_text()))
    assert len(openings(killed)) == 1


# retest -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ray_session")
def test_digits_as_they_were_are_still_best(
    changing: Path, copy: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run = copy(changing)
    with monkeypatch.context() as patch:
        patch.setattr(confirming, "begin_or_go_on", in_process)
        assert confirm(run, 3, 3) is not None

        def cut_short(path: Path, experiment: Experiment, **_: Any) -> Results:
            trained_repetitions(path, experiment, 4)
            return load_results(path)

        patch.setattr(retesting, "begin_or_go_on", cut_short)
        assert main(["retest", str(run), "-k", "2", "--fresh", "2", "--seeds", "2", "--quiet"]) == 130
    with pytest.raises(ExperimentError, match="begun with other options or data"):
        retest(run, 2, 2, 3)
    before = openings(run)
    assert main(["retest", str(run), "-k", "2", "--fresh", "2", "--seeds", "2", "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out.split("goes on\n")[-1])
    assert document["verdict"] == "still best", document["reason"]
    assert document["number"] == 1
    # In other processes, with the same seeds: the same figures to the bit.
    assert document["level"]["against"] == "confirm"
    assert document["level"]["moved"] == {"estimate": 0, "low": 0, "high": 0}
    assert not [change for change in document["changes"] if "->" in change and "git" not in change]
    assert openings(run) == before
    assert load_results(run / "retest" / "001").ledger.sessions == 2
    assert len((run / "retest" / "history.jsonl").read_text().splitlines()) == 1


@pytest.mark.usefixtures("here")
def test_changed_data_are_noticed(changing: Path, copy: Callable[[Path], Path]) -> None:
    run = copy(changing)
    meaningless = retest(run, 2, 3, 3, changes={"shuffled": True})
    assert meaningless is not None
    print(retest_text(meaningless))
    assert meaningless.verdict == "drifted"
    assert "worse than search said" in meaningless.reason
    assert "task.shuffled False -> True" in meaningless.changes
    brighter = retest(run, 2, 6, 3, changes={"task.gain": 60.0})
    assert brighter is not None
    text = retest_text(brighter)
    print(text)
    assert brighter.verdict == "stale"
    assert "beats t0000" in brighter.reason
    assert [line["verdict"] for line in brighter.history] == ["drifted", "stale"]
    assert text.splitlines()[-2].startswith("1 ")
    fresh = [[row.repeated.config for row in made.rows if row.fresh] for made in (meaningless, brighter)]
    assert not [config for config in fresh[0] if config in fresh[1]]  # new samples every time
    assert openings(run) == []


# What is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["confirm", "-k", "1"], ["-k = 1", "from 2 to 100"]),
        (["confirm", "--seeds", "1"], ["--seeds = 1", "from 2 to"]),
        (["confirm", "-k", "3"], ["-k = 3", "2 distinct configs with a report", "-k 2 is the most"]),
        (["confirm", "-k", "two"], ["invalid int value"]),
        (["retest", "-k", "1"], ["-k = 1", "from 2 to 100"]),
        (["retest", "--seeds", "1"], ["--seeds = 1", "from 2 to"]),
        (["retest", "--fresh", "0"], ["--fresh = 0", "from 1 to 100"]),
        (["retest", "-k", "3"], ["-k = 3", "2 distinct configs"]),
        (["retest", "-k", "2", "--data", "x"], ["--data = 'x'", "no option data_dir", "split_seed"]),
        (["retest", "-k", "2", "--set", "seed=3"], ["--set seed = 3", "a task's options"]),
        (["retest", "-k", "2", "--set", "task.x=3"], ["task.x = 3", "no such option"]),
        (["retest", "-k", "2", "--set", "test_fraction=2"], ["task.test_fraction = 2", "below 1"]),
        (["retest", "-k", "2", "--set", "gain"], ["--set = 'gain'", "FIELD=VALUE"]),
    ],
)
def test_wrong_commands(arguments: list[str], words: list[str], tmp_path: Path, capsys: Capture) -> None:
    """Two configs in three trials; one line on stderr, and nothing is begun."""
    lines = [suggest(f"t0000{i}", lr=0.01 * max(1, i), batch_size=32) for i in range(3)]
    lines += [result(f"t0000{i}", 1, 0.8 + i / 100) for i in range(3)]
    run = written_run(tmp_path / "run", *lines)
    with pytest.raises(SystemExit) if words == ["invalid int value"] else _nothing():
        assert main([arguments[0], str(run), *arguments[1:]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err
    assert not (run / "confirm").exists()
    assert not (run / "retest").exists()


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize("verb", ["confirm", "retest"])
def test_runs_that_cannot_be_trained_again(verb: str, digits: Path, tmp_path: Path, capsys: Capture) -> None:
    def refused(path: Path) -> str:
        assert main([verb, str(path), "-k", "2"]) == 2
        return capsys.readouterr().err

    assert "holds no run" in refused(tmp_path / "nowhere")
    holder = RunDirectory.open(digits)
    holder.lock()
    assert "is in use by process" in refused(digits)
    holder.unlock()
    empty = written_run(tmp_path / "empty")
    assert "0 distinct configs" in refused(empty)
    searcher = {"name": "repeat", "repeats": 2}
    repeats = written_run(tmp_path / "repeats", searcher=searcher, start_points=[{"lr": 0.01, "batch_size": 32}])
    assert "nothing was selected in it" in refused(repeats)
    gone = written_run(tmp_path / "gone", suggest("t00000"), result("t00000", 1, 0.9), suggest("t00001", lr=0.1),
                       result("t00001", 1, 0.9), task={"unsaved": "train"})  # fmt: skip
    assert "was defined in a prompt" in refused(gone)


@pytest.mark.usefixtures("here")
def test_an_unfinished_confirmation_is_finished_first(digits: Path, copy: Callable[[Path], Path]) -> None:
    run = copy(digits)
    confirm(run, 2, 2, test=False)
    journal = run / "confirm" / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))  # killed before its last line
    with pytest.raises(ExperimentError, match="-k 2 --seeds 2 and is not finished"):
        confirm(run, 2, 3)
    assert confirm(run, 2, 2, test=False) is None  # (here nothing goes on: see the test with kills)
    # Killed before it was described: begun anew.
    shutil.rmtree(run / "confirm")
    (run / "confirm" / "checkpoints").mkdir(parents=True)
    (run / "confirm" / "lock").touch()
    from raytune_hpo.verdicts import repeating

    calls: list[Path] = []

    def begin(experiment: Experiment, path: Path, **_: Any) -> Any:
        assert not path.exists()
        calls.append(path)
        return SimpleNamespace(close_reason=None)

    original, repeating.run = repeating.run, begin  # type: ignore[assignment]
    try:
        repeating.begin_or_go_on(
            run / "confirm",
            None,
            again=SimpleNamespace(code=None),
            task=None,
            address=None,
            listeners=(),
            verbose=False,
        )  # type: ignore[arg-type]
    finally:
        repeating.run = original
    assert calls == [run / "confirm"]
