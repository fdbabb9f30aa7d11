"""Every code block of README.md and docs/*.md is run, or says why it is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import DOCUMENTS, REPOSITORY, RUN, Block, Scene, blocks_of, faults

from raytune_hpo.cli.main import VERBS
from raytune_hpo.display.options_page import options_page

WRONG = """
```
raytune-hpo list
```
```bash
curl example
raytune-hpo list   # the runs
raytune-hpo lst
```
<!-- not run: takes long -->
```bash
make nothing
python benchmarks/nothing.py
sleep 1
```
"""


def is_run(block: Block) -> bool:
    return block.language in RUN and block.reason is None


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("reader"))


def test_every_block_is_run_or_says_why_not() -> None:
    assert [fault for document in DOCUMENTS for fault in faults(blocks_of(document))] == []
    # (As many as fences: none is missed.)
    for document in DOCUMENTS:
        assert 2 * len(blocks_of(document)) == len(re.findall(r"^\s*```", document.read_text(), re.M)), document.name


def test_a_block_that_is_neither_is_seen() -> None:
    found = faults(blocks_of(REPOSITORY / "README.md", WRONG))
    expected = ["line 2: ``` is none", "'curl example' is run by no", "no such command", "no target", "names no file"]
    assert [text for fault, text in zip(found, expected, strict=True) if text not in fault] == []


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if any(map(is_run, blocks_of(d)))], ids=lambda d: d.name)
def test_the_blocks_run(document: Path, scene: Scene) -> None:
    for block in blocks_of(document):
        if is_run(block):
            try:
                scene.run(block)
            except Exception as error:
                error.add_note(f"in {block}")
                raise


@pytest.mark.parametrize(("language", "text"), [("bash", "raytune-hpo best nowhere"), ("python", "1 / 0")])
def test_a_block_that_does_not_run_is_seen(language: str, text: str, scene: Scene) -> None:
    with pytest.raises((AssertionError, ZeroDivisionError)):
        scene.run(Block(REPOSITORY / "README.md", 1, language, text, None))


def test_every_command_is_on_the_page_of_commands() -> None:
    page = (REPOSITORY / "docs" / "command_line.md").read_text()
    assert [verb for verb in VERBS if not re.search(rf"`(raytune-hpo )?{verb}\b", page)] == []


def test_every_link_leads_somewhere() -> None:
    for document in [*DOCUMENTS, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md"]:
        for target, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", document.read_text()):
            if "://" not in target:
                page = document.parent / target if target else document
                assert page.exists(), f"{document.name}: {target}"
                assert not anchor or anchor in _anchors(page), f"{document.name}: {target}{anchor}"


def _anchors(page: Path) -> set[str]:
    """As git hosts make them of headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {"#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_page_of_options_is_what_the_records_say() -> None:
    assert (REPOSITORY / "docs" / "options.md").read_text() == options_page()
