"""Pictures by plotly itself: kaleido has a Chrome draw them, in a process of its own, since some never answer."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raytune_hpo.figures.panel import TEMPLATE

#: Of patience with a browser that starts, and with it for each picture.
START_S, EACH_S = 45.0, 15.0
INSTALL = 'pip install "raytune-hpo[plot]" draws it as the report does'
PROCESS = "raytune_hpo.figures.pictures.kaleido_process"
SPECS = "figures.json"


class NotDrawnError(Exception):
    """Plotly cannot draw here. The text says why."""


def page(spec: dict[str, Any]) -> bytes:
    """An HTML page of one figure, plotly.js in it. Raises ImportError without plotly."""
    from plotly.graph_objects import Figure
    from plotly.io import to_html

    config = {"displaylogo": False, "responsive": True}
    text: str = to_html(Figure(spec, layout_template=TEMPLATE), config, include_plotlyjs=True, div_id="figure")
    titled = text.replace("<head>", f"<head><title>{spec['layout']['title']['text']}</title>", 1)
    return titled.encode("utf-8", "backslashreplace")


def drawn_by_plotly(specs: Sequence[dict[str, Any]], form: str) -> list[bytes]:
    """form: png, svg or pdf. Nothing is asked of another machine. Raises NotDrawnError."""
    try:
        import kaleido
        import plotly  # noqa: F401
    except ImportError as error:
        missing = "plotly" if (error.name or "").startswith("plotly") else "kaleido"
        raise NotDrawnError(f"{missing} is not installed ({INSTALL})") from error
    if not hasattr(kaleido, "Kaleido"):
        raise NotDrawnError(f"this kaleido is older than 1.0 ({INSTALL})")
    with tempfile.TemporaryDirectory(prefix="raytune_hpo_plot_") as name:
        folder = Path(name)
        (folder / SPECS).write_text(json.dumps(specs))
        _run([sys.executable, "-m", PROCESS, name, form], START_S + EACH_S * len(specs))
        return [(folder / f"{i}.{form}").read_bytes() for i in range(len(specs))]


def _run(command: list[str], patience_s: float) -> None:
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            _, told = process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired as error:
            raise NotDrawnError(f"kaleido's Chrome does not answer within {patience_s:.0f} s") from error
        finally:
            process.kill()  # a browser ends with the pipe to it
    if process.returncode:
        raise NotDrawnError((told.strip().splitlines() or ["kaleido's process has died"])[-1][:300])
