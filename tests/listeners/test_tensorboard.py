"""TensorBoard's event files: what TensorBoard reads of them is what the journal says, each epoch once."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from odd_run import ODD, odd_run

from raytune_hpo import Experiment, ExperimentError, Float, follow, load_results
from raytune_hpo.cli.main import main
from raytune_hpo.listeners.derived_file import DerivedFile

pytest.importorskip("tensorboard")
from event_files import check_same_curves, content, opened, scalars
from tensorboard.plugins.hparams.metadata import (
    parse_experiment_plugin_data,
    parse_session_end_info_plugin_data,
    parse_session_start_info_plugin_data,
)

INFINITY = float("inf")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return odd_run(tmp_path / "run")


# What is read -----------------------------------------------------------------------------------------


def test_every_number_of_every_epoch_stands_once(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), "--to", "tensorboard", "-o", str(tmp_path / "tb")]) == 0
    check_same_curves(load_results(run), tmp_path / "tb")
    first = scalars(tmp_path / "tb" / "t00000")
    assert first[ODD] == [(1, 2.5)]
    assert first["wide"] == [(1, INFINITY)]
    assert first["a/b"] == [(1, 1.0), (2, -INFINITY)]
    assert not {"sure", "said", "none"} & set(first)
    assert first["best/validation_accuracy"] == [(1, float(np.float32(0.9))), (2, float(np.float32(0.9)))]
    assert math.isnan(scalars(tmp_path / "tb" / "t00002")["validation_accuracy"][0][1])
    assert "best/validation_accuracy" not in scalars(tmp_path / "tb" / "t00002")


def test_a_trial_that_was_taken_back_has_one_line(run: Path, tmp_path: Path) -> None:
    follow(run, "tensorboard")
    found = scalars(run / "listeners" / "tensorboard" / "t00001")
    assert found["validation_accuracy"] == [(1, float(np.float32(0.1))), (2, 0.25)]
    assert found["config/lr"] == [(2, float(np.float32(0.12)))]
    assert found["best/validation_accuracy"][-1] == (2, float(np.float32(0.3)))


def test_the_page_of_hyperparameters_has_the_configs_and_ends_of_json(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--to", "tensorboard", "-o", str(tmp_path / "tb")]) == 0
    capsys.readouterr()
    assert main(["trials", str(run), "--json"]) == 0
    top = opened(tmp_path / "tb").PluginTagToContent("hparams")
    said = parse_experiment_plugin_data(top["_hparams_/experiment"])
    assert {info.name for info in said.hparam_infos} == {"lr", "net.depth", "net.norm", "layers", "batch_size"}
    assert [info.name.tag for info in said.metric_infos] == ["best/validation_accuracy", "validation_accuracy"]
    ends = {"completed": 1, "stopped": 1, "diverged": 2, "failed": 2}  # STATUS_SUCCESS, STATUS_FAILURE
    for row in json.loads(capsys.readouterr().out)["trials"]:
        content = opened(tmp_path / "tb" / row["trial_id"]).PluginTagToContent("hparams")
        start = parse_session_start_info_plugin_data(content["_hparams_/session_start_info"])
        kinds = {name: value.WhichOneof("kind") for name, value in start.hparams.items()}
        found = {name: getattr(value, kinds[name]) for name, value in start.hparams.items()}
        config = row["config"]
        assert found == {
            "lr": config["lr"], "net.depth": 2, "net.norm": True, "layers": "[16]", "batch_size": 32
        }  # fmt: skip
        closed = content.get("_hparams_/session_end_info")
        assert (closed and parse_session_end_info_plugin_data(closed).status) == ends.get(row["status"])


# Each once ---------------------------------------------------------------------------------------------


def test_whatever_a_crash_left_becomes_the_same_files(run: Path, tmp_path: Path) -> None:
    follow(run, "tensorboard")
    folder = run / "listeners" / "tensorboard"
    whole = content(folder)
    file = folder / "t00001" / "events.out.tfevents.1.scalars"
    data = file.read_bytes()
    left = [data[:length] for length in range(0, len(data), 7)]
    left += [data + b"\0" * 40, data[:-3] + b"\0\0\0", data[:40] + b"?" + data[41:], data + data[-60:], b"other"]
    for torn in left:
        file.write_bytes(torn)
        follow(run, "tensorboard")
        assert content(folder) == whole
    shutil.rmtree(folder / "t00000")
    (folder / "t00002" / "events.out.tfevents.0.hparams").write_bytes(b"")
    follow(run, "tensorboard")
    assert content(folder) == whole
    follow(run, "tensorboard")
    assert content(folder) == whole


def test_a_reader_never_sees_a_file_shortened_by_a_resume(tmp_path: Path) -> None:
    """TensorBoard goes on reading where it was: what is there grows, and is no other file."""
    path = tmp_path / "x"
    path.write_bytes(b"one two th")
    before = path.stat().st_ino
    file = DerivedFile(path)
    for record in (b"one ", b"two ", b"three "):
        file.add(record)
        file.flush()
        assert path.read_bytes() == (b"one two three " if record == b"three " else b"one two th")
    file.add(b"four")
    file.close()
    assert path.read_bytes() == b"one two three four"
    assert path.stat().st_ino == before


def test_what_a_crash_leaves_half_written_is_no_event_file_to_tensorboard(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            follow(run, "tensorboard")
    left = [p.name for p in (run / "listeners" / "tensorboard").rglob("*") if p.is_file()]
    assert left
    assert not any("tfevents" in name for name in left)
    follow(run, "tensorboard")
    check_same_curves(load_results(run), run / "listeners" / "tensorboard")


def test_a_sink_that_holds_more_than_the_journal_gives_it_up(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one two lost")
    for told, left in (([b"one ", b"two "], b"one two "), ([b"one ", b"2"], b"one 2")):
        file = DerivedFile(path)
        for record in told:
            file.add(record)
            file.flush()
        file.close()
        assert path.read_bytes() == left


FILE = """
from raytune_hpo import Experiment, Float, report

def train(config):
    for epoch in range(4):
        report({"y": config["x"] / (epoch + 1), "other": epoch})

experiment = Experiment(name="told", task=train, space={"x": Float(0.0, 1.0)}, metric="y", mode="min",
                        searcher="random", scheduler="fifo", num_samples=3, max_epochs=4, executor="inline",
                        listeners=LISTENERS)
"""


@pytest.mark.parametrize("way", ["file", "command"])
def test_live_it_writes_what_the_export_writes(way: str, tmp_path: Path) -> None:
    file, run_dir = tmp_path / "told.py", tmp_path / "run"
    file.write_text(FILE.replace("LISTENERS", '["tensorboard", "tensorboard"]' if way == "file" else "()"))
    more = ["--listen", "tensorboard"] if way == "command" else []
    assert main(["run", str(file), "--run-dir", str(run_dir), "--quiet", *more]) == 0
    assert main(["export", str(run_dir), "--to", "tensorboard", "-o", str(tmp_path / "tb")]) == 0
    live = content(run_dir / "listeners" / "tensorboard")
    assert live == content(tmp_path / "tb")
    assert len(live) == 1 + 2 * 3
    assert [p.name for p in (run_dir / "listeners").iterdir()] == ["tensorboard"]
    recorded = load_results(run_dir).experiment["listeners"]
    assert recorded == ([{"name": "tensorboard"}] * 2 if way == "file" else [])


def test_neither_torch_nor_ray_nor_tensorflow_is_imported() -> None:
    program = (
        "import sys; import raytune_hpo.listeners.tensorboard_records;"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'ray', 'tensorflow'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# What is wrong ------------------------------------------------------------------------------------------


def test_a_link_in_its_folder_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (run / "listeners").mkdir()
    (run / "listeners" / "tensorboard").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExperimentError, match="is a link"):
        follow(run, "tensorboard")
    (run / "listeners" / "tensorboard").unlink()
    (run / "listeners" / "tensorboard").mkdir()
    (run / "listeners" / "tensorboard" / "t00000").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExperimentError, match="holds a link"):
        follow(run, "tensorboard")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_without_tensorboard_it_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    file = tmp_path / "told.py"
    file.write_text(FILE.replace("LISTENERS", "()"))
    before = sorted(tmp_path.iterdir())
    needed = 'needs TensorBoard: pip install "raytune-hpo[tensorboard]"'
    for arguments, field in (
        (["export", str(run), "--to", "tensorboard", "-o", str(tmp_path / "tb")], "--to"),
        (["run", str(file), "--run-dir", str(tmp_path / "new"), "--listen", "tensorboard"], "--listen"),
    ):
        assert main(arguments) == 2
        assert f"{field} = 'tensorboard': {needed}" in capsys.readouterr().err
    assert sorted(p for p in tmp_path.iterdir() if p.name != "__pycache__") == before
    with pytest.raises(ExperimentError, match=r"listeners\[0\] = 'tensorboard': needs TensorBoard"):
        Experiment(name="x", task="digits", space={"lr": Float(0.01, 0.1)}, listeners=["tensorboard"])
