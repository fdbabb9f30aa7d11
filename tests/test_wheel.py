"""What is installed from an sdist or a wheel: all of the package, its data and the examples, and they run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD = "import sys, setuptools.build_meta as build; getattr(build, sys.argv[1])(sys.argv[2])"
#: What only a checkout needs.
NOT_IN_SDIST = {".gitignore"}


def _sources() -> list[str]:
    """The repository's files, the new ones too, as git knows them."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git checkout, to know which files are the project's")
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in listed if name and (REPOSITORY / name).is_file()]


def _built(kind: str, folder: Path) -> Path:
    """Without isolation, which would ask the network for setuptools."""
    subprocess.run([sys.executable, "-c", BUILD, f"build_{kind}", "built"], cwd=folder, capture_output=True, check=True)
    return next((folder / "built").iterdir())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools", minversion="77", reason="needs setuptools to build with")
    folder = tmp_path_factory.mktemp("sources")
    for name in _sources():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    with tarfile.open(_built("sdist", folder)) as file:
        file.extractall(folder / "unpacked", filter="data")
    return next((folder / "unpacked").iterdir())


@pytest.fixture(scope="module")
def installed(sdist: Path) -> Path:
    """A folder for PYTHONPATH with what the wheel holds that the sdist builds."""
    with zipfile.ZipFile(_built("wheel", sdist)) as file:
        file.extractall(sdist.parent / "installed")
    return sdist.parent / "installed"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_an_sdist_is_the_whole_project(sdist: Path) -> None:
    assert set(_sources()) - set(_files(sdist)) == NOT_IN_SDIST


def test_a_wheel_is_the_package_with_its_data_and_the_examples(installed: Path) -> None:
    found = {name: content for name, content in _files(installed).items() if ".dist-info/" not in name}
    package = [name for name in _sources() if name.startswith("raytune_hpo/")]
    examples = [name for name in _sources() if name.startswith("experiments/")]
    expected = {name: (REPOSITORY / name).read_bytes() for name in package}
    expected |= {f"raytune_hpo/examples/{Path(name).name}": (REPOSITORY / name).read_bytes() for name in examples}
    assert set(found) == set(expected)
    assert found == expected
    assert "raytune_hpo/py.typed" in found


def test_an_example_of_the_wheel_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(said("-c", "import raytune_hpo; print(raytune_hpo.__file__)").strip()).is_relative_to(installed)
    (tmp_path / "my.py").write_text(said("-m", "raytune_hpo", "example", "digits"))
    run = said("-m", "raytune_hpo", "run", "my.py", "--json", "--set", "num_samples=2", "--set", "max_epochs=1")
    assert json.loads(run)["counts"]["completed"] == 2
    assert Path(json.loads(run)["run_dir"]).parent == tmp_path / "runs"
