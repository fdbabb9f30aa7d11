"""The process that drives kaleido's Chrome: python -m raytune_hpo.figures.pictures.kaleido_process FOLDER FORMAT"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from raytune_hpo.figures.panel import TEMPLATE, WIDTH
from raytune_hpo.figures.pictures.by_plotly import SPECS

#: Dots of a pixel, and of the longest side that Chrome can draw.
SCALE, LONGEST = 2.0, 16_000
NO_CHROME = "kaleido finds no Chrome (kaleido_get_chrome, or BROWSER_PATH)"


async def draw(folder: Path, form: str) -> None:
    """Draws the figures of the folder's `SPECS` into it."""
    import kaleido
    from plotly.graph_objects import Figure

    specs = json.loads((folder / SPECS).read_text())
    async with kaleido.Kaleido(mathjax=False) as browser:  # (by default it is fetched from the net, and reads $)
        for i, spec in enumerate(specs):
            layout = spec["layout"]
            width, height = max(WIDTH, layout.get("width", 0)), layout["height"]
            scale = min(SCALE, LONGEST / max(width, height)) if form == "png" else 1
            options = {"format": form, "width": width, "height": height, "scale": scale}
            data = await browser.calc_fig(Figure(spec, layout_template=TEMPLATE), opts=options)
            (folder / f"{i}.{form}").write_bytes(data)


def main(folder: str, form: str) -> None:
    from choreographer.errors import ChromeNotFoundError

    try:
        asyncio.run(draw(Path(folder), form))
    except ChromeNotFoundError:
        sys.exit(NO_CHROME)
    except Exception as error:
        why = f"{type(error).__name__}: {error.args[0] if error.args else ''}".splitlines()[0]
        sys.exit(f"kaleido does not draw: {why}")


if __name__ == "__main__":
    main(*sys.argv[1:])
