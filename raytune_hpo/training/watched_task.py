"""A task whose methods are looked at as they answer, so that what is wrong is found where it is made.

task -> watched(task): the same task, whose own methods raise a TaskError in place of a wrong answer
     -> named by the method, with the user's file and line: that of the exception, or of the method's return
"""

from __future__ import annotations

import ast
import bdb
import contextlib
import copy
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raytune_hpo.errors import RaytuneHpoError, TaskError, TrialError, is_users, of_memory, one_line, users_place
from raytune_hpo.storage.full_disk import full_disk
from raytune_hpo.training.exception_hints import hint
from raytune_hpo.training.oddities import Reads
from raytune_hpo.training.outputs import check_loss
from raytune_hpo.training.task import Task
from raytune_hpo.training.trees import leaves, mapped, structure

Tensor = torch.Tensor
LONGEST = 400  # characters of an exception


def watched(task: Task, read: set[str] | None = None) -> Task:
    """A copy of `task` with its options, whose own methods raise TaskError where they raise or answer wrongly.

    read: takes the hyperparameters that `build_model` looks up.
    """
    read = set() if read is None else read
    cls = type(task)
    own = [name for name in _CHECKS if getattr(cls, name) is not getattr(Task, name)]
    kind = type(cls.__name__, (cls,), {"__module__": cls.__module__})
    for name in own:
        setattr(kind, name, _LookedAt(kind, name, read))
    found = copy.copy(task)
    object.__setattr__(found, "__class__", kind)
    return found


def of_users(task: Task) -> type[Task]:
    """The task's class as it is written, also of a watched one."""
    cls = type(task)
    return cls.__bases__[0] if any(isinstance(f, _LookedAt) for f in vars(cls).values()) else cls


class _LookedAt:
    """A method in place of the task's own. Calls go through to that, and what they answer is checked."""

    def __init__(self, kind: type[Task], name: str, read: set[str]) -> None:
        self._kind, self._name, self._read = kind, name, read

    def __get__(self, task: Task | None, owner: type[Task]) -> Any:
        return self if task is None else lambda *given, **named: self._call(task, given, named)

    def _call(self, task: Task, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        method = getattr(super(self._kind, task), self._name)
        given = (*given, *named.values())
        if self._name == "build_model" and given:
            given = (Reads(given[0], self._read), *given[1:])
        before = mapped(torch.clone, given[0]) if self._name == "preprocess" else None
        position, check = _CHECKS[self._name]
        with blamed_on(task, self._name, None if position is None else given[position]):
            found = method(*given)
        look = Look(task, self._name)
        if check is not None:
            check(look, found, *given)
        if before is not None and any(not _same(a, b) for a, b in zip(leaves(before), leaves(given[0]), strict=True)):
            look.refuse("writes to its argument, which is the data's own memory: make a new tensor, as x / 255 does")
        return found


# Blame ---------------------------------------------------------------------------------------------------


def fault(task: Task, method: str, text: str, *, place: str | None = None) -> TaskError:
    """text: what is wrong; the method that it asks for is named in place of this one. place: "exp.py, line 31"; None is
    where the method answers, or the class, if it is not its own."""
    cls = of_users(task)
    name = cls.__name__
    unwritten = _UNWRITTEN.search(text)
    if unwritten is not None:
        method = unwritten[1]
    for prefix in (f"{name}.{method}: ", f"{name}.{method} ", f"{name}: "):
        text = text.removeprefix(prefix)
    own = getattr(cls, method) is not getattr(Task, method)
    place = place or (answered_at(getattr(cls, method)) if own else None) or answered_at(cls)
    return TaskError(f"{name}.{method}" + (f" ({place})" if place else ""), text)


@contextlib.contextmanager
def blamed_on(task: Task, method: str, batch: Any = None, *, place: str | None = None) -> Iterator[None]:
    """What is raised inside becomes a TaskError of that method; but for what is no fault of the code: memory and disks
    that are full, a debugger that was left. place: where no user's code has raised it."""
    try:
        yield
    except (TaskError, bdb.BdbQuit):
        raise
    except (Exception, SystemExit) as error:
        if of_memory(error) or full_disk(error) is not None:
            raise
        ours = isinstance(error, RaytuneHpoError)
        text = str(error) if ours else one_line(error)[:LONGEST] + hint(error, batch)
        own = users_place(error)
        place = place if own is None else own.removesuffix(f", in {method}")
        raise fault(task, method, text, place=place) from error


def answered_at(source: Any) -> str | None:
    """ "exp.py, line 31": the only `return` of a function, or where it or a class begins; None of what is not the
    user's."""
    try:
        source = inspect.unwrap(source)
        file = inspect.getsourcefile(source) or ""
        lines, first = inspect.getsourcelines(source)
        (node,) = ast.parse(textwrap.dedent("".join(lines))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # of a prompt, of C
        return None
    if not is_users(file):
        return None
    returns = list(_returns(node)) if isinstance(node, ast.FunctionDef) else []
    line = returns[0].lineno if len(returns) == 1 else node.lineno
    return f"{Path(file).name}, line {first + line - 1}"


def _returns(node: ast.AST) -> Iterator[ast.Return]:
    """Of a function, without those of functions in it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            yield child
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield from _returns(child)


#: What our errors say where a method is needed that the task has not.
_UNWRITTEN = re.compile(r"; write (\w+)\(self")


# What each method must answer -------------------------------------------------------------------------------


class Look:
    """At one answer of a method."""

    def __init__(self, task: Task, method: str) -> None:
        self.task, self.method = task, method

    def refuse(self, text: str) -> None:
        raise fault(self.task, self.method, text)

    def tensors(self, found: Any) -> list[Tensor]:
        """Of a tree that must hold tensors, and nothing else that is an array."""
        if found is None:
            self.refuse("answers None: a return is missing, or returns nothing")
        held = leaves(found)
        if any(isinstance(leaf, np.ndarray | np.generic) for leaf in held):
            self.refuse("answers an array of NumPy: it must answer a tensor, as torch.as_tensor(...) makes of it")
        tensors = [leaf for leaf in held if isinstance(leaf, Tensor)]
        if not tensors:
            self.refuse(f"answers {_article(found)}: it must answer a tensor")
        return tensors

    def as_many(self, found: Any, given: Any, *, fewer: bool = False) -> None:
        """Whether the tensors are of as many samples as what was given. fewer: whether only fewer are wrong."""
        samples = samples_of(given)
        for leaf in self.tensors(found):
            count = len(leaf) if leaf.ndim else 0
            if samples is not None and (count < samples if fewer else count != samples):
                shape = list(leaf.shape)
                self.refuse(f"answers shape {shape} for a batch of {samples} samples: it must answer one of each")


def samples_of(batch: Any) -> int | None:
    """The samples of a batch; None where no tensor tells."""
    return next((len(leaf) for leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim), None)


def _article(value: Any) -> str:
    of = f" of {len(value)}" if isinstance(value, list | tuple) else ""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}{of}"


def _same(one: Any, other: Any) -> bool:
    return not isinstance(one, Tensor) or torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def _model(look: Look, found: Any, config: Any) -> None:
    if isinstance(found, type) and issubclass(found, nn.Module):
        look.refuse(f"answers the class {found.__name__}: it must answer a model, as {found.__name__}(...) makes one")
    if found is None:
        look.refuse("answers None: a return is missing, or returns nothing")
    if not isinstance(found, nn.Module):
        look.refuse(f"answers {_article(found)}: it must answer a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in found.parameters()):
        frozen = "all of its parameters are frozen" if list(found.parameters()) else "it has no parameters"
        look.refuse(f"answers a model that cannot learn: {frozen} (layers in a list want an nn.ModuleList)")


def _prepared(look: Look, found: Any, x: Any, statistics: Any) -> None:
    look.as_many(found, x)


def _augmented(look: Look, found: Any, x: Any) -> None:
    look.tensors(found)
    if structure(found) != structure(x):
        look.refuse(f"answers {_article(found)}: it must answer what it is given, {_article(x)}, in one shape")
    if isinstance(x, Tensor):
        look.as_many(found, x)


def _loss(look: Look, found: Any, model: nn.Module, batch: Any, config: Any) -> None:
    if not torch.is_grad_enabled() and isinstance(found, float | int):
        return  # where it is measured alone
    try:
        check_loss(found, look.task, differentiable=torch.is_grad_enabled())
    except TrialError as error:
        look.refuse(str(error))
    if model.training and not math.isfinite(float(found.detach())):
        look.refuse(f"is {float(found.detach())} for the first batch: every trial would diverge")


def _predicted(look: Look, found: Any, model: nn.Module, batch: Any) -> None:
    if isinstance(found, Tensor) or not isinstance(found, dict | list | tuple):
        look.as_many(found, batch, fewer=True)


def _targets(look: Look, found: Any, batch: Any) -> None:
    look.as_many(found, batch, fewer=True)


def _grouped(look: Look, found: Any, model: nn.Module, config: Any) -> None:
    if not isinstance(found, Mapping):
        look.refuse(f"answers {_article(found)}: it must answer a dict of parameters by group")


def _collated(look: Look, found: Any, samples: Any) -> None:
    look.tensors(found)


#: Of each method where its batch stands, and the check of its answer; of some whoever calls them checks that.
_CHECKS: dict[str, tuple[int | None, Callable[..., None] | None]] = {
    "build_model": (None, _model),
    "preprocess": (0, _prepared),
    "augment": (0, _augmented),
    "loss": (1, _loss),
    "predict": (1, _predicted),
    "targets": (0, _targets),
    "collate": (None, _collated),
    "parameter_groups": (None, _grouped),
    "optimizers": (None, None),
    "train_step": (1, None),
    "metrics": (None, None),
}
