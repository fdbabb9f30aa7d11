"""What a reader answers: the trials of another run as it names and writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raytune_hpo.errors import ExperimentError


@dataclass(frozen=True)
class Record:
    """A trial. values: name -> value, nested names dotted; curve: epoch, from 1 -> the metric, NaN where it was not
    finite."""

    values: dict[str, Any]
    curve: dict[int, float]


@dataclass
class Records:
    """source: as it was named. without: trials that cannot be evidence, why -> how many. remarks: what people should
    know. reversed: their values are better the other way round than this run's."""

    source: str
    trials: list[Record] = field(default_factory=list)
    without: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    reversed: bool = False


def no_metric(source: str, metric: str, there: Iterable[str]) -> ExperimentError:
    known = sorted(set(there))
    listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "") or "no number at all"
    return ExperimentError("--metric", metric, f"is reported by no trial of {source}, which has {listed}")


def unreadable(source: str, error: object) -> ExperimentError:
    text = " ".join(str(error).split())
    return ExperimentError("--from", source, f"cannot be read: {text[:200] or type(error).__name__}")
