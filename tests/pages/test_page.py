"""The page: one file that asks nobody, shows what the document says, and lets no text of a run act."""

from __future__ import annotations

import base64
import gzip
import html.parser
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import ANSI, SCRIPT, hostile_run, pbt_run, strange_runs, trials_of
from written_run import result, suggest, written_run

from raytune_hpo import Float, load_results
from raytune_hpo.cli.main import main
from raytune_hpo.figures import panels
from raytune_hpo.pages.document import document
from raytune_hpo.pages.page import page

pytest.importorskip("plotly")
pytest.importorskip("jinja2")


class Elements(html.parser.HTMLParser):
    """The elements of a page, with their attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'id="data">([A-Za-z0-9+/=]*)<', text)
    assert found is not None
    unpacked: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return unpacked


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for own in value.values():
            yield from numbers(own)
    elif isinstance(value, list):
        for own in value:
            yield from numbers(own)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def written(run: Path, tmp_path: Path, *more: Path) -> str:
    target = tmp_path / "report.html"
    assert main(["report", str(run), *map(str, more), "-o", str(target)]) == 0
    return target.read_text()


def test_every_number_is_one_of_json(tmp_path: Path) -> None:
    run = hostile_run(tmp_path / "run")
    known = set(numbers(json.loads(json.dumps(document(load_results(run))))))
    text = written(run, tmp_path)
    shown = [float(attrs["value"] or "nan") for tag, attrs in Elements(text).found if tag == "data"]
    assert len(shown) > 200
    assert [value for value in shown if value not in known] == []
    table = data_of(text)["trials"][0]
    assert [value for column in table["columns"] for value in numbers(column) if value not in known] == []
    curves = data_of(text)["figures"]["curves-0-0"]["data"]
    assert [value for trace in curves for value in numbers(trace["y"]) if value not in known] == []


def test_no_text_of_a_run_acts(tmp_path: Path) -> None:
    text = written(hostile_run(tmp_path / "run"), tmp_path)
    body = text[: text.index('id="data"')]
    elements = Elements(body)
    # One script, ours, in the head: light or dark.
    assert [tag for tag, _ in elements.found if tag in ("script", "b", "img", "iframe")] == ["script"]
    assert any(SCRIPT in own for own in elements.texts)  # as text
    assert ANSI not in text
    assert "\x1b" not in json.dumps(data_of(text), ensure_ascii=False)
    assert text.count("<script") == text.count("</script>")


def test_it_reaches_no_address(tmp_path: Path) -> None:
    text = written(pbt_run(tmp_path / "run"), tmp_path)
    policy = next(attrs["content"] for tag, attrs in Elements(text).found if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "connect-src 'none'" in policy
    assert "'self'" not in policy
    outside = [attrs for _, attrs in Elements(text).found for key in ("src", "href") if "//" in (attrs.get(key) or "")]
    assert outside == []
    assert "plotly.js v" in text  # with its licence
    assert len(text) < 10e6


def test_strange_runs_have_a_page(tmp_path: Path) -> None:
    runs = strange_runs(tmp_path / "runs")
    for name, run in runs.items():
        found = page([document(load_results(run))])
        assert f"<h1>{name}</h1>" in found
        assert 'id="summary"' in found
    damaged = page([document(load_results(runs["damaged"]))])
    assert "the journal&#39;s end was damaged" in damaged.lower()
    one = page([document(load_results(runs["one"]))])
    assert "test.json&#39;: is damaged" in one
    assert "a file of it is damaged" in one  # confirm.json


def test_several_runs_stand_side_by_side_on_the_same_axes(tmp_path: Path) -> None:
    one, other = hostile_run(tmp_path / "a"), pbt_run(tmp_path / "b")
    text = written(one, tmp_path, other)
    figures = data_of(text)["figures"]
    assert {"compare-0-0", "compare-0-1", "curves-0-0", "curves-1-0"} <= figures.keys()
    axes = [figures[f"curves-{i}-0"]["layout"] for i in (0, 1)]
    assert axes[0]["yaxis"]["range"] == axes[1]["yaxis"]["range"]
    assert axes[0]["xaxis"]["range"] == axes[1]["xaxis"]["range"]
    assert [len(table["columns"][0]) for table in data_of(text)["trials"]] == [32, 3]
    assert "Nothing of this run." in text  # the lineage of the first


def test_runs_of_different_metrics_have_axes_of_their_own(tmp_path: Path) -> None:
    """And runs whose folders have the same name are told apart."""
    (tmp_path / "losses").mkdir()
    loss = {"metric": "validation_loss", "mode": "min"}
    other = written_run(tmp_path / "losses" / "run", suggest("t00000"), result("t00000", 1, -300.0), **loss)
    text = written(pbt_run(tmp_path / "run"), tmp_path, other)
    figures = data_of(text)["figures"]
    axes = [figures[f"curves-{i}-0"]["layout"] for i in (0, 1)]
    assert axes[0]["yaxis"]["range"][1] < 1
    assert axes[1]["yaxis"]["range"][1] > 300
    assert axes[0]["xaxis"]["range"] == axes[1]["xaxis"]["range"]
    assert f"{tmp_path.name}/run, losses/run" in text


def test_long_names_of_one_beginning_are_two_bars(tmp_path: Path) -> None:
    names = [f"{'x' * 40}{i}" for i in range(2)]
    space = {name: Float(0, 1) for name in names}
    run = trials_of(
        tmp_path / "run", lambda i: i / 30, lambda i: {names[0]: i / 30, names[1]: (7 * i % 30) / 30}, **space
    )
    (panel, *_) = panels(document(load_results(run)), "importance")
    assert len(set(panel.traces[0]["y"])) == 2


def test_what_is_no_page_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = pbt_run(tmp_path / "run")
    os.mkfifo(tmp_path / "pipe.html")
    before = (run / "journal.jsonl").read_bytes()
    for target in (tmp_path / "pipe.html", run / "journal.jsonl", run / "lock"):
        assert main(["report", str(run), "-o", str(target)]) == 2
        assert "--output" in capsys.readouterr().err
    assert (run / "journal.jsonl").read_bytes() == before
    assert stat.S_ISFIFO((tmp_path / "pipe.html").stat().st_mode)
    for _ in range(2):
        assert main(["report", str(run), "-o", str(run / "report.html")]) == 0


def test_its_name_is_the_runs_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pbt_run(tmp_path / "run")
    (run / "deeper").mkdir()
    monkeypatch.chdir(run / "deeper")
    assert main(["report", ".."]) == 0
    assert "<h1>run</h1>" in (run / "deeper" / "run.html").read_text()


def test_where_it_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = pbt_run(tmp_path / "run")
    for target in (tmp_path, tmp_path / "none" / "x.html"):
        assert main(["report", str(run), "-o", str(target)]) == 2
        assert "--output" in capsys.readouterr().err


def test_without_the_extra_it_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    run = pbt_run(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert main(["report", str(run), "-o", str(tmp_path / "x.html")]) == 2
    assert 'pip install "raytune-hpo[report]"' in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
    assert main(["report", str(run), "--json"]) == 0  # needs neither
