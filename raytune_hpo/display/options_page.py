"""docs/options.md: every option of every searcher and scheduler, and the trainer's hyperparameters, of their records.

python -m raytune_hpo.display.options_page > docs/options.md
"""

from __future__ import annotations

from raytune_hpo.options import Options, help_text
from raytune_hpo.schedulers import SCHEDULERS, scheduler_class
from raytune_hpo.search import SEARCHERS, searcher_class
from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, Hyperparameter


def options_page() -> str:
    """The page's text."""
    searchers = {name: searcher_class(name).Options for name in SEARCHERS}
    schedulers = {name: scheduler_class(name).Options for name in SCHEDULERS}
    parts = [
        "# Options",
        'In an experiment: `searcher={"name": "hyperopt", "n_initial": 10}`; on the command line: '
        "`--set searcher.n_initial=10`.\n"
        "This page is made from the records in the code, by `python -m raytune_hpo.display.options_page`.",
    ]
    for title, kinds in (("Searchers", searchers), ("Schedulers", schedulers)):
        parts.append(f"## {title}")
        parts += [_section(name, kind) for name, kind in kinds.items()]
    parts += [
        "## Hyperparameters of the trainer",
        'What the space of any `Task` may hold, searched or as a constant: `space={"lr": Float(1e-4, 1.0, "log"), '
        '"optimizer": "adamw"}`; what it\nleaves out has the default. Those of the model are named by its task '
        "([tasks.md](tasks.md)).",
        "```text\n" + "\n".join(map(_line, TRAINER_HYPERPARAMETERS.values())) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _section(name: str, kind: type[Options]) -> str:
    lines = help_text(kind)
    return f"**{name}**" + ("\n\n```text\n" + "\n".join(lines) + "\n```" if lines else ": none")


def _line(hyperparameter: Hyperparameter) -> str:
    others = ", ".join(f"{value} of {name}" for name, value in hyperparameter.default_by_optimizer.items())
    default = f"{hyperparameter.default!r}" + (f" ({others})" if others else "")
    return f"{hyperparameter.name} = {default}  {hyperparameter.expected}  {hyperparameter.doc}"


if __name__ == "__main__":
    print(options_page(), end="")
