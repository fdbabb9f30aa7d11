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
from raytune_hpo.states import Status


class Retention:
    """Told of trials whose checkpoints, or whose ends, have changed.

    Unfinished: the `keep` newest, the best one and the pinned ones stay. Finished: the best and the last stay if the
    trial is among the best `keep_trials`. Failed: the newest stays of the `keep_trials` that failed last, for a retry
    to go on from; none of a diverged one.
    """

    def __init__(self, rule: Checkpointing, objective: Objective) -> None:
        self.rule, self.objective = rule, objective
        self._ranking: list[TrialState] = []  # the finished trials that keep checkpoints, best first
        self._failed: list[TrialState] = []  # the failed ones that do, the last one last

    def reopened(self, trial: TrialState) -> None:
        """A trial that had ended goes on."""
        for kept in (self._failed, self._ranking):
            if trial in kept:
                kept.remove(trial)

    def doomed(self, trial: TrialState, pinned: Collection[str]) -> list[CheckpointRecord]:
        """Take from `trial`, and from those that it pushes out, the checkpoints that are not kept."""
        best, last = trial.best_checkpoint(self.objective), trial.resume_from
        keep = {best.path} if best is not None else set()
        if not trial.finished:
            keep |= {record.path for record in trial.checkpoints[-self.rule.keep :]}
        elif trial.status == Status.FAILED:
            keep = {last.path} if last is not None else set()
        elif not trial.eligible:
            keep = set()
        elif trial.checkpoints:
            keep.add(trial.checkpoints[-1].path)
        doomed = _take(trial, keep | set(pinned))
        if trial.finished and self.rule.keep_trials is not None and trial.checkpoints:
            kept = self._failed if trial.status == Status.FAILED else self._ranking
            if trial not in kept:
                if kept is self._failed:
                    kept.append(trial)
                else:
                    bisect.insort(kept, trial, key=lambda t: t.rank(self.objective))
            while len(kept) > self.rule.keep_trials:
                doomed += _take(kept.pop(0 if kept is self._failed else -1), set(pinned))
        return doomed


def _take(trial: TrialState, keep: Collection[str]) -> list[CheckpointRecord]:
    doomed = [record for record in trial.checkpoints if record.path not in keep]
    trial.checkpoints = [record for record in trial.checkpoints if record.path in keep]
    for record in doomed:
        trial.scores.pop(record.path, None)
    return doomed
