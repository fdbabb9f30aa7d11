"""Pictures of figures: what matplotlib draws is what the panels say, and no name of a run acts or is cut."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import math
import os
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hostile import ANSI, LONG, SCRIPT, hostile_run, pbt_run, strange_runs
from matplotlib.text import Text
from PIL import Image
from written_run import end, result, suggest, written_run

from raytune_hpo import load_results
from raytune_hpo.cli.main import main
from raytune_hpo.figures import KINDS, Panel, panels
from raytune_hpo.figures.kinds import titled_panels
from raytune_hpo.figures.panel import GREY, text, titled
from raytune_hpo.figures.pictures import by_matplotlib, by_plotly, drawn
from raytune_hpo.figures.pictures.by_matplotlib import drawn_by_matplotlib, figure_of
from raytune_hpo.figures.pictures.legends import with_legends
from raytune_hpo.results.facts import facts

NOTHING = ("empty", "unfinished", "nan")
#: Of the strange runs those whose figures are not those of another.
DIFFERENT = (*NOTHING, "torn", "hostile", "sessions")
MATH = r"$\frac{x_1}{"  # no formula: whoever takes it for one fails


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer dots, and nobody but matplotlib to draw them."""
    monkeypatch.setattr(by_matplotlib, "DOTS", 40)
    monkeypatch.setitem(sys.modules, "kaleido", None)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Facts with something for every kind, by run."""
    folder = tmp_path_factory.mktemp("runs")
    found = {
        "hostile": facts(load_results(hostile_run(folder / "a"))),
        "pbt": facts(load_results(pbt_run(folder / "b"))),
    }
    boxes = [{"lr": [1e-4, 1e-1], "kind": [SCRIPT, ANSI]}, {"lr": [1e-3, 1e-2], "kind": [SCRIPT]}]
    found["hostile"]["rounds"] = [{"round": i, "box": box} for i, box in enumerate(boxes)]
    return found


def every(told: dict[str, Any]) -> list[tuple[str, str, list[Panel]]]:
    return [(kind, *titled_panels(own, kind)) for own in told.values() for kind in KINDS if panels(own, kind)]


@pytest.mark.usefixtures("coarse")
def test_every_run_gives_pictures_or_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = set()
    runs = strange_runs(tmp_path / "runs")
    for name, form in (*((name, "png") for name in DIFFERENT), ("hostile", "svg"), ("pbt", "svg")):
        target = tmp_path / f"{name}-{form}"
        code = main(["plot", str(runs[name]), "all", "-o", str(target), "--format", form])
        said = capsys.readouterr()
        if name in NOTHING:
            assert (code, said.err) == (2, "raytune-hpo: figure = 'all': this run has nothing to show yet\n")
            assert not target.exists()
            continue
        assert code == 0
        assert said.err.count("\n") == 1
        assert "drawn by matplotlib: kaleido is not installed (pip install" in said.err
        for file in target.iterdir():
            seen.add(file.stem)
            if form == "png":
                with Image.open(file) as picture:
                    darkest, lightest = picture.convert("L").getextrema()
                assert (darkest < 100, lightest) == (True, 255), file
            else:
                root = ET.fromstring(file.read_bytes())
                assert not [own.tag for own in root.iter() if own.tag.rpartition("}")[2] in ("script", "b")]
    assert seen == KINDS.keys() - {"rounds"}


def test_the_numbers_drawn_are_the_panels(told: dict[str, Any]) -> None:
    kinds = set()
    for kind, title, found in every(told):
        figure = figure_of(found, title)
        assert len(figure.axes) == len(found)
        for panel, axes in zip(found, figure.axes, strict=True):
            artists: dict[str, list[Any]] = {f"trace {i}": [] for i in range(len(panel.traces))}
            for own in (*axes.lines, *axes.collections):
                if own.get_gid():
                    artists[own.get_gid()].append(own)
            for i, trace in enumerate(panel.traces):
                kinds.add((kind, trace["type"]))
                check = {"scatter": _same_points, "bar": _same_bars, "parcoords": _same_lines}[trace["type"]]
                check(artists[f"trace {i}"], trace, panel, axes)
    assert {kind for kind, _ in kinds} == KINDS.keys()


def _same_points(artists: list[Any], trace: Any, *_: Any) -> None:
    own = [[math.nan if value is None else value for value in trace[side]] for side in ("x", "y")]
    if len(artists) == 1:
        np.testing.assert_array_equal(artists[0].get_data(), own)
    else:  # one a symbol
        found = [point for artist in artists for point in zip(*artist.get_data(), strict=True)]
        assert sorted(found) == sorted(zip(*own, strict=True))


def _same_bars(artists: list[Any], trace: Any, panel: Panel, axes: Any) -> None:
    (artist,) = artists
    lying = trace.get("orientation") == "h"
    lengths = [own for own in trace["x" if lying else "y"] if own is not None]
    boxes = [path.get_extents() for path in artist.get_paths()]
    assert [box.x1 - box.x0 if lying else box.y1 - box.y0 for box in boxes] == pytest.approx(list(map(abs, lengths)))
    if "base" in trace:
        assert [box.x0 for box in boxes] == pytest.approx(trace["base"])
    # Each stands at the name that is its own.
    axis = axes.yaxis if lying else axes.xaxis
    if not any(label.get_text() for label in axis.get_ticklabels()):  # the same as beside it
        axis = axes.figure.axes[0].yaxis
    names = dict(zip(axis.get_ticklocs(), [label.get_text() for label in axis.get_ticklabels()], strict=True))
    at = [names[round((box.y0 + box.y1) / 2 if lying else (box.x0 + box.x1) / 2)] for box in boxes]
    own = [
        name
        for name, size in zip(trace["y" if lying else "x"], trace["x" if lying else "y"], strict=True)
        if size is not None
    ]
    assert all(text(name.rstrip("…")) in whole for name, whole in zip(at, own, strict=True))
    if panel.layout.get("barmode") == "stack" and trace is panel.traces[-1]:
        tops = {box.x0: box.y1 for box in boxes}
        sums = [
            sum(n for t in panel.traces for x, n in zip(t["x"], t["y"], strict=True) if x == name)
            for name in trace["x"]
        ]
        assert list(tops.values()) == sums


def _same_lines(artists: list[Any], trace: Any, *_: Any) -> None:
    (artist,) = artists
    segments = artist.get_segments()[::-1]  # the best is drawn last
    assert len(segments) == len(trace["customdata"])
    for i, own in enumerate(trace["dimensions"]):
        low, high = own["range"]
        assert [low + (high - low) * line[i][1] for line in segments] == pytest.approx(own["values"], abs=1e-9)


def test_no_text_is_cut_or_lies_on_another(told: dict[str, Any]) -> None:
    texts = set()
    for kind, title, found in every(told):
        with by_matplotlib._own_style():
            figure = figure_of(with_legends(found), title)
            figure.draw_without_rendering()
            width, height = figure.bbox.width, figure.bbox.height
            unseen = {
                label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _out_of_sight(axis)
            }
            for own in figure.findobj(Text):
                box = own.get_window_extent()
                if own.get_text() and own.get_visible() and box.width and own not in unseen:
                    texts.add(own.get_text())
                    inside = box.x0 > -2 and box.x1 < width + 2 and box.y0 > -2 and box.y1 < height + 2
                    assert inside, (kind, own.get_text(), box, width, height)
            head = [own.get_window_extent() for own in (*figure.texts, *figure.legends)]
            assert len(head) > 1 or not any(panel.layout["showlegend"] for panel in with_legends(found))
            for axes in figure.axes:
                assert not [kind for own in head if own.overlaps(axes.get_tightbbox())]
                for axis in (axes.xaxis, axes.yaxis):
                    shown = set(axis.get_ticklabels()) - unseen
                    boxes = [own.get_window_extent() for own in shown if own.get_text() and not own.get_rotation()]
                    assert not [
                        kind for a, b in itertools.combinations(boxes, 2) if a.overlaps(b) and a.width and b.width
                    ]
    assert "<b>bold</b>" in texts
    assert r"\x1b[31mred\x1b[0m" in texts
    assert max(map(len, texts)) < 100 < len(LONG)


def _out_of_sight(axis: Any) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]


def test_names_are_no_formulas_and_no_legend_forgets_them() -> None:
    line = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [1, 2]}
    traces = [
        {**line, "name": text(name), "line": {"color": color, "width": 2}}
        for name, color in ((MATH, "#0072b2"), ("_under <b>", "#d55e00"), ("a^2", "#009e73"))
    ]
    x = {"type": "category", "title": {"text": text(MATH)}}
    bars = {"type": "bar", "x": ["$1$", "2"], "y": [1, None], "name": "bars", "marker": {"color": "#009e73"}}
    found = with_legends(
        [Panel("a", MATH, traces, titled(MATH), titled("$")), Panel("b", "$$", [bars], x, titled("y"))]
    )
    with mpl.rc_context(
        {"text.usetex": True, "axes.prop_cycle": mpl.cycler(color=["r"])}
    ):  # as of a user's matplotlibrc
        data = drawn_by_matplotlib(found, MATH, "svg")
        assert mpl.rcParams["text.usetex"]
        assert data == drawn_by_matplotlib(found, MATH, "svg")  # to the letter
    shown = data.decode()
    assert ET.fromstring(data) is not None
    for name in (MATH, "_under &lt;b&gt;", "a^2", "$1$", "$$"):
        assert f"<!-- {name} -->" in shown


def test_what_has_a_name_stands_in_the_legend_once(told: dict[str, Any]) -> None:
    def legend(kind: str, run: str) -> list[str]:
        made = with_legends(panels(told[run], kind))
        names = [trace["name"] for panel in made for trace in panel.traces if trace.get("showlegend")]
        assert {panel.layout["showlegend"] for panel in made} == {bool(names)}
        return names

    best = [curve["trial"] for curve in told["hostile"]["curves"]["shown"] if (curve["rank"] or 99) <= 8]
    assert legend("curves", "hostile") == best[::-1]
    assert legend("slices", "hostile") == ["stopped early", "failed or diverged", "others", "the best 6"]
    assert legend("lineage", "pbt") == ["trials", "the winner's line"]
    assert legend("rungs", "hostile") == ["went on", "stopped early", "completed", "failed or diverged"]
    assert legend("best", "hostile") == legend("parallel", "hostile") == []


def test_numbers_at_the_ends_of_all_numbers() -> None:
    y = [-1.7e308, 1e-320, None, 1.7e308]
    trace = {"type": "scatter", "mode": "markers", "x": [1, 2, 3, 4], "y": y, "marker": {"color": GREY}}
    for axis in ({"range": [-1.7e308, 1.7e308]}, {"type": "log", "range": [-320, 320]}, {}):
        panel = Panel("a", "a", [trace], {"range": [0, 5]}, axis)
        with Image.open(io.BytesIO(drawn_by_matplotlib([panel], "a", "png"))) as picture:
            picture.load()


def test_a_metric_at_the_ends_of_all_numbers(tmp_path: Path) -> None:
    lines: list[Any] = []
    for i, value in enumerate((-1.7e308, 0.0, 1.7e308)):
        lines += [suggest(f"t{i}"), result(f"t{i}", 1, value, "complete"), end(f"t{i}", "completed", "max_epochs")]
    found = facts(load_results(written_run(tmp_path / "run", *lines)))
    for kind in KINDS:
        for panel in panels(found, kind):
            json.dumps(panel.spec, allow_nan=False)
            assert drawn_by_matplotlib([panel], kind, "svg")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["linage", "-o", "x.png"], "figure = 'linage': no such kind of figure; did you mean 'lineage'?"),
        (["xyz", "-o", "x.png"], "figure = 'xyz': no such kind of figure; there are: curves, best"),
        (["rounds", "-o", "x.png"], "nothing to show for it; it has curves, best"),
        (["best", "-o", "x.gif"], "--output = 'x.gif': must end on .png, .svg, .pdf or .html"),
        (["best", "-o", "x"], "must end on .png"),
        (["best", "-o", "no/x.png"], "--output = 'no/x.png': must be in a folder that there is"),
        (["best", "-o", "folder.png"], "must be a file"),
        (["all", "-o", "file.png"], "must be a folder"),
        (["best", "-o", "x.png", "--format", "svg"], "--format = 'svg': is of `all`"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pbt_run(tmp_path / "run")
    here = tmp_path / "here"
    (here / "folder.png").mkdir(parents=True)
    (here / "file.png").write_text("old")
    monkeypatch.chdir(here)
    assert main(["plot", str(run), *given]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert sorted(own.name for own in here.rglob("*")) == ["file.png", "folder.png"]
    assert (here / "file.png").read_text() == "old"


@pytest.mark.usefixtures("coarse")
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    run, target = pbt_run(tmp_path / "run"), tmp_path / "x.PDF"
    target.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    assert main(["plot", str(run), "best", "-o", str(target)]) == 2
    assert "cannot be written: No space left" in capsys.readouterr().err
    assert target.read_text() == "old"
    assert sorted(own.name for own in tmp_path.iterdir()) == ["run", "x.PDF"]
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "kaleido", None)
    assert main(["plot", str(run), "best", "-o", str(target)]) == 0
    assert target.read_bytes().startswith(b"%PDF")


def test_a_page_has_all_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("plotly")
    run, target = hostile_run(tmp_path / "run"), tmp_path / "x.html"
    assert main(["plot", str(run), "slices", "-o", str(target)]) == 0
    assert capsys.readouterr().err == ""
    page = target.read_text()
    assert "<title>hostile: The metric by each parameter</title>" in page
    assert "plotly.js v" in page
    assert SCRIPT not in page
    assert "src=" not in page.replace("plotly.js", "").split("<body>")[0].split("<script")[0]
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    assert main(["plot", str(run), "best", "-o", str(tmp_path / "y.html")]) == 2
    assert 'a page needs plotly: pip install "raytune-hpo[report]"' in capsys.readouterr().err


def test_a_browser_that_hangs_or_dies_is_given_up() -> None:
    with pytest.raises(by_plotly.NotDrawnError, match=r"does not answer within 0 s"):
        by_plotly._run([sys.executable, "-c", "import time; time.sleep(100)"], 0.3)
    with pytest.raises(by_plotly.NotDrawnError, match=r"^finds no Chrome$"):
        by_plotly._run([sys.executable, "-c", "import sys; sys.exit('a line\\nfinds no Chrome')"], 30)


def test_plotly_draws_where_it_can(told: dict[str, Any]) -> None:
    if importlib.util.find_spec("kaleido") is None or not any(
        map(shutil.which, ("chromium", "google-chrome", "chrome"))
    ):
        pytest.skip("without kaleido or a Chrome: pip install -e '.[plot]', make browser")
    figures = [titled_panels(told["hostile"], kind) for kind in ("curves", "parallel")]
    made, why = drawn(figures, "png")
    assert why is None
    for data in made:
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.size[0] >= 2000
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 50
