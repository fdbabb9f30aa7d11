"""What would keep a run from starting is one line, said at once, before there is anything of the run."""

from __future__ import annotations

import functools
import logging
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Float, report, run
from raytune_hpo.cli.main import main
from raytune_hpo.engine.session import Executors
from raytune_hpo.workers import before_start, choice, ray_folder, ray_runtime
from raytune_hpo.workers.ray_runtime import check_travels

LOCK = threading.Lock()
HELD = {"inner": [1, threading.Lock()]}


class Helper:
    def __init__(self) -> None:
        self.file = LOCK

    def train(self, config: dict[str, Any]) -> None: ...


def experiment(task: Any, **fields: Any) -> Experiment:
    values: dict[str, Any] = {"scheduler": "fifo", "searcher": "random", "num_samples": 2, "max_epochs": 1, **fields}
    return Experiment(name="start", task=task, space={"x": Float(0.0, 1.0)}, metric="y", mode="min", **values)


LOCKED = """
import threading
from raytune_hpo import Experiment, Float, report

lock = threading.Lock()

def train(config):
    def inner():
        with lock:
            report({"y": config["x"]})
    inner()

experiment = Experiment(name="locked", task=train, space={"x": Float(0.0, 1.0)}, metric="y", mode="min", max_epochs=1,
                        num_samples=2, scheduler="fifo", searcher="random", executor=EXECUTOR)
"""


@pytest.mark.parametrize("verb", ["validate", "run"])
def test_b10_what_cannot_travel_is_named(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for executor in ("processes", "auto"):
        file, path = tmp_path / f"locked_{executor}.py", tmp_path / "run"
        file.write_text(LOCKED.replace("EXECUTOR", repr(executor)))
        arguments = [verb, str(file), *(["--run-dir", str(path)] if verb == "run" else [])]
        assert main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == (
            "raytune-hpo: task = 'train': cannot travel to workers: 'lock', a global that train() uses, is a "
            '_thread.lock; make it inside the function, or use executor="inline", which pickles nothing\n'
        )
        assert not path.exists()
    file = tmp_path / "locked_inline.py"
    file.write_text(LOCKED.replace("EXECUTOR", "'inline'"))
    assert main([verb, str(file), *(["--run-dir", str(path)] if verb == "run" else [])]) == 0


def closes_over() -> Any:
    held = (number for number in range(3))

    def train(config: dict[str, Any]) -> None:
        next(held)

    return train


def with_default(config: dict[str, Any], lock: Any = LOCK) -> None: ...


@pytest.mark.parametrize(("make", "words"), [
    (closes_over, "'held', which closes_over.train() closes over, is a generator"),
    (lambda: functools.partial(print, LOCK), "argument 1 of print() is a _thread.lock"),
    (lambda: functools.partial(print, file=HELD), "'inner' in argument 'file' of print() is a _thread.lock"),
    (lambda: Helper().train, "attribute 'file' of a Helper is a _thread.lock"),
    (lambda: eval("lambda config: HELD", {"HELD": HELD, "__name__": "__main__"}), "'inner' in 'HELD', a global that"),
])  # fmt: skip
def test_near_b10_wherever_it_hides(make: Any, words: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        check_travels(make())
    assert words in str(raised.value)


def test_near_b10_what_travels_is_no_error() -> None:
    check_travels(with_default)  # by its name
    check_travels(functools.partial(print, [1, 2]))


@pytest.mark.parametrize(("name", "field"), [("a_file", "TMPDIR"), ("long", None), ("full", "TMPDIR")])
def test_c14_a_temporary_folder_that_will_not_do(
    name: str, field: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").touch()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / (90 * "x" if name == "long" else name)))
    monkeypatch.setattr(before_start, "own_ray", lambda: False)
    if name == "full":
        monkeypatch.setattr(ray_folder, "LEAST_BYTES", 2**60)
    if name != "long":  # pytest's folders are long
        monkeypatch.setattr(ray_folder, "LONGEST", 300)
    if field is None:
        ray_folder.check_folder()
        with ray_folder.ray_folder(keep=False) as folder:
            assert folder is not None
            assert len(folder) < 20
            assert Path(folder).stat().st_mode & 0o777 == 0o700
            (Path(folder) / f"session_x_{os.getpid()}").mkdir()
        assert not Path(folder).exists()
        return
    made = experiment(report, executor="processes")
    with pytest.raises(ExperimentError, match=f"{field} = .*set RAY_TMPDIR to a folder that has room"):
        run(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_near_c14_few_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (4 * 2**30, -1))
    with pytest.raises(ExperimentError, match=r"ulimit -v = 4194304: is less than Ray needs"):
        ray_folder.check_folder()


def test_near_c14_nobodys_home() -> None:
    with pytest.raises(ExperimentError, match="storage = '~nosuchuser/x': "):
        experiment(report, storage="~nosuchuser/x")


STARTS = """
import os
from raytune_hpo.workers.ray_runtime import ray_session
before = dict(os.environ)
with ray_session(None, verbose=False):
    import ray
    print(ray._private.worker._global_node.get_session_dir_path())
assert dict(os.environ) == before
"""


def test_c21_nothing_of_rays_stays_behind(tmp_path: Path) -> None:
    """Also where the temporary folder's name is too long for Ray, which is no matter (C14)."""
    place = tmp_path / ("x" * 90)
    done = subprocess.run(
        [sys.executable, "-c", STARTS], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "TMPDIR": str(place), "RAY_TMPDIR": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    session = Path(done.stdout.strip())
    assert session.name.startswith("session_")
    assert not session.parent.exists()


def test_near_c21_only_this_processs_sessions_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path)[:40])
    monkeypatch.setattr(ray_folder, "asked_for", lambda: ("RAY_TMPDIR", tmp_path))
    monkeypatch.setattr(ray_folder, "_too_long", lambda folder: False)
    own, others = f"session_2026_{os.getpid()}", "session_2026_1"
    (tmp_path / "ray" / others).mkdir(parents=True)
    for keep in (False, True):
        with ray_folder.ray_folder(keep=keep) as folder:
            assert folder is None
            (tmp_path / "ray" / own).mkdir()
            if not keep:
                (tmp_path / "ray" / "session_latest").symlink_to(tmp_path / "ray" / own)
        assert (tmp_path / "ray" / others).exists()
        assert (tmp_path / "ray" / own).exists() == keep
        assert not (tmp_path / "ray" / "session_latest").is_symlink()


@pytest.mark.usefixtures("ray_session")
def test_a10_the_users_own_ray_counts_and_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import ray

    before = dict(os.environ), [logging.getLogger(name).level for name in ("ray", "ray.tune")]
    with ray_runtime.ray_session(None, verbose=False):
        pass
    assert ray.is_initialized()
    assert (dict(os.environ), [logging.getLogger(name).level for name in ("ray", "ray.tune")]) == before
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0}}, {"Alive": False, "Resources": {"GPU": 9.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    made = experiment(report, resources={"cpus": 1, "gpus": 2})
    before_start.check_place(made.resolved, None)
    assert choice.places(made.resolved) == 2
    with pytest.raises(ExperimentError, match=r"gpus = 5\.0: the Ray of this process has 4 GPUs; ask for less$"):
        run(experiment(report, resources={"cpus": 1, "gpus": 5}), tmp_path / "run")


def test_near_c14_a_run_that_could_not_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any) -> Any:
        raise ExperimentError("ray", "local", "cannot be started on this machine")

    with monkeypatch.context() as patched:
        patched.setattr(Executors, "opened", fails)
        with pytest.raises(ExperimentError, match="ray = 'local'"):
            run(experiment(reports_x, executor="inline"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert run(experiment(reports_x, executor="inline"), tmp_path / "run").status == "finished"


def reports_x(config: dict[str, Any]) -> None:
    report({"y": config["x"]})
