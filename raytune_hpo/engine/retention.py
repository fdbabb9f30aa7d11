"""Which checkpoints of a run may go: bounded per unfinished trial and over all finished ones.

(Ray Tune's num_to_keep is per trial, so a thousand trials fill a disk: ray#23688, #30506.)
"""

from __future__ import annotations

import bisect
from collections.abc import Collection

from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.objective import Objective
from raytune_hpo.results.trial import TrialState
from raytune_hpo.settings import Checkpointing


def doomed_checkpoints(
    trial: TrialState, ranking: list[TrialState], rule: Checkpointing, objective: Objective, pinned: Collection[str]
) -> list[CheckpointRecord]:
    """Take from `trial`, and from trials it pushes out of `ranking`, the checkpoints that are not kept.

    Unfinished: the `keep` newest, the best one and the pinned ones stay. Finished: the best and the
    last stay if the trial is among the best `keep_trials`; none of a failed or diverged one.
    ranking: the finished trials that keep checkpoints, best first; changed in place.
    """
    best = trial.best_checkpoint(objective)
    keep = {best.path} if best is not None else set()
    if not trial.finished:
        keep |= {record.path for record in trial.checkpoints[-rule.keep :]}
    elif not trial.eligible:
        keep = set()
    elif trial.checkpoints:
        keep.add(trial.checkpoints[-1].path)
    doomed = _take(trial, keep | set(pinned))
    if trial.finished and rule.keep_trials is not None and trial.checkpoints and trial not in ranking:
        bisect.insort(ranking, trial, key=lambda t: t.rank(objective))
        while len(ranking) > rule.keep_trials:
            doomed += _take(ranking.pop(), set(pinned))
    return doomed


def _take(trial: TrialState, keep: Collection[str]) -> list[CheckpointRecord]:
    doomed = [record for record in trial.checkpoints if record.path not in keep]
    trial.checkpoints = [record for record in trial.checkpoints if record.path in keep]
    for record in doomed:
        trial.scores.pop(record.path, None)
    return doomed
