"""The site of docs/: it has all of the API, and docstrings as they are written. (make docs builds it, strictly.)"""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable

import pytest
from documents import REPOSITORY

import raytune_hpo
from raytune_hpo import testing

DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def as_rst() -> Callable[[list[str]], list[str]]:
    found = runpy.run_path(str(DOCS / "site" / "docstrings.py"))["as_rst"]
    assert callable(found)
    return found


def test_the_page_of_the_api_has_every_public_name_once() -> None:
    lines = re.findall(r"^`\w+`(?:, `\w+`)*$", (DOCS / "api.md").read_text(), re.M)
    names = re.findall(r"\w+", " ".join(lines))
    assert sorted(names) == sorted({*raytune_hpo.__all__, *raytune_hpo._LAZY, *testing.__all__})


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Prose of `code`, [*, N] and |a_b|.", "Prose of ``code``, [\\*, N] and \\|a\\_b\\|."),
        ("name    a text\nother, b  of\n        two", "name\n    a text\nother, b\n    of\n    two"),
        ("Thus:\n\n    run(x)  # *", "Thus:\n\n::\n\n    run(x)  # *"),
        ("- one\n- two", "- one\n- two"),
    ],
)  # fmt: skip
def test_docstrings_are_read_as_they_are_written(as_rst, docstring: str, expected: str) -> None:
    assert "\n".join(as_rst(docstring.splitlines())).strip() == expected
