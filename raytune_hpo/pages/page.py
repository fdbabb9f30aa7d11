"""The page: sections as HTML, figures and the trials' table as data, all in one file.

parts      what the page is made of: HTML by section, figures by id, trials by run. A live page is sent those that
           changed
page       the file. It asks nobody for anything: its Content-Security-Policy lets it reach no address
"""

from __future__ import annotations

import base64
import functools
import gzip
import json
import os
import shlex
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.display.summary import duration
from raytune_hpo.errors import ExperimentError
from raytune_hpo.figures.parameters import places
from raytune_hpo.pages.overview import TRIALS, overview
from raytune_hpo.pages.sections import sections
from raytune_hpo.pages.tables import Share
from raytune_hpo.printable import printable, printable_lines
from raytune_hpo.results.facts import Facts
from raytune_hpo.space.configs import flatten

if TYPE_CHECKING:
    import jinja2

INSTALL = 'needs plotly and jinja2: pip install "raytune-hpo[report]"'
HTML = Path(__file__).parent / "html"
#: Of a row in `trials --json`, in the order of the page's table; a config's values stand between them.
FIRST = ("trial_id", "best")
LAST = ("status", "best_epoch", "epochs", "reason", "seconds")


@dataclass(frozen=True)
class Parts:
    """titles, html: by section; figures: by the id of the element that shows each; trials: one table a run."""

    titles: dict[str, str]
    html: dict[str, str]
    figures: dict[str, dict[str, Any]]
    trials: list[dict[str, Any]]


def check_installed() -> None:
    """Raises ExperimentError where what pages need is not installed."""
    try:
        import jinja2  # noqa: F401
        import plotly  # noqa: F401
    except ImportError as error:
        raise ExperimentError("report", "HTML", INSTALL) from error


def parts(documents: Sequence[Facts]) -> Parts:
    labels = labelled(documents)
    folders = [shlex.quote(printable(one["run"]["run_dir"])) for one in documents]
    template = _templates().get_template("section.html")
    made = Parts({}, {}, {}, [trials(one) for one in documents])
    for section in [*overview(documents, labels), *sections(documents)]:
        for i, block in enumerate(section.blocks):
            for j, panel in enumerate(block.panels):
                spec = made.figures[f"{section.id}-{i}-{j}"] = panel.spec
                if section.id == TRIALS:  # its brushes filter the table
                    ids = [row["trial_id"] for row in documents[i]["trials"]]
                    spec["meta"] = {"filters": i, "ids": ids, "places": places(documents[i])}
        told = {"section": section, "labels": labels, "folders": folders}
        made.titles[section.id] = section.title
        made.html[section.id] = template.render(**told)
    return made


def labelled(documents: Sequence[Facts]) -> list[str]:
    """A name for each run: its folder's, with the folder that it lies in where several have the same."""
    paths = [Path(os.path.normpath(one["run"]["run_dir"])) for one in documents]
    names = [path.name for path in paths]
    return [
        printable(path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}") for path in paths
    ]


def trials(one: Facts) -> dict[str, Any]:
    """The table of a run's trials, by columns: names, of which those from `first` to before `last` are
    parameters, and values."""
    paths = list(one["space"]["parameters"])
    names = [*FIRST, *paths, *LAST]
    rows = [trial_cells(row, paths) for row in one["trials"]]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
    ends = {"first": len(FIRST), "last": len(FIRST) + len(paths)}
    return {"metric": one["run"]["metric"], "mode": one["run"]["mode"], **ends, "names": names, "columns": columns}


def trial_cells(row: Mapping[str, Any], paths: Sequence[str]) -> list[Any]:
    """One row of it. row: of `results.facts.facts.trial_row`."""
    config = flatten(row.get("best_config", row["config"]))
    values = [_cell(config[path]) if path in config else None for path in paths]
    return [*(_own(row[key]) for key in FIRST), *values, *(_own(row[key]) for key in LAST)]


def _own(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def status_line(*, status: str, metric: str, best: Mapping[str, Any] | None, trials: int, epochs: int) -> str:
    """HTML: where the run stands, as the page's head shows it."""
    told = {"status": status, "metric": metric, "best": best, "trials": trials, "epochs": epochs}
    return _templates().get_template("status.html").render(**told)


def _cell(value: Any) -> Any:
    """Numbers as they are; else the text that stands for it."""
    if type(value) in (int, float):
        return value
    simple = value is None or isinstance(value, bool | str)
    return printable(str(value) if simple else json.dumps(value, ensure_ascii=False))


def page(
    documents: Sequence[Facts],
    *,
    made: Parts | None = None,
    live: bool = False,
    version: int = 0,
    control: bool = False,
) -> str:
    """One HTML file. made: its parts, where they are known. live: it asks its server for what is new after `version`,
    and for plotly.js; control: and sends it commands.

    Raises ExperimentError where plotly or jinja2 are not installed.
    """
    check_installed()
    made = made or parts(documents)
    return (
        _templates()
        .get_template("page.html")
        .render(
            title=", ".join(labelled(documents)),
            parts=made,
            states=[_state(one) for one in documents],
            data=packed({"figures": made.figures, "trials": made.trials, "version": version}),
            style=_style(),
            script=(HTML / "page.js").read_text(),
            plotly="" if live else plotly_js(),
            live=live,
            control=control,
        )
    )


def runs_page(storage: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """HTML: the runs of a storage folder (as of `results.listing`), the one with the newest event first."""
    now = time.time()
    told = sorted(runs, key=lambda run: -(run.get("last") or 0.0))
    rows = [{**run, "name": Path(run["run_dir"]).name, "age": _age(now, run.get("last"))} for run in told]
    return _templates().get_template("runs.html").render(title=storage, runs=rows, style=_style())


def _style() -> str:
    return (HTML / "page.css").read_text()


def _age(now: float, last: float | None) -> str:
    return "" if last is None else f"{duration(max(0.0, now - last))} ago"


def _state(one: Facts) -> str:
    run, cost = one["run"], one["cost"]
    own = {"trials": cost["trials"], "epochs": cost["epochs"]}
    return status_line(status=run["status"], metric=run["metric"], best=one["best"], **own)


def packed(data: Any) -> str:
    """JSON, compressed, in base64: it may stand within a script element whatever texts are in it, and ten thousand
    trials are a quarter of their size."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("utf-8", "backslashreplace"), mtime=0)).decode()


@functools.cache
def plotly_js() -> str:
    """plotly.js as it comes with plotly, its licence at its head."""
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("</script", "<\\/script")


@functools.cache
def _templates() -> jinja2.Environment:
    import jinja2

    loader = jinja2.FileSystemLoader(HTML)
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    made.filters["shown"] = shown
    made.filters["with_code"] = with_code
    made.filters["is_number"] = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    made.filters["printed"] = printable_lines
    made.filters["path"] = lambda name: urllib.parse.quote(os.fsencode(name), safe="")
    made.filters["exact"] = json.dumps
    return made


def with_code(value: Any) -> str:
    """A cell of text as HTML: what stands between backticks is code."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in shown(value).split("`")]
    if len(parts) % 2 == 0:  # an odd one of somebody's text
        return Markup("`").join(parts)
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def shown(value: Any) -> str:
    """Of a table's cell."""
    if value is None:
        return "-"
    if isinstance(value, Share):
        return f"{max(value, 0.0) if value > -5e-4 else value:.1%}"
    if isinstance(value, float):
        return f"{value:.5g}"
    return printable(str(value))
