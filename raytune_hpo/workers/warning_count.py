"""Counts the warnings of a trial's code, so that they go home with its reports, whatever worker it runs in.

Python shows a warning once for each place, in a process: the second trial there would seem to have none. Here each is
counted, and printed where the trial's output goes when it is the trial's first.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from raytune_hpo.journal.events import Warned
from raytune_hpo.results.ledger import WarningKey, warning_key

#: Distinct warnings of a trial that are told of: the text of some has a number in it that is another each time.
MOST = 20
LONGEST = 300
#: What no user can do anything about: (category, how its text begins), with the reason.
NOISE: tuple[tuple[str, str], ...] = (
    # Said of every nn.TransformerEncoder whose mask it would be faster without, by torch itself of its own choice.
    ("UserWarning", "The PyTorch API of nested tensors is in prototype stage"),
    # Said by torch where a module of CUDA's is missing on a machine without a GPU.
    ("UserWarning", "CUDA initialization: "),
)

Key = tuple[str, str, str]


class WarningCount:
    """Of a worker. is_own: whether the thread that warns is one of the trials'. whole: the process is a worker's, and
    every warning in it a trial's; otherwise warnings are as they were, as long as no trial runs. log: takes what a
    trial warned of where people have seen the same of another trial."""

    def __init__(self, is_own: Callable[[str], bool], log: Callable[[str], None], *, whole: bool) -> None:
        self._is_own, self._log, self._whole = is_own, log, whole
        self._shown_before: set[WarningKey] = set()
        self._trials: Sequence[str] = ()
        self._counts: dict[str, dict[Key, int]] = {}
        self._told: dict[str, dict[Key, int]] = {}
        self._original: Any = warnings.showwarning
        self._show: Any = None
        if whole:
            self._install()

    def begin(self, *trials: str) -> None:
        """What is warned of from now on is these trials'; nobody's, if there are none."""
        self._trials = trials
        if self._whole:
            warnings.showwarning = self._hook  # a trial before may have put another there
        if not self._whole and trials and self._show is None:
            self._install()
        elif not self._whole and not trials and self._show is not None:
            self._uninstall()

    def take(self, *, over: Sequence[str] = ()) -> tuple[Warned, ...]:
        """What has not been told: every distinct warning at once; how often it came, when its trial is over."""
        found = []
        for trial, counts in self._counts.items():
            told = self._told.setdefault(trial, {})
            for (category, text, where), count in counts.items():
                before = told.get((category, text, where), 0)
                if before == 0 or (trial in over and before < count):
                    told[category, text, where] = count
                    found.append(Warned(trial, category, text, where, count - before))
        for trial in over:
            self._counts.pop(trial, None)
            self._told.pop(trial, None)
        return tuple(found)

    def _install(self) -> None:
        self._show = warnings.showwarning
        self._hook = self._shown
        warnings.showwarning = self._hook
        # Behind all other filters: what those say nothing of is shown every time.
        before = len(warnings.filters)
        warnings.simplefilter("always", append=True)
        self._filters = warnings.filters[before:]

    def _uninstall(self) -> None:
        warnings.showwarning = self._show  # whatever a trial has put in its place
        self._show = None
        for one in self._filters:
            if one in warnings.filters:
                warnings.filters.remove(one)  # type: ignore[attr-defined]
        with warnings.catch_warnings():  # which lets Python know that they have changed
            pass

    def _shown(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        own = [trial for trial in self._trials if self._is_own(trial)] if file is None else []
        if not own:
            # (After the last trial too, for whoever has taken the hook for Python's own.)
            (self._show or self._original)(message, category, filename, lineno, file, line)
            return
        text = re.sub(r"\s+", " ", str(message)).strip()[:LONGEST]
        name = category.__name__
        if any(name == noisy and text.startswith(begins) for noisy, begins in NOISE):
            return
        key = (name, text, f"{Path(filename).name}:{lineno}")
        first = False
        for trial in own:
            counts = self._counts.setdefault(trial, {})
            first |= key not in counts
            if key in counts or len(counts) < MOST:
                counts[key] = counts.get(key, 0) + 1
        if not first:
            return
        kind = warning_key(*key)
        if kind in self._shown_before and not self._whole:
            self._log(warnings.formatwarning(message, category, filename, lineno, line))
        else:
            self._shown_before.add(kind)
            self._show(message, category, filename, lineno, file, line)
