"""Where an export goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raytune_hpo.experiment.reopened import CodeChoice
from raytune_hpo.headway import UNSEEN, Headway


@dataclass(frozen=True)
class Place:
    """path: what is to be written, and not there yet. final: where it will lie when it is whole. code: as of `resume`,
    for an export that holds a model. headway: told how far the export is."""

    path: Path
    final: Path
    code: CodeChoice = "recorded"
    headway: Headway = UNSEEN
