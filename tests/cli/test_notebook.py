"""In a notebook a run shows itself in one output of its cell, and so do its results; IPython is a stand-in here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from written_run import end, finished_run, result, suggest, written_run

from raytune_hpo import Choice, Experiment, RunView, confirm, load_results, report, resume, run
from raytune_hpo.cli.main import main
from raytune_hpo.display import notebook_progress
from raytune_hpo.display.notebook import CellOutput, in_notebook
from raytune_hpo.display.notebook_progress import NotebookProgress
from raytune_hpo.journal.events import Closed, DataLoaded, Reported, SessionOpened, Started, Step
from raytune_hpo.states import RunStatus

EVIL = "<script>alert(1)</script>"


class Cell:
    """What a notebook's front end keeps of a cell: its outputs, each as it was last changed, and every change."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, str]] = []
        self.changes: list[str] = []

    def display(self, shown: dict[str, str], raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        place = len(self.outputs)
        self.outputs.append({})

        def update(shown: dict[str, str], raw: bool) -> None:
            assert raw
            self.outputs[place] = shown
            self.changes.append(shown["text/html"])

        update(shown, raw=True)
        return types.SimpleNamespace(update=update)

    @property
    def html(self) -> str:
        return self.outputs[-1]["text/html"]

    @property
    def text(self) -> str:
        return self.outputs[-1]["text/plain"]


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    made = Cell()
    shell = types.SimpleNamespace(kernel=object())
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    of_display = types.ModuleType("IPython.display")
    of_display.display = made.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", of_display)
    return made


class Parsed(HTMLParser):
    """Tags and texts, as a browser sees them; every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag != "br":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def trains(config: dict[str, Any]) -> None:
    for epoch in range(1, 4):
        if config["how"] == EVIL:
            raise ValueError(f"no {EVIL}\x1b[2J")
        report({EVIL: len(config["how"]) * epoch + config["n"]})


def made(*how: str, **fields: Any) -> Experiment:
    given: dict[str, Any] = {"searcher": "grid", "scheduler": "fifo", "max_epochs": 3, "max_failures": 0}
    space = {"how": Choice(how), "n": Choice([0, 1])}
    given = {**given, "metric": EVIL, "mode": "max", "executor": "inline", "fail_fast": None, **fields}
    return Experiment(name="shown", task=trains, space=space, **given)


# Where there is a notebook ----------------------------------------------------------------------------


def test_only_a_kernel_is_a_notebook(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_notebook()
    sys.modules["IPython"].get_ipython = types.SimpleNamespace  # type: ignore[attr-defined]
    assert not in_notebook(), "a terminal's shell"
    sys.modules["IPython"].get_ipython = lambda: None  # type: ignore[attr-defined]
    assert not in_notebook(), "imported by a program"
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("half imported"))
    assert not in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not in_notebook()
    assert "IPython" not in sys.modules


def test_nothing_here_imports_ipython() -> None:
    source = "import sys; import raytune_hpo.display.screen as s; s.Screen.of(False); print('IPython' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# A run ------------------------------------------------------------------------------------------------


def test_a_run_shows_itself_in_one_output(
    cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook_progress, "EVERY_S", 0.0)
    results = run(made(EVIL, "works"), tmp_path / "run")
    assert capsys.readouterr() == ("", "")
    assert len(cell.outputs) == 1
    assert "<progress" in "".join(cell.changes)
    assert "<progress" not in cell.html, "it is over"
    for html in cell.changes:
        assert "script" not in Parsed(html).tags
    assert any("<b>failures</b>" in html for html in cell.changes)
    for words in ("shown: 4 trials of up to 3 epochs", f"run directory: {tmp_path}", "finished in", "best "):
        assert words in cell.html
        assert words in cell.text
    assert f"ValueError: no {EVIL}\\x1b[2J" in cell.text
    assert "2 failed, t000" in cell.text
    assert "\x1b" not in cell.html + cell.text
    html = results._repr_html_()
    assert "script" not in Parsed(html).tags
    assert EVIL in Parsed(html).texts, "the metric's name"
    resume(tmp_path / "run", task=trains)
    assert "finished in" in cell.html
    assert len(cell.outputs) == 2


def test_a_run_changes_its_output_about_once_a_second(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(notebook_progress.time, "monotonic", lambda: now[0])
    shown = NotebookProgress(CellOutput())
    shown.begin(RunView(tmp_path, "0", made("works", "better", max_epochs=40).to_json()))
    number = 0
    for event in (SessionOpened(1, pid=os.getpid()), suggest("t00000", how="works", n=1), Started("t00000", epoch=0)):
        shown.event(number, event, Step(number + 1, now[0], now[0], (event,), number))
    for epoch in range(1, 31):
        now[0] += 0.1
        report = Reported("t00000", 0, epoch, {EVIL: 0.5}, 0.1)
        shown.event(number, report, Step(number + 1, now[0], now[0], (report,), number))
        shown.idle()
        shown.idle()
    assert len(cell.changes) in (4, 5)
    shown.end()
    # Ten epochs, and three trials of 40, at 10 a second.
    assert "0/4 trials  1 running  0 stopped early  13 s left" in cell.text
    assert '<progress value="30" max="160"' in cell.html
    assert "13 s left" in cell.html


def test_quiet_shows_nothing_and_json_is_no_cell(
    cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(made("works", "better"), tmp_path / "run", quiet=True)
    assert cell.outputs == []
    assert capsys.readouterr() == ("", "")
    file = tmp_path / "exp.py"
    file.write_text(
        "from raytune_hpo import Choice, Experiment, report\ndef train(config):\n    report({'score': config['n']})\n"
        "experiment = Experiment(name='same', task=train, space={'n': Choice([0, 1])}, metric='score', mode='max',\n"
        "                        searcher='grid', scheduler='fifo', max_epochs=1, executor='inline')\n"
    )
    assert main(["run", str(file), "--run-dir", str(tmp_path / "two"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out[0], "same: 2 trials" in err) == ("{", True)
    assert cell.outputs == []


def test_confirm_shows_its_run_and_then_its_judgement(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("raytune_hpo.display.screen.Screen.say", lambda self, text: said.append(text))
    monkeypatch.setattr(notebook_progress, "EVERY_S", 0.0)
    run(made("works", "better"), tmp_path / "run", quiet=True)
    confirm(tmp_path / "run", 2, 2, task=trains)
    repeated, judging = cell.outputs
    assert "4/4 trials" in repeated["text/plain"]
    assert "shown-confirm" in repeated["text/html"]
    assert judging == {"text/html": "", "text/plain": ""}, "it is over"
    assert any("judging the repetitions" in html for html in cell.changes)
    assert len(said) == 1


# Results ----------------------------------------------------------------------------------------------


def test_results_show_where_they_stand_and_what_to_say_of_them(tmp_path: Path) -> None:
    results = load_results(finished_run(tmp_path / "run"))
    seen = Parsed(results._repr_html_())
    text = " ".join(seen.texts)
    assert "finished, 1 completed, 1 stopped, 1 diverged, 1 failed" in text
    assert "best: t00001, validation_accuracy 0.95 at epoch 2; test_accuracy 0.93, test_loss 0.1" in text
    assert re.findall(r"t0000\d 0\.\d+ \d \w+ [\d.]+", text) == [
        "t00001 0.95 2 completed 0.05",
        "t00000 0.8 1 stopped 0.01",
    ]
    assert "batch_size" not in text, "a constant"
    (tmp_path / "run/test.json").write_text("damaged")
    assert "is damaged" in " ".join(Parsed(results._repr_html_()).texts)


def test_results_hold_advice_and_escape_what_they_show(tmp_path: Path) -> None:
    lines: list[Any] = [SessionOpened(1), DataLoaded((1,), "float32", 100, 50)]
    for i in range(20):
        lines += [suggest(f"t{i:05d}", **{EVIL: EVIL + "x" * 300, "lr": 0.01}), result(f"t{i:05d}", 1, 0.9 + i / 1000)]
        lines += [end(f"t{i:05d}", "completed", "max_epochs")]
    lines.append(Closed(RunStatus.FINISHED))
    results = load_results(written_run(tmp_path / f"a{EVIL[:8]}b", *lines))
    seen = Parsed(results._repr_html_())
    assert "script" not in seen.tags
    assert seen.tags.count("tr") == 1 + 5
    assert any("20 trials are within two standard errors" in text for text in seen.texts)
    assert any(text.startswith(EVIL + "xxx") and text.endswith("x...") for text in seen.texts), "a long value is cut"
    assert "script" not in Parsed(results._repr_html_().replace("title", "class")).tags


def test_many_parameters_are_one_column(tmp_path: Path) -> None:
    config = {f"p{i}": i for i in range(12)}
    run_dir = written_run(tmp_path / "run", suggest("t00000", **config), result("t00000", 1, 0.5))
    seen = Parsed(load_results(run_dir)._repr_html_())
    assert seen.tags.count("th") == 5
    assert any(text.startswith("p0=0  p1=1  p2=2") for text in seen.texts)
