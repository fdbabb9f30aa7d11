"""Arrays in the cache are those that were made, to the bit; no state of it is an error; nothing slow is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import fetch_california_housing, load_diabetes, load_digits
from written_data import write_california

from raytune_hpo.tasks import CaliforniaHousing, Diabetes
from raytune_hpo.tasks.cached_arrays import cached, sklearn_version
from raytune_hpo.tasks.california_housing import FILE
from raytune_hpo.tasks.data_folders import CACHE_VARIABLE
from raytune_hpo.training.data import Array


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that does not exist yet."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def made() -> tuple[Array, ...]:
    rng = np.random.default_rng(0)
    return np.asfortranarray(rng.normal(size=(300, 5))), rng.integers(0, 9, 300)


def refused() -> tuple[Array, ...]:
    raise AssertionError("made again")


def same(found: tuple[Array, ...], expected: tuple[Array, ...]) -> bool:
    return len(found) == len(expected) and all(
        a.dtype == b.dtype and a.strides == b.strides and a.tobytes() == b.tobytes()
        for a, b in zip(found, expected, strict=True)
    )


def test_made_once_then_read_with_their_layout(cache: Path) -> None:
    assert same(cached("x", "1", made), made())
    assert [file.name for file in cache.iterdir()] == ["x-1.npz"]
    assert same(cached("x", "1", refused), made())
    with pytest.raises(AssertionError, match="made again"):
        cached("x", "2", refused)  # another version is another file


def test_it_lies_in_the_home_where_no_variable_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    cached("x", "1", made)
    assert (tmp_path / ".cache" / "raytune_hpo" / "x-1.npz").is_file()


def test_without_a_home_the_arrays_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert same(cached("x", "1", made), made())


def flipped(content: bytes) -> bytes:
    """With one bit of the first array's numbers changed."""
    middle = len(content) // 4
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


EMPTY_ZIP = b"PK\x05\x06" + bytes(18)
DAMAGES = {
    "empty": lambda content: b"",
    "nonsense": lambda content: b"nonsense",
    "cut": lambda content: content[: len(content) // 2],
    "flipped": flipped,
    "no arrays": lambda content: EMPTY_ZIP,
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_file_is_replaced(cache: Path, damage: str) -> None:
    cached("x", "1", made)
    file = cache / "x-1.npz"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert same(cached("x", "1", made), made())
    assert same(cached("x", "1", refused), made())
    assert list(cache.iterdir()) == [file]


def test_a_pickle_in_it_is_not_executed(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return print, ("executed",)

    cache.mkdir()
    np.savez(cache / "x-1.npz", np.array([Evil()], dtype=object))
    assert same(cached("x", "1", made), made())
    assert capsys.readouterr().out == ""
    assert same(cached("x", "1", refused), made())


def test_a_cache_that_cannot_be_written_is_no_error(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    (tmp_path / "file").write_text("no folder")  # what nobody, not even root, can write into
    assert same(cached("x", "1", made), made())
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert same(cached("x", "1", made), made())
    assert not list(cache.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_is_no_error(cache: Path) -> None:
    cache.mkdir(mode=0o500)
    assert same(cached("x", "1", made), made())


def test_what_cannot_be_made_is_told(cache: Path) -> None:
    def missing() -> tuple[Array, ...]:
        raise FileNotFoundError("no data")

    with pytest.raises(FileNotFoundError, match="no data"):
        cached("x", "1", missing)


def test_many_at_the_same_time(cache: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: cached("x", "1", made), range(64)))
    assert all(same(arrays, made()) for arrays in found)
    assert [file.name for file in cache.iterdir()] == ["x-1.npz"]


LOADS = """
import sys, numpy as np
from raytune_hpo.tasks import task_by_name
splits = task_by_name(sys.argv[1], **({"data_home": sys.argv[2]} if sys.argv[2] else {})).load(0)
slow = [m for m in ("sklearn", "scipy", "pandas", "joblib", "torch") if m in sys.modules]
parts = (splits.train, splits.validation, splits.test)
print(slow, [float(a.astype(np.float64).sum()).hex() for part in parts for a in (part.x, part.y)])
"""


@pytest.mark.parametrize("name", ["digits", "diabetes", "california_housing"])
def test_a_warm_cache_spares_scikit_learn_and_changes_nothing(name: str, cache: Path, tmp_path: Path) -> None:
    folder = ""
    if name == "california_housing":
        write_california(tmp_path / "data")
        folder = str(tmp_path / "data")

    def loaded() -> tuple[str, str]:
        command = [sys.executable, "-c", LOADS, name, folder]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        slow, _, sums = out.partition("] ")
        return slow + "]", sums

    cold, warm = loaded(), loaded()
    assert "sklearn" in cold[0]
    assert warm == ("[]", cold[1])
    assert [file.name.split("-")[0] for file in cache.iterdir()] == [name]


def test_processes_that_make_it_at_the_same_time(cache: Path) -> None:
    command = [sys.executable, "-c", LOADS, "diabetes", ""]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = [process.communicate(timeout=60)[0].partition("] ")[2] for process in both]
    assert sums[0] == sums[1] != ""
    assert [file.name for file in cache.iterdir()] == [f"diabetes-{sklearn_version()}.npz"]


def test_the_tables_are_scikit_learns_to_the_bit(cache: Path) -> None:
    from raytune_hpo.tasks.digits import _made as digits

    for _ in ("made", "read"):
        assert same(Diabetes().table(), load_diabetes(return_X_y=True))
        x, y = cached("digits", sklearn_version(), digits)
        expected_x, expected_y = load_digits(return_X_y=True)
        assert np.array_equal(x, expected_x)
        assert np.array_equal(y, expected_y)
        assert (x.dtype, y.dtype) == (expected_x.dtype, expected_y.dtype)


@pytest.mark.parametrize("by_columns", [False, True])  # scikit-learn's own copy lies column by column
def test_california_is_scikit_learns_and_each_copy_its_own(cache: Path, tmp_path: Path, by_columns: bool) -> None:
    import joblib

    for folder, districts in (("one", 300), ("other", 200)):
        write_california(tmp_path / folder, districts)
        if by_columns:
            joblib.dump(np.asfortranarray(joblib.load(tmp_path / folder / FILE)), tmp_path / folder / FILE)
        task = CaliforniaHousing(data_home=str(tmp_path / folder))
        x, y = fetch_california_housing(data_home=str(tmp_path / folder), return_X_y=True)
        for _ in ("made", "read"):
            found_x, found_y = task.table()
            assert np.array_equal(found_x, x)
            assert np.array_equal(found_y, y)
            # Sums over rows come in an order that the layout decides.
            assert found_x.std(axis=0).tobytes() == x.std(axis=0).tobytes()
    (tmp_path / "one" / FILE).write_bytes((tmp_path / "other" / FILE).read_bytes())
    assert len(CaliforniaHousing(data_home=str(tmp_path / "one")).table()[0]) == 200
