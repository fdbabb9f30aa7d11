"""The examples of docs/extending.md are short, and do what their page says. (That each runs: test_documents.)"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import REPOSITORY, blocks_of

from raytune_hpo import load_experiment, load_results, run

EXAMPLES = {
    re.findall(r'name="(\w+)",', block.text)[-1]: block.text
    for block in blocks_of(REPOSITORY / "docs" / "extending.md")
    if block.language == "python" and not block.reason
}


def test_no_example_is_long() -> None:
    assert {name: n for name, text in EXAMPLES.items() if (n := text.count("\n")) > 25} == {}
    assert len(EXAMPLES) == 10


@pytest.mark.parametrize("name", ["cutoff", "lines"])
def test_an_example_does_what_it_says(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text(EXAMPLES[name])
    results = run(load_experiment(file).override({"executor": "inline"}), tmp_path / "run", source=file)
    assert results.best is not None
    assert results.best.test is not None
    if name == "cutoff":
        assert results.counts["stopped"] > 0
    if name == "lines":
        lines = (tmp_path / "run" / "reports.txt").read_text().splitlines()
        assert len(lines) == len(load_results(tmp_path / "run").curves)
