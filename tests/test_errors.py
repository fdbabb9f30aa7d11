"""Where an error comes from in the user's own code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from raytune_hpo.errors import PACKAGE, TaskError, is_users, of_memory, placed_line, users_place


def raised(work: Any) -> BaseException:
    with pytest.raises(BaseException) as found:  # noqa: PT011
        work()
    return found.value


def test_the_innermost_line_of_the_users_own() -> None:
    def inner() -> None:
        torch.zeros(2, 3) @ torch.zeros(2, 3)  # an error of torch's

    line = placed_line(raised(inner))
    number = inner.__code__.co_firstlineno + 1
    assert line.startswith(f"test_errors.py, line {number}, in inner: RuntimeError: ")
    installed = raised(lambda: torch.nn.Linear(4, 2)(torch.zeros(3, 5)))
    assert str(users_place(installed)).endswith(", in <lambda>")  # not torch's own frames below it
    assert users_place(ValueError()) is None
    assert placed_line(ValueError("x")) == "ValueError: x"


def test_whose_a_file_is() -> None:
    assert is_users("/home/me/exp.py")
    assert is_users("<stdin>")
    assert is_users("<ipython-input-3-abc>")
    installed = Path(torch.__file__), Path(PACKAGE, "errors.py"), Path(sys.modules["json"].__file__ or "")
    others = [*map(str, installed), "<string>", "<frozen importlib._bootstrap>"]
    assert [file for file in others if is_users(file)] == []


class Broken:
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> int:
        raise KeyError("no such image")


def test_what_a_process_of_a_data_loader_hands_on() -> None:
    line = placed_line(raised(lambda: list(DataLoader(Broken(), num_workers=1))))
    number = Broken.__getitem__.__code__.co_firstlineno + 1
    assert line == f"test_errors.py, line {number}, in __getitem__: KeyError: 'no such image'"


def test_what_is_of_memory() -> None:
    found = [
        MemoryError(),
        RuntimeError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ]
    assert all(map(of_memory, found))
    assert not of_memory(RuntimeError("shapes"))


def test_a_task_error_travels() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(TaskError("Mine.loss (exp.py, line 3)", "answers None")))
    assert str(error) == "Mine.loss (exp.py, line 3): answers None"
