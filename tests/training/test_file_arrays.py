"""Arrays that lie in files: they travel by name, are read by the batch, and are never held whole."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from raytune_hpo import ExperimentError, Float, Hypergradient, Split, Splits, Task
from raytune_hpo.training.file_arrays import Rows, lies_in_file, opened, reference
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.resampling import resplit
from raytune_hpo.training.trainer import fit

N = 200


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """N rows of 7 numbers."""
    path = tmp_path / "x.bin"
    np.random.default_rng(0).standard_normal((N, 7)).astype("f4").tofile(path)
    return path


def travelled(array: Any) -> Any:
    return opened(pickle.loads(pickle.dumps(reference(array))))


VIEWS: dict[str, Callable[[Any], Any]] = {
    "whole": lambda x: x,
    "rows": lambda x: x[3:50],
    "every other": lambda x: x[::2],
    "backwards": lambda x: x[::-1],
    "columns": lambda x: x[:, 2:4],
    "transposed": lambda x: x.T,
    "as integers": lambda x: x.view("u4"),
    "as a plain array": np.asarray,
    "repeated": lambda x: np.broadcast_to(x[:1], (5, 7)),
}


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("offset", [0, 28 * 3, 28 * 150])  # within a page, beyond one
@pytest.mark.parametrize("view", list(VIEWS))
def test_a_view_travels_by_name(view: str, offset: int, mode: Any, file: Path) -> None:
    array = VIEWS[view](np.memmap(file, "f4", mode, offset, (50, 7)))
    sent = pickle.dumps(reference(array))
    assert len(sent) < 600
    there = opened(pickle.loads(sent))
    assert there.dtype == array.dtype
    assert np.array_equal(there, array)
    assert lies_in_file(there)
    assert np.array_equal(travelled(there), array)  # and on from there


def test_other_types_and_orders(tmp_path: Path) -> None:
    for dtype in (">f4", "<i2", "u1", "f8"):
        array = np.memmap(tmp_path / "y", dtype, "w+", shape=(9, 4), order="F")
        array[:] = np.arange(36).reshape(9, 4)
        there = travelled(array)  # not flushed by hand
        assert (there.dtype, there.strides) == (array.dtype, array.strides)
        assert np.array_equal(there, array)


def test_what_was_changed_in_memory_alone_travels_whole(file: Path) -> None:
    array = np.memmap(file, "f4", "c", shape=(N, 7))
    array[0] = 5.0
    assert not lies_in_file(array)
    assert (travelled(array)[0] == 5.0).all()
    doubled = np.memmap(file, "f4", "r", shape=(N, 7)) * 2  # of the same class, in no file
    assert not lies_in_file(doubled)
    assert isinstance(Split(doubled, np.zeros(N)).x, np.ndarray)


def test_rows_of_several_files_are_read_when_indexed(file: Path, tmp_path: Path) -> None:
    array = np.memmap(file, "f4", "r", shape=(N, 7))
    whole = np.concatenate([array, array[:3]])
    rows = Rows.joined(Rows.of(array, np.arange(N)), array[:3])
    order = np.random.default_rng(1).permutation(len(whole))
    there = pickle.loads(pickle.dumps(Rows.of(rows, order)))
    assert np.array_equal(there[np.arange(len(whole))], whole[order])
    assert np.array_equal(there[5:9][np.array([0, 3])], whole[order][[5, 8]])


@dataclass(frozen=True)
class Mapped(Task):
    """Classes of the sign of the first number. where: the folder of the arrays; in_file: whether x stays there."""

    kind: ClassVar[Any] = "classification"
    where: str = ""
    in_file: bool = True

    def load(self, seed: int) -> Splits:
        x: Any = np.memmap(Path(self.where) / "x.bin", "f4", "r", shape=(N, 7))
        if not self.in_file:
            x = np.array(x)
        y = (np.asarray(x[:, 0]) > 0).astype(np.int64)
        return Splits(*(Split(x[a:b], y[a:b]) for a, b in ((0, 120), (120, 170), (170, N))))

    def build_model(self, config: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 2))


def trained(recipe: Recipe, repeat: int | None = None) -> list[dict[str, float]]:
    loaded = pickle.loads(pickle.dumps(recipe.load()))
    found = []
    for part in recipe.data(loaded, repeat):
        trainer = recipe.trainer(part, "cpu")
        trainer.setup({"lr": 0.03, "batch_size": 16}, 1)
        found += list(fit(trainer, 2))
    return found


@pytest.mark.parametrize("case", ["plain", "repeated", "folds", "hypergradient"])
def test_it_trains_as_in_memory(case: str, file: Path) -> None:
    more: dict[str, Any] = {}
    if case == "folds":
        more["folds"] = 3
    if case == "hypergradient":
        more = {"hypergradient": Hypergradient(), "parameters": {"lr": Float(1e-4, 1e-1, "log")}}
    results = [
        trained(
            Recipe(Mapped(where=str(file.parent), in_file=in_file), 2, 0, **more), 1 if case == "repeated" else None
        )
        for in_file in (True, False)
    ]
    assert results[0] == results[1]


def test_lanes_train_on_it_as_in_memory(file: Path) -> None:
    found = []
    for in_file in (True, False):
        task = Mapped(where=str(file.parent), in_file=in_file)
        fused = FusedTrainer(task, pickle.loads(pickle.dumps(Recipe(task, 2, 0).load())), max_epochs=2, device="cpu")
        for lane in range(2):
            fused.enter(str(lane), {"lr": 0.03, "batch_size": 16}, lane)
        found.append([fused.train_epoch(), fused.train_epoch()])
    for in_file, in_memory in zip(*found, strict=True):
        for lane, metrics in in_file.items():
            assert metrics == pytest.approx(in_memory[lane], rel=1e-5)


def test_parts_of_it_stay_in_the_file(file: Path) -> None:
    task = Mapped(where=str(file.parent))
    data = Recipe(task, 1, 0).load()
    again = resplit(task, data, 3)
    assert isinstance(again.train.x, Rows)
    assert len(pickle.dumps(data)) < 5000  # the classes
    assert data.train.y.dtype == np.int64


def test_targets_in_a_file_are_counted_where_they_are_few(file: Path) -> None:
    class Classes(Mapped):
        def load(self, seed: int) -> Splits:
            np.arange(N, dtype=np.int32).__mod__(3).astype("i4").tofile(file.parent / "y.bin")
            splits = super().load(seed)
            y = np.memmap(file.parent / "y.bin", "i4", "r", shape=(N,))
            return Splits(*(Split(s.x, y[: len(s)]) for s in (splits.train, splits.validation, splits.test)))

    train = Classes(where=str(file.parent)).splits(0).train
    assert not lies_in_file(train.y)
    assert lies_in_file(train.x)


def test_a_file_that_is_gone_is_one_line(file: Path) -> None:
    class Gone(Mapped):
        def load(self, seed: int) -> Splits:
            splits = super().load(seed)
            file.unlink()
            return splits

    with pytest.raises(ExperimentError, match=r"Gone\.load\.train\.x = '.*x\.bin': must be a file that every process"):
        Recipe(Gone(where=str(file.parent)), 1, 0).load()
    np.zeros((N, 7), "f4").tofile(file)
    sent = pickle.dumps(Recipe(Mapped(where=str(file.parent)), 1, 0).load())
    file.unlink()
    with pytest.raises(ExperimentError, match=r"task = '.*x\.bin': must be a file"):
        pickle.loads(sent)


@pytest.mark.parametrize("row", [0, 119, 120])
def test_its_ends_are_looked_at(row: int, file: Path) -> None:
    array = np.memmap(file, "f4", "r+", shape=(N, 7))
    array[row, 2] = np.nan
    array[60] = np.nan  # in the middle, which is not read
    array.flush()
    name, sample = ("train", row) if row < 120 else ("validation", 0)
    with pytest.raises(ExperimentError, match=rf"{name}\.x = nan: sample {sample} has a value that is not finite"):
        Mapped(where=str(file.parent)).splits(0)


def test_an_evaluation_does_not_read_it_whole(tmp_path: Path) -> None:
    from raytune_hpo.training.batches import ArraySource

    array = np.memmap(tmp_path / "big", "u1", "w+", shape=(100, 1 << 20))
    source = ArraySource(Mapped(), Split(array, np.zeros(100, np.int64)), {}, torch.device("cpu"))
    assert [len(batch.x) for batch in source.in_order()] == [15] * 6 + [10]  # 64 MB as numbers of 32 bits
