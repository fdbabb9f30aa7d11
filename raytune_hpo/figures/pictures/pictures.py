"""Figures as files' contents."""

from __future__ import annotations

from collections.abc import Sequence

from raytune_hpo.errors import ExperimentError
from raytune_hpo.figures.panel import Panel, composed
from raytune_hpo.figures.pictures.by_matplotlib import drawn_by_matplotlib
from raytune_hpo.figures.pictures.by_plotly import NotDrawnError, drawn_by_plotly, page
from raytune_hpo.figures.pictures.legends import with_legends

FORMATS = ("png", "svg", "pdf", "html")


def drawn(figures: Sequence[tuple[str, Sequence[Panel]]], form: str) -> tuple[list[bytes], str | None]:
    """figures: (title, panels). form: of `FORMATS`. Answers a file's content each, and why it is matplotlib that drew
    them, None where plotly did. Raises ExperimentError where a page is asked for and plotly is not installed."""
    if form == "html":
        try:
            return [page(composed(panels, title)) for title, panels in figures], None
        except ImportError as error:
            needs = 'a page needs plotly: pip install "raytune-hpo[report]"'
            raise ExperimentError("--output", "html", needs) from error
    told = [(title, with_legends(panels)) for title, panels in figures]
    try:
        return drawn_by_plotly([composed(panels, title) for title, panels in told], form), None
    except NotDrawnError as error:
        return [drawn_by_matplotlib(panels, title, form) for title, panels in told], str(error)
