"""Pictures by plotly itself: kaleido has a Chrome draw them. Nothing is asked of another machine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from raytune_hpo.figures.panel import WIDTH

#: Dots of a pixel, and of the longest side that Chrome can draw.
SCALE, LONGEST = 2.0, 16_000
TEMPLATE = "plotly_white"
INSTALL = 'pip install "raytune-hpo[plot]" draws it as the report does'


class NotDrawnError(Exception):
    """Plotly cannot draw here. The text says why."""


def page(spec: dict[str, Any]) -> bytes:
    """An HTML page of one figure, plotly.js in it. Raises ImportError without plotly."""
    from plotly.graph_objects import Figure
    from plotly.io import to_html

    config = {"displaylogo": False, "responsive": True}
    text: str = to_html(Figure(spec, layout_template=TEMPLATE), config, include_plotlyjs=True, div_id="figure")
    return text.encode("utf-8", "backslashreplace")


def drawn_by_plotly(specs: Sequence[dict[str, Any]], form: str) -> list[bytes]:
    """Raises NotDrawnError."""
    try:
        import kaleido
        from plotly.graph_objects import Figure
    except ImportError as error:
        missing = "plotly" if (error.name or "").startswith("plotly") else "kaleido"
        raise NotDrawnError(f"{missing} is not installed ({INSTALL})") from error
    if not hasattr(kaleido, "Kaleido"):
        raise NotDrawnError(f"this kaleido is older than 1.0 ({INSTALL})")
    from choreographer.errors import ChromeNotFoundError

    figures = [Figure(spec, layout_template=TEMPLATE) for spec in specs]
    try:
        return asyncio.run(_drawn(figures, form))
    except ChromeNotFoundError as error:
        raise NotDrawnError("kaleido finds no Chrome (kaleido_get_chrome, or BROWSER_PATH)") from error
    except Exception as error:  # of a browser, of which every machine has another
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise NotDrawnError(f"kaleido's Chrome does not draw ({why[:200]})") from error


async def _drawn(figures: Sequence[Any], form: str) -> list[bytes]:
    import kaleido

    made: list[bytes] = []
    async with kaleido.Kaleido(mathjax=False) as browser:  # (by default it is fetched from the net, and reads $)
        for figure in figures:
            width, height = max(WIDTH, figure.layout.width or 0), figure.layout.height
            scale = min(SCALE, LONGEST / max(width, height)) if form == "png" else 1
            options = {"format": form, "width": width, "height": height, "scale": scale}
            made.append(await browser.calc_fig(figure, opts=options))
    return made
