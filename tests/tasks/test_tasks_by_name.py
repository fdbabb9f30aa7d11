from __future__ import annotations

import pytest

import raytune_hpo.tasks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.tasks import TASKS, Digits, task_by_name, task_class
from raytune_hpo.training.task import Task


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_is_reached_by_its_name(name: str) -> None:
    task = task_by_name(name)
    assert isinstance(task, Task)
    assert task_by_name(name, **task.options()) == task
    assert getattr(raytune_hpo.tasks, task_class(name).__name__) is type(task)
    task.check()


def test_options_are_passed_on() -> None:
    assert task_by_name("digits", test_fraction=0.1) == Digits(test_fraction=0.1)


def test_unknown_names_and_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(ExperimentError, match="did you mean 'digits'"):
        task_by_name("digit")
    with pytest.raises(ExperimentError, match="did you mean 'test_fraction'"):
        task_by_name("digits", test_fractions=0.1)
    with pytest.raises(AttributeError):
        raytune_hpo.tasks.Nothing  # noqa: B018
