"""The errors of this package, as a tree one can draw.

RaytuneHpoError
├── ExperimentError   the whole run is wrong; nothing was started (exit code 2)
└── TrialError        ends one trial; the rest of the run goes on
"""

from __future__ import annotations


class RaytuneHpoError(Exception):
    """Base of every error that this package raises on purpose."""


class ExperimentError(RaytuneHpoError):
    """An experiment, a command line or a run directory is wrong.

    The message is one line: the field, the value found, and what would be right.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = value
        self.expected = expected
        shown = " ".join(repr(value).split())
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(" ".join(f"{field} = {shown}: {expected}".split()))

    def __reduce__(self) -> tuple[type[ExperimentError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.expected)


class TrialError(RaytuneHpoError):
    """A trial cannot go on (its report lacks the metric, its checkpoint is unreadable, ...)."""
