"""The examples of docs/extending.md are whole experiment files, of at most 25 lines, and they run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raytune_hpo import load_experiment, load_results, run

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT, re.S)
NAMES = [re.findall(r'name="(\w+)",', example)[-1] for example in EXAMPLES]
#: Run here: what no other test runs from a file. Of the others experiments like them run in tests/outside.
RUN = ("rings", "cutoff", "fair", "signs", "lines")


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / f"{request.param}.py"
    file.write_text(EXAMPLES[NAMES.index(request.param)])
    return file


def test_no_example_is_long() -> None:
    assert {name: n for name, e in zip(NAMES, EXAMPLES, strict=True) if (n := e.count("\n")) > 25} == {}
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("example", NAMES, indirect=True)
def test_every_example_is_valid(example: Path) -> None:
    experiment = load_experiment(example).resolved
    config = experiment.new_search().suggest("t00000")
    assert config is not None
    experiment.space.check(config)
    experiment.new_scheduler()


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("example", RUN, indirect=True)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    results = run(load_experiment(example), tmp_path / "run", source=example)
    assert results.status == "finished"
    assert not results.counts["failed"], [t.error for t in results.ledger.trials.values()]
    assert results.best is not None
    assert results.best.test is not None
    if example.stem == "cutoff":
        assert results.counts["stopped"] > 0
    if example.stem == "lines":
        lines = (tmp_path / "run" / "reports.txt").read_text().splitlines()
        assert len(lines) == len(load_results(tmp_path / "run").curves)
