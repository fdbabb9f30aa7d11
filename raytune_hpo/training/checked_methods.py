"""The checks of how a task's methods are called and named, before any is called. No torch.

A method that a task does not write is the house's own. So one that is misspelt would never be called, with no word of
it, and a run would train and measure something else than was meant: such names are refused.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import linecache
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raytune_hpo.errors import TaskError
from raytune_hpo.training.task import Task

#: What each method takes after `self`.
TAKEN: dict[str, tuple[str, ...]] = {
    "load": ("seed",),
    "build_model": ("config",),
    "loss": ("model", "batch", "config"),
    "predict": ("model", "batch"),
    "targets": ("batch",),
    "metrics": (),
    "preprocess": ("x", "statistics"),
    "augment": ("x",),
    "model_hyperparameters": (),
    "parameter_groups": ("model", "config"),
    "collate": ("samples",),
    "train_step": ("model", "batch", "optimizer", "config"),
    "optimizers": ("model", "config"),
}
ATTRIBUTES = ("kind", "groups", "validate_every", "decode_bytes", "loader_workers", "missing_values")
#: What other libraries call a method, where our name for it is not near.
ELSEWHERE = {
    "compute_loss": "loss",
    "configure_optimizers": "optimizers",
    "criterion": "loss",
    "forward": "predict",
    "loss_fn": "loss",
    "target": "targets",
    "transform": "preprocess",
}
NEAR = 0.72  # of difflib's ratio: "augmentation" is nearer to "augment", "load_data" is not to "load"


def check_methods(task: Task) -> None:
    """Raise TaskError for a name that nearly is one of Task's, and for a method that cannot be called as it is."""
    for cls in _own_classes(type(task)):
        for word, value in vars(cls).items():
            if getattr(vars(Task).get(word), "__final__", False):
                hint = "; write model_hyperparameters" if word == "hyperparameters" else ""
                raise _fault(task, word, value, f"is the house's own, and is not to be written anew{hint}")
            meant = _meant(type(task), cls, word, value)
            if meant is not None:
                text = f"is no part of a Task, and nothing in its file uses it; did you mean {meant}?"
                raise _fault(task, word, value, text)
    for method, taken in TAKEN.items():
        if getattr(type(task), method) is getattr(Task, method):
            continue
        written = getattr(task, method)
        if not callable(written):
            raise _fault(task, method, written, f"is a {type(written).__name__}: it must be {written_as(method)}")
        try:
            signature = inspect.signature(written, follow_wrapped=False)
        except (TypeError, ValueError):  # of what is written in C
            continue
        try:
            signature.bind(*taken)
        except TypeError:
            found = ", ".join(signature.parameters)
            text = f"takes ({found}) besides self: it must be {written_as(method)}"
            raise _fault(task, method, written, text) from None


def written_as(method: str) -> str:
    """`loss(self, model, batch, config)`; an attribute as it is."""
    return f"{method}({', '.join(['self', *TAKEN[method]])})" if method in TAKEN else method


def _fault(task: Task, word: str, value: Any, text: str) -> TaskError:
    """value: what stands under that name; of a function its file and line are named."""
    code = getattr(inspect.unwrap(value) if callable(value) else value, "__code__", None)
    place = "" if code is None else f" ({Path(code.co_filename).name}, line {code.co_firstlineno})"
    return TaskError(f"{type(task).__name__}.{word}{place}", text)


def _own_classes(kind: type) -> Iterator[type]:
    """Those of a task's classes that are a user's own."""
    ours = Task.__module__.partition(".")[0]
    return (cls for cls in kind.__mro__ if issubclass(cls, Task) and cls.__module__.partition(".")[0] != ours)


def _meant(kind: type, cls: type, word: str, value: Any) -> str | None:
    """The part of a Task that `word` of a class is likely to stand for; None of a word that is one, or another's."""
    fields = {field.name for field in dataclasses.fields(cls)}
    is_method = callable(value) or isinstance(value, staticmethod | classmethod | property)
    if word.startswith("_") or word in fields or (hasattr(Task, word) and not (word == "target" and is_method)):
        return None
    names = TAKEN if is_method else (*ATTRIBUTES, "metrics", "model_hyperparameters")
    near = difflib.get_close_matches(word, names, n=1, cutoff=NEAR)
    meant = (ELSEWHERE.get(word) if is_method else None) or (near[0] if near else None)
    if meant is None or getattr(kind, meant) is not getattr(Task, meant) or _is_used(cls, word):
        return None
    return written_as(meant)


def _is_used(cls: type, word: str) -> bool:
    """Whether the class's file uses something of that name; True where there is no file to look into."""
    try:
        lines = linecache.getlines(inspect.getsourcefile(cls) or "")
    except (OSError, TypeError):
        return True
    return not lines or re.search(rf"\.{re.escape(word)}\b|[\"']{re.escape(word)}[\"']", "".join(lines)) is not None
