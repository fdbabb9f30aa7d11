"""The site of the pages in docs/ and of the public docstrings: make docs.

The pages are plain Markdown, which git hosts show as it is. What only a site has is added here: the order of the pages,
and the docstrings on the page of the API.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import raytune_hpo
from raytune_hpo import testing

sys.path.insert(0, str(Path(__file__).parent))

from docstrings import as_rst

project = "raytune_hpo"
version = release = raytune_hpo.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"
exclude_patterns = ["site"]

myst_heading_anchors = 4
smartquotes = False
python_maximum_signature_line_length = 100
add_module_names = False
autodoc_inherit_docstrings = False  # of a method that overrides one: it would be told again for each metric
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "raytune_hpo"
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
html_sidebars = {"**": ["pages.html"]}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {"navbar_center": [], "footer_start": [], "footer_end": []}
templates_path = ["templates"]

#: The pages in the order of reading.
PAGES = {
    "Using it": (
        "Five minutes <self>",
        "methods",
        "winner",
        "seeing",
        "living_runs",
        "ask_and_tell",
        "panda",
        "command_line",
        "options",
    ),
    "Your own": ("tasks", "trainers", "coming_from_ray_tune", "coming_from_optuna", "extending", "api"),
    "Where trials run": ("executors", "lanes", "mixed_lanes", "gpu", "cluster"),
    "Behind it": ("measured", "design", "coverage"),
}
#: The classes whose methods are shown, since they are called or overridden, and which: "" is all that have a docstring.
METHODS = dict.fromkeys(
    ("Experiment", "Results", "Predictor", "Objective", "Listener", "Metric", "WholeMetric", "Scheduler", "Trainer"), ""
) | {
    "SearchAlgorithm": "propose, plan_of, report, evidence, observed, pending",
    "Task": "kind, groups, validate_every, loader_workers, load, build_model, preprocess, augment, loss, predict, "
    "targets, metrics, collate, model_hyperparameters, parameter_groups, optimizers, train_step, trainer",
    "Float": "when",
    "checkpointed": "epochs, report",
}


def add_contents(app: Any, page: str, source: list[str]) -> None:
    if page == "index":
        for caption, pages in PAGES.items():
            source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def add_docstrings(app: Any, page: str, source: list[str]) -> None:
    """Lines of names, `Float`, `Int`, become what their docstrings say."""
    if page == "api":
        source[0] = re.sub(r"^`\w+`(, `\w+`)*$", lambda names: _documented(names[0]), source[0], flags=re.M)


def _documented(names: str) -> str:
    return "\n".join(["```{eval-rst}", *map(_directive, re.findall(r"\w+", names)), "```"])


def _directive(name: str) -> str:
    room = "raytune_hpo" if hasattr(raytune_hpo, name) else "raytune_hpo.testing"
    found = getattr(raytune_hpo if hasattr(raytune_hpo, name) else testing, name)
    if inspect.ismodule(found):
        return f".. automodule:: {found.__name__}\n   :members:\n"
    if not inspect.isclass(found):
        return f".. autofunction:: {room}.{name}\n"
    kind = "autoexception" if issubclass(found, Exception) else "autoclass"
    return f".. {kind}:: {room}.{name}\n" + (f"   :members: {METHODS[name]}\n" if name in METHODS else "")


def to_rst(app: Any, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    lines[:] = as_rst(lines)


def readable(
    app: Any, what: str, name: str, found: object, options: object, signature: str | None, answer: str | None
) -> tuple[str, str | None] | None:
    """A default that is made anew for each object is shown as none of Python's: then Sphinx reads no types, either."""
    return (signature.replace("<factory>", "..."), answer) if signature else None


def setup(app: Any) -> None:
    app.connect("source-read", add_contents)
    app.connect("source-read", add_docstrings)
    app.connect("autodoc-process-docstring", to_rst)
    app.connect("autodoc-process-signature", readable)
