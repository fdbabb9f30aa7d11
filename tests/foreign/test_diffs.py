"""How much of a program that knows nothing of raytune_hpo has to change before it can be tuned."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in (HERE / "programs").glob("[a-z]*.py"))
MOST = 10
# A step of its own, with two optimizers and no loss that would say how good it is: those are two methods more.
MORE = {"gan": 14}


def code(path: Path) -> list[str]:
    """The lines of code, without those that are blank or comments, and without indentation: what moves into a method
    as it is was not written anew."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def written(before: list[str], after: list[str]) -> list[str]:
    """The lines of `after` that were added or changed; those only deleted from `before` are in none."""
    changes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [line for tag, _, _, start, end in changes if tag in ("insert", "replace") for line in after[start:end]]


def test_there_are_ten_and_each_is_tuned() -> None:
    assert len(NAMES) == 10
    assert sorted(path.stem for path in (HERE / "tuned").glob("[a-z]*.py")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_program_becomes_a_task_in_few_lines(name: str) -> None:
    lines = written(code(HERE / "programs" / f"{name}.py"), code(HERE / "tuned" / f"{name}.py"))
    assert 0 < len(lines) <= MORE.get(name, MOST), "\n".join([f"{len(lines)} lines were written:", *lines])


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ("a\nb\nc", "a\nc", 0),
        ("a\nb\nc", "a\nB\nc", 1),
        ("a\nb", "a\n\n# why\nx\nb\ny", 2),
        ("for x in y:\n    a\n    b", "def f(x):\n        a\n        b", 1),
    ],
)
def test_what_is_counted(tmp_path: Path, before: str, after: str, count: int) -> None:
    files = [tmp_path / "before.py", tmp_path / "after.py"]
    for file, text in zip(files, (before, after), strict=True):
        file.write_text(text)
    assert len(written(code(files[0]), code(files[1]))) == count
