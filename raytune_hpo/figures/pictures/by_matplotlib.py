"""Panels as one figure of matplotlib's."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raytune_hpo.figures.panel import Panel, headline
from raytune_hpo.figures.pictures.axes import dress, fitting, read, title_of, wide
from raytune_hpo.figures.pictures.parallel import draw_parallel
from raytune_hpo.figures.pictures.traces import draw_traces, key
from raytune_hpo.printable import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Inches: of a pixel of a panel's, of a panel that stands alone, of one among others, of what is between two rows.
PIXEL, ALONE, AMONG, BETWEEN = 0.01, 8.0, 3.5, 0.5
COLUMNS = 3
#: Of the head: its title, and a line of its legend.
TITLE, LINE_HEIGHT = 0.42, 0.22
#: Dots an inch of a PNG, and dots of its longest side.
DOTS, LONGEST = 200, 16_000
FONT = 9.0  # points
TEXT, LINE, GRID = "#1b1f24", "#aab2bb", "#e6e9ed"
#: For letters that DejaVu Sans has not, where they are installed.
FALLBACKS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans", "Noto Emoji", "Arial Unicode MS", "Hiragino Sans",
             "Microsoft YaHei", "WenQuanYi Zen Hei", "Droid Sans Fallback")  # fmt: skip
STYLE: dict[str, Any] = {
    "text.parse_math": False,  # names may hold $, ^ and _
    "font.size": FONT,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": FONT + 1,
    "grid.color": GRID,
    "legend.frameon": False,
    "svg.hashsalt": "raytune_hpo",  # the same figure is the same file
    "pdf.fonttype": 42,
}
#: Of a file: no time, by which two of the same figure would differ.
UNDATED = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def drawn_by_matplotlib(panels: Sequence[Panel], title: str, form: str) -> bytes:
    """form: png, svg or pdf."""
    with _own_style():
        figure = figure_of(panels, title)
        dots = min(DOTS, LONGEST / max(figure.get_size_inches()))
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, dpi=dots, metadata=UNDATED[form])
    return buffer.getvalue()


@contextmanager
def _own_style() -> Iterator[None]:
    """Whatever the user's matplotlibrc says, which may want TeX."""
    import matplotlib
    from matplotlib import font_manager

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        installed = set(font_manager.get_font_names())
        family = ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)]
        matplotlib.rcParams.update({**STYLE, "font.family": family})
        # A letter that no font has is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message=".*constrained_layout not applied")
        yield


def figure_of(panels: Sequence[Panel], title: str) -> Figure:
    """Within a style of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = max(ALONE, columns * AMONG, *(panel.least_width * PIXEL for panel in panels))
    height = rows * (max(panel.height for panel in panels) * PIXEL + BETWEEN)
    legend = _legend(panels, width)
    head = TITLE + LINE_HEIGHT * len(legend)
    below = (0.0, 0.0, 1.0, height / (height + head))
    engine = ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06, hspace=0.05, wspace=0.03, rect=below)
    figure = Figure(figsize=(width, height + head), layout=engine)
    FigureCanvasAgg(figure)
    _draw_head(figure, headline(panels, title), legend)
    grid = figure.add_gridspec(rows, columns)
    rows_before: list[str] = []
    for i, panel in enumerate(panels):
        row, column = divmod(i, columns)
        axes = figure.add_subplot(grid[row, column])
        room = (width / columns - 0.8, height / rows - 0.8)
        if len(panels) > 1:
            axes.set_title(fitting(printable(panel.title), room[0], FONT + 1))
        if panel.x is None or panel.y is None:
            draw_parallel(axes, panel.traces[0], width)
            continue
        places = draw_traces(axes, panel)
        # A title that is the same all along a row or a column stands at its end.
        beside = column > 0 and title_of(panels[i - 1].y) == title_of(panel.y)
        above = i + columns < len(panels) and title_of(panels[i + columns].x) == title_of(panel.x)
        dress(axes, panel, places, room, titles=(not above, not beside))
        if beside and places["y"] and list(places["y"]) == rows_before:
            axes.tick_params(axis="y", labelleft=False)
        rows_before = list(places["y"])
    return figure


Entry = tuple[str, Any]


def _legend(panels: Sequence[Panel], width: float) -> list[list[Entry]]:
    """(name, what stands for it), in rows as wide as the figure."""
    found = {read(trace["name"]): key(trace) for own in panels for trace in own.traces if trace.get("showlegend")}
    entries = [(fitting(name, 2.5, FONT), handle) for name, handle in found.items()]
    if any(panel.layout.get("legend", {}).get("traceorder") == "reversed" for panel in panels):
        entries.reverse()
    rows: list[list[Entry]] = []
    room = 0.0
    for name, handle in entries:
        needed = wide(name, FONT) + 0.5
        if not rows or needed > room:
            rows.append([])
            room = width - 0.2
        rows[-1].append((name, handle))
        room -= needed
    return rows


def _draw_head(figure: Figure, title: str, legend: list[list[Entry]]) -> None:
    width, height = figure.get_size_inches()
    shown = fitting(printable(title), width - 0.2, FONT + 3)
    figure.text(0.1 / width, 1 - 0.1 / height, shown, ha="left", va="top", fontsize=FONT + 3)
    for i, row in enumerate(legend):
        place = (0.1 / width, 1 - (TITLE + i * LINE_HEIGHT) / height)
        names, handles = [name for name, _ in row], [handle for _, handle in row]
        made = figure.legend(handles, names, loc="upper left", bbox_to_anchor=place, ncols=len(row), borderpad=0,
                             borderaxespad=0, columnspacing=1.2, handlelength=1.3, handletextpad=0.5)  # fmt: skip
        made.set_in_layout(False)
