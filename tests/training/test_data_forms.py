"""Data of every form that a task may load: map-style data sets, decoded or read in a stream, and streams."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from process_tree import descendants
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from raytune_hpo import (
    Batch,
    Experiment,
    ExperimentError,
    Float,
    Results,
    Split,
    Splits,
    Stream,
    Task,
    TrialError,
    load_results,
    pad_collate,
    padded,
    run,
)
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.training.batches import source_of
from raytune_hpo.training.data import DatasetSplit, TreeSplit, TrialData
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.lanes.lane import NotFusableError
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.trainer import SupervisedTrainer, fit

DIGITS = Digits().load(0).train
X, Y = DIGITS.x, DIGITS.y
IN_LINE = pytest.mark.parametrize("workers", [0, 2])


class Numbers(Dataset[Any]):
    """The handwritten digits, a sample at a time. how: what is the matter with them."""

    def __init__(self, rows: range, how: str = "") -> None:
        self.rows, self.how = rows, how

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:  # noqa: PLR0911, PLR0912  (a case each)
        x, y = X[self.rows[index]], int(Y[self.rows[index]])
        match self.how:
            case "torch":
                return torch.from_numpy(x) + 0.1 * torch.randn(64), y
            case "numpy":
                return x + 0.1 * np.random.standard_normal(64).astype("f4"), y
            case "python":
                return x * random.random(), y
            case "often the same":
                return x, y if random.random() < 0.999 else 0
            case "seeded by itself":
                torch.manual_seed(index)
                return torch.from_numpy(x) + 0.1 * torch.randn(64), y
            case "mapping":
                return {"pixels": x, "class": y, "weight": float(index)}
            case "lengths":
                return torch.from_numpy(x)[: 5 + index % 7, None], y
            case "late lengths":
                return torch.from_numpy(x)[: 5 + (index == 33), None], y
            case "text":
                return {"pixels": x, "name": "a digit"}
            case "image":
                from PIL import Image

                return Image.fromarray((x * 255).astype("u1").reshape(8, 8)), y
            case "raises" if index == 7:
                raise ValueError("a bad file")
            case "dies":
                if os.getpid() != PARENT and index == 7:
                    os.kill(os.getpid(), signal.SIGKILL)
                return torch.from_numpy(x) + torch.randn(64), y
        return x, y


PARENT = os.getpid()


@dataclass(frozen=True)
class Read(Task):
    """how: of the data sets; validation: of that one, where it is another."""

    kind: ClassVar[Any] = "classification"
    how: str = ""
    validation: str | None = None
    samples: int = 60

    def load(self, seed: int) -> Splits:
        n = self.samples
        other = self.how if self.validation is None else self.validation
        return Splits(
            Numbers(range(n), self.how), Numbers(range(n, n + 40), other), Numbers(range(n + 40, n + 60), self.how)
        )

    def build_model(self, config: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 10), nn.Dropout(0.2))


@dataclass(frozen=True)
class Padded(Read):
    def collate(self, samples: Sequence[Any]) -> Any:
        return pad_collate(samples)


def trainer_of(task: Task, data: Any = None, **config: Any) -> SupervisedTrainer:
    recipe = Recipe(task, 3, 0)
    trainer = recipe.trainer(recipe.load() if data is None else data, "cpu")
    trainer.setup({"lr": 0.1, "batch_size": 16, **config}, 5)
    assert isinstance(trainer, SupervisedTrainer)
    return trainer


def with_workers(task: Task, workers: int) -> Any:
    """The task, with so many processes that read."""
    return type(type(task).__name__, (type(task),), {"loader_workers": workers})(**task.options())


# Decoded ---------------------------------------------------------------------------------------------------


def test_a_pair_becomes_x_and_y() -> None:
    for found in (Read(), Read("seeded by itself")):
        train = found.splits(0).train
        assert isinstance(train, Split)
        assert (train.x.shape, train.x.dtype, train.y.dtype) == ((60, 64), np.float32, np.int64)
        assert np.array_equal(train.y, Y[:60])
    assert np.array_equal(Read().splits(0).train.x, X[:60])


def test_it_trains_as_arrays_do() -> None:
    data = TrialData(Split(X[:60], Y[:60]), Split(X[60:100], Y[60:100]))
    assert list(fit(trainer_of(Read()), 3)) == list(fit(trainer_of(Read(), data), 3))


def test_other_structures_are_trees() -> None:
    train = Read("mapping").splits(0).train
    assert isinstance(train, TreeSplit)
    assert list(train.tree) == ["pixels", "class", "weight"]
    assert train.tree["weight"].dtype == np.float64
    lists = Splits([1.0, 2.0], [(X[0], 1)] * 3, TensorDataset(torch.arange(4), torch.arange(4.0)))

    class Lists(Read):
        kind: ClassVar[Any] = "other"

        def load(self, seed: int) -> Splits:
            return lists

    found = Lists().splits(0)
    assert found.train.tree.tolist() == [1.0, 2.0]
    assert found.validation.x.shape == (3, 64)
    assert found.test.y.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["lengths", "late lengths"])
def test_lengths_are_padded_alike_in_all_splits(how: str) -> None:
    splits = Padded(how).splits(0)
    longest = 11 if how == "lengths" else 6
    for split in (splits.train, splits.validation, splits.test):
        assert split.x["values"].shape == (len(split), longest, 1)
        assert split.x["mask"].dtype == bool
    assert splits.train.x["mask"].sum() == sum(5 + i % 7 if how == "lengths" else 5 + (i == 33) for i in range(60))


@pytest.mark.parametrize(("how", "line"), [
    ("lengths", r"Read\.load\.train: a sample = .*\[5, 1\].*\[6, 1\].*: .*write collate.*raytune_hpo\.pad_collate"),
    ("text", r"Read\.load\.train: a batch\['name'\]\[0\] = 'a digit': is text"),
    ("image", r"Read\.load\.train: a sample = .*Image.*: .*write collate\(self, samples\): TypeError: default_collate"),
    ("raises", r"Read\.load\.train\[7\] = 'Numbers': cannot be read: ValueError: a bad file \(test_data_forms\.py, "),
])  # fmt: skip
def test_what_makes_no_batch_is_one_line(how: str, line: str) -> None:
    with pytest.raises(ExperimentError, match=line) as raised:
        Recipe(Read(how), 1, 0).load()
    assert "\n" not in str(raised.value)


def test_what_is_too_large_or_no_array_is_read_in_a_stream() -> None:
    class Small(Read):
        decode_bytes: ClassVar[int] = 12_000

    class Objects(Read):
        def collate(self, samples: Sequence[Any]) -> Any:
            return {"x": torch.stack([torch.from_numpy(x) for x, _ in samples]), "boxes": torch.zeros(1, 4)}

    recipe = Recipe(Small(), 1, 0)
    data = recipe.load()
    assert isinstance(data.train, DatasetSplit)
    assert isinstance(data.validation, Split)
    assert recipe.remarks(data) == [
        "train: its samples take 15840 bytes, more than decode_bytes = 12000 bytes, so they are read again for each "
        "batch; lanes need data in memory"
    ]
    recipe = Recipe(Objects(), 1, 0)
    (remark,) = recipe.remarks(recipe.load())
    assert remark.startswith("train and validation: a batch of 32 samples has [1, 4] at ['boxes'], and collate")


def test_decoding_holds_little_more_than_the_arrays() -> None:
    import tracemalloc

    class Big(Dataset[Any]):
        def __len__(self) -> int:
            return 600

        def __getitem__(self, index: int) -> Any:
            return np.full(100_000, index % 250, np.uint8), index % 2

    class Bytes(Read):
        def load(self, seed: int) -> Splits:
            return Splits(Big(), [(np.zeros(100_000, np.uint8), 0)], [(np.zeros(100_000, np.uint8), 1)])

    task = Bytes()
    tracemalloc.start()
    splits = task.splits(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert splits.train.x.nbytes == 60_000_000
    assert peak < 2 * 60_000_000


def test_padded() -> None:
    values, mask = padded([[1, 2, 3], torch.tensor([4]), []], value=-1)
    assert values.tolist() == [[1, 2, 3], [4, -1, -1], [-1, -1, -1]]
    assert mask.sum(1).tolist() == [3, 1, 0]
    assert values.dtype == np.int64
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[2, 4\]"):
        padded([np.zeros((2, 3)), np.zeros((2, 4))])
    batch = pad_collate([{"tokens": [1, 2], "label": 0}, {"tokens": [3], "label": 1}])
    assert batch["tokens"]["values"].tolist() == [[1, 2], [3, 0]]
    assert batch["label"].tolist() == [0, 1]


# Read in a stream -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["torch", "numpy", "python", "often the same"])
def test_random_samples_are_found_out_and_said(how: str) -> None:
    recipe = Recipe(Read(how), 1, 0)
    assert recipe.remarks(recipe.load()) == [
        "train and validation: samples differ each time they are read, so they are read again for each batch; "
        "lanes need data in memory (augment() draws in training)"
    ]


@pytest.mark.parametrize("how", ["torch", "numpy", "python"])
def test_random_samples_do_not_depend_on_the_processes(how: str) -> None:
    found = []
    for workers in (0, 1, 2):
        trainer = trainer_of(with_workers(Read(how), workers), accumulate=2)
        found.append(list(fit(trainer, 2)))
        trainer.close()
    assert found[0] == found[1] == found[2]
    assert found[0][0] != found[0][1]


@IN_LINE
def test_an_epoch_is_the_same_after_a_resume(workers: int) -> None:
    task = with_workers(Read("torch"), workers)
    whole = trainer_of(task)
    first = whole.train_epoch()
    state = pickle.loads(pickle.dumps(whole.state_dict()))
    rest = [whole.train_epoch(), whole.train_epoch()]
    whole.close()
    resumed = trainer_of(task)
    resumed.load_state_dict(state)
    assert [resumed.train_epoch(), resumed.train_epoch()] == rest
    assert first["train_loss"] != rest[0]["train_loss"]
    resumed.close()


def test_batches_are_as_collate_makes_them() -> None:
    data = Recipe(Read("numpy"), 1, 0).load()
    source = source_of(with_workers(Read(), 0), data, "train", "cpu")
    sizes = [(len(b.x), size, type(b)) for b, size in source.epoch(torch.arange(60).split(16), 0)]
    assert sizes == [(16, 16, Batch)] * 3 + [(12, 12, Batch)]


def test_the_processes_end_with_the_trainer() -> None:
    before = set(descendants(os.getpid()))
    trainer = trainer_of(Read("torch"))
    trainer.train_epoch()
    assert len(set(descendants(os.getpid())) - before) == 4  # two read the training data, two the validation data
    trainer.close()
    assert set(descendants(os.getpid())) <= before


@IN_LINE
def test_an_error_names_the_users_line(workers: int) -> None:
    class Bad(Read):
        def load(self, seed: int) -> Splits:
            return Splits(DatasetSplit(Numbers(range(60))), Numbers(range(40)), Numbers(range(20)))

    data = Recipe(Bad(), 1, 0).load()
    data = TrialData(DatasetSplit(Numbers(range(60), "raises")), data.validation)
    trainer = trainer_of(with_workers(Bad(), workers), data)
    expected = r"^sample 7 cannot be read: ValueError: a bad file \(test_data_forms\.py, line \d+\)$"
    with pytest.raises(TrialError, match=expected):
        trainer.train_epoch()
    trainer.close()


def test_a_reader_that_dies_is_an_error() -> None:
    trainer = trainer_of(Read("dies"))
    with pytest.raises(TrialError, match=r"^a process that reads samples was ended by signal 9$"):
        trainer.train_epoch()
    trainer.close()


@pytest.mark.parametrize("case", ["folds", "repeated"])
def test_streamed_data_are_split_anew(case: str) -> None:
    """Also where one split alone is read in a stream."""
    task = with_workers(Read("numpy", validation=""), 0)
    recipe = Recipe(task, 1, 0, folds=2 if case == "folds" else None)
    data = recipe.load()
    assert isinstance(data.train, DatasetSplit)
    assert isinstance(data.validation, Split)
    parts = pickle.loads(pickle.dumps(recipe.data(data, 1)))
    assert [len(part.validation) for part in parts] == ([50, 50] if case == "folds" else [40])
    for part in parts:
        trainer = trainer_of(task, part)
        assert 0 <= trainer.train_epoch()["validation_accuracy"] <= 1
        trainer.close()


# Streams ----------------------------------------------------------------------------------------------------


def batches_of(seed: int) -> Iterator[Any]:
    """Without end; the samples depend on the seed, the noise on the global generators."""
    rng = np.random.default_rng(seed)
    while True:
        rows = rng.integers(0, 300, 20)
        yield torch.from_numpy(X[rows]) + 0.01 * torch.randn(20, 64), torch.from_numpy(Y[rows])


@dataclass(frozen=True)
class Streamed(Read):
    """length: batches that a stream has, None without end. validation_too: or arrays."""

    length: int | None = None
    validation_too: bool = True
    normed: bool = False

    def load(self, seed: int) -> Splits:
        def make(seed: int) -> Iterator[Any]:
            return itertools.islice(batches_of(seed), self.length)

        arrays = Split(X[300:400], Y[300:400])
        stream = Stream(make, steps=6, batch_size=20)
        return Splits(stream, Stream(make, steps=3) if self.validation_too else arrays, arrays)

    def build_model(self, config: Any) -> nn.Module:
        layers: list[nn.Module] = [nn.Linear(64, 10), nn.Dropout(0.2)]
        return nn.Sequential(nn.BatchNorm1d(64) if self.normed else nn.Identity(), *layers)


@pytest.mark.parametrize("task", [
    Streamed(), Streamed(length=6), Streamed(validation_too=False), Streamed(normed=True),
])  # fmt: skip
def test_a_stream_is_resumed_and_replayed(task: Task) -> None:
    whole = trainer_of(task, accumulate=4)
    whole.train_epoch()
    state = whole.state_dict()
    rest = [whole.train_epoch(), whole.train_epoch()]
    assert whole.schedule.steps_per_epoch == 2
    resumed = trainer_of(task, accumulate=4)
    resumed.load_state_dict(state)
    assert [resumed.train_epoch(), resumed.train_epoch()] == rest
    assert rest[0]["train_loss"] != rest[1]["train_loss"]


def test_a_stream_that_ends_early_is_one_line() -> None:
    with pytest.raises(
        TrialError, match=r"^a stream ended after 4 of 6 batches: make\(seed\) of Stream\(make, steps\)"
    ):
        trainer_of(Streamed(length=4)).train_epoch()

    def broken(seed: int) -> Iterator[Any]:
        yield next(batches_of(seed))
        raise OSError("no such shard")

    data = TrialData(Stream(broken, 3), Split(X[:9], Y[:9]))
    with pytest.raises(TrialError, match=r"^a stream failed with OSError: no such shard \(test_data_forms\.py, line"):
        trainer_of(Streamed(), data).train_epoch()


def test_reports_between_passes() -> None:
    class Often(Streamed):
        validate_every: ClassVar[int | None] = 2

    class Rarely(Read):
        validate_every: ClassVar[int | None] = 5
        loader_workers: ClassVar[int] = 0

    assert trainer_of(Often()).schedule.steps_per_epoch == 2
    trainer_of(Often()).train_epoch()
    whole = trainer_of(Rarely("numpy"))
    whole.train_epoch()
    state = whole.state_dict()
    expected = whole.train_epoch()
    resumed = trainer_of(Rarely("numpy"))
    resumed.load_state_dict(state)
    assert resumed.train_epoch() == expected


def test_streams_have_no_folds_and_repeat_as_they_are() -> None:
    with pytest.raises(ExperimentError, match=r"folds = 3: divide what .* Stream and Split are not of one form"):
        Recipe(Streamed(validation_too=False), 1, 0, folds=3).load()
    recipe = Recipe(Streamed(), 1, 0)
    data = recipe.load()
    assert recipe.data(data, 2) == [data]
    bad = Splits(Stream(batches_of, 0), Split(X, Y), Split(X, Y))

    class Bad(Streamed):
        def load(self, seed: int) -> Splits:
            return bad

    with pytest.raises(ExperimentError, match=r"Bad\.load\.train\.steps = 0: "):
        Bad().splits(0)


def test_what_lanes_and_hypergradients_say() -> None:
    data = Recipe(Streamed(), 1, 0).load()
    line = "its data are read in a stream: each lane has an order of its own"
    with pytest.raises(NotFusableError, match=line):
        FusedTrainer(Streamed(), data, max_epochs=1, device="cpu")
    with pytest.raises(ExperimentError, match=f"executor = 'lanes': {line}; use processes or auto"):
        Recipe(Streamed(), 1, 0, executor="lanes").load()


# An order for all -------------------------------------------------------------------------------------------


class Orders(Read):
    """Arrays whose first pixel is the sample's number."""

    def load(self, seed: int) -> Splits:
        x = X[:50].copy()
        x[:, 0] = np.arange(50)
        return Splits(Split(x, Y[:50]), Split(X[50:80], Y[50:80]), Split(X[80:90], Y[80:90]))


def orders(data_order: Any, seed: int = 0, trial: int = 1, repeat: int | None = None) -> list[list[int]]:
    """The samples of two epochs."""
    recipe = Recipe(Orders(), 2, seed, data_order=data_order)
    (part,) = recipe.data(recipe.load(), repeat)
    trainer = recipe.trainer(part, "cpu")
    assert isinstance(trainer, SupervisedTrainer)
    trainer.setup({"batch_size": 16}, trial)
    return [torch.cat([i for step in trainer._order.epoch() for i in step]).tolist() for _ in range(2)]


def test_all_trials_have_one_order_where_it_is_shared() -> None:
    assert orders("trial") != orders("trial", trial=2)
    assert orders("shared") == orders("shared", trial=2)
    assert orders("shared") != orders("shared", seed=1)
    assert orders("shared") != orders("shared", repeat=1)
    assert orders("shared")[0] != orders("shared")[1]


def test_lanes_share_it_with_processes() -> None:
    recipe = Recipe(Orders(), 2, 0, data_order="shared")
    (part,) = recipe.data(recipe.load())
    fused = FusedTrainer(recipe.task, part, max_epochs=2, device="cpu")
    for lane in (1, 2):
        fused.enter(str(lane), {"batch_size": 16}, lane)
        drawn = torch.cat([i for step in fused._lanes[str(lane)].order.epoch() for i in step])
        assert drawn.tolist() == orders("shared")[0]


# Whole runs -------------------------------------------------------------------------------------------------


def experiment(task: Task, executor: Any, **changes: Any) -> Experiment:
    written = {"num_samples": 2, "max_epochs": 2, "scheduler": "fifo", "searcher": "random", **changes}
    return Experiment(name="forms", task=task, space={"lr": Float(1e-2, 1e-1, "log")}, executor=executor, **written)


def test_runs_of_streamed_data(tmp_path: Path, ray_session: None) -> None:
    """In processes and inline the same; no reader is left; lanes are refused before any trial begins."""
    before = set(descendants(os.getpid()))
    values = []
    for executor in ("inline", "processes"):
        made = experiment(Read("torch"), executor, data_order="shared", max_concurrent=1)
        results = run(made, tmp_path / executor, quiet=True)
        assert results.counts["completed"] == 2, results.rows()
        assert load_results(tmp_path / executor).experiment["data_order"] == "shared"
        assert results.best is not None
        values.append([row["best"] for row in results.rows()])
        if executor == "inline":
            assert set(descendants(os.getpid())) <= before
    assert values[0] == values[1]
    with pytest.raises(ExperimentError, match="executor = 'lanes': its data are read in a stream"):
        run(experiment(Streamed(), "lanes"), tmp_path / "lanes", quiet=True)


def test_auto_takes_one_process_for_a_small_stream(tmp_path: Path) -> None:
    results = run(experiment(Streamed(), "auto"), tmp_path / "auto", quiet=True)
    assert isinstance(results, Results)
    assert results.counts["completed"] == 2, results.rows()
    assert results.best is not None


def test_the_order_is_a_field_of_the_experiment() -> None:
    assert experiment(Read(), "auto").resolved.data_order == "trial"
    assert experiment(Read(), "auto").override({"data_order": "shared"}).resolved.recipe().data_order == "shared"
    with pytest.raises(ExperimentError, match="data_order = 'other': must be"):
        experiment(Read(), "auto", data_order="other")


def test_numbers_that_are_whole_in_the_first_chunk_keep_their_fractions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raytune_hpo.training.decoding.CHUNK_BYTES", 80)
    samples = [(np.float32(i), 0.5 if i == 397 else i % 3) for i in range(400)]  # none that is looked at first

    class Late(Task):
        kind = "regression"

        def load(self, seed: int) -> Splits:
            return Splits(samples, samples)

        def build_model(self, config: Any) -> nn.Module:
            return nn.Linear(1, 1)

    assert Late().splits(0).train.y.tolist() == [y for _, y in samples]
