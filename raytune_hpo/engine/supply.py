"""Which trial a free worker runs: one that the scheduler wants to go on, a new suggestion, a replicate of the best.

It decides and says so by events; what they move is the population's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from raytune_hpo.errors import ExperimentError, TrialError, blamed
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal import events
from raytune_hpo.journal.events import CheckpointRecord, Event
from raytune_hpo.journal.names import trial_name
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.replicates import FIRST_REPEAT, contenders, due
from raytune_hpo.results.trial import TrialState
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.search import Plan, Search
from raytune_hpo.space.configs import Config, copied
from raytune_hpo.states import Status

#: (record, trial, generation) -> record: gives a trial a copy of a donor's checkpoint; raises TrialError if that is
#: damaged or gone.
Adopt = Callable[[CheckpointRecord, str, int], CheckpointRecord]


class Supply:
    """Of one population. do: moves the population by an event, which becomes part of its step."""

    def __init__(
        self,
        experiment: ResolvedExperiment,
        search: Search,
        host: SchedulerHost,
        ledger: Ledger,
        adopt: Adopt,
        do: Callable[[Event], None],
    ) -> None:
        self._experiment, self._search, self._host = experiment, search, host
        self._ledger, self._adopt, self._do = ledger, adopt, do
        self._trials, self._live = ledger.trials, ledger.live
        self._search_blamed = blamed("searcher", experiment.searcher.name)

    def next_trial(self) -> TrialState | None:
        """The trial that a free worker should run now; None when there is none (yet)."""
        if self._ledger.stop_reason is not None or self._ledger.held:
            return None
        if self._host.scheduler.is_population:
            # Exploitation compares the members of a whole population: all are there from the start.
            while self._suggest() is not None:
                pass
        # (Running out of suggestions may set paused trials free.)
        chosen = self._chosen() or self._suggest() or self._chosen()
        if chosen is not None:
            return chosen
        if not self._live:
            return self._replicate()
        if any(t.status == Status.RUNNING for t in self._live.values()):
            return None
        # No scheduler may leave trials waiting for ever.
        return next((t for t in self._live.values() if not self._is_held(t)), None)

    def due(self) -> list[str]:
        """The trials that are to be trained again now, from another seed."""
        if not self._experiment.replicate or not self._ledger.exhausted or self._ledger.stop_reason or self._live:
            return []
        return due(self._trials.values(), self._experiment.objective, self._experiment.replicate)

    def _replicate(self) -> TrialState | None:
        """The first of a round of replicates; all of them are begun."""
        parents = self.due()
        if parents:
            self._do(
                events.Noticed(
                    f"training {', '.join(parents)} again, from other seeds: which is the best is not clear yet"
                )
            )
        again = {c.trial.id: len(c.again) for c in contenders(self._trials.values())}
        for parent in parents:
            config, repeat = copied(self._trials[parent].best_config), FIRST_REPEAT + again.get(parent, 0)
            self._do(
                events.Suggested(
                    trial_name(len(self._trials)),
                    config,
                    repeat=repeat,
                    origin=events.Origin.REPLICATE,
                    replicate_of=parent,
                )
            )
        return next(iter(self._live.values())) if parents else None

    def _chosen(self) -> TrialState | None:
        """The trial that the scheduler wants to run. Raises ExperimentError for one that does not wait."""
        open_ = (Status.PENDING, Status.PAUSED)
        waiting = (t for t in self._live.values() if t.status in open_ and not self._is_held(t))
        unknown = next((t for t in waiting if not self._host.knows(t.id)), None)
        if unknown is not None:
            return unknown
        chosen = self._host.choose()
        if chosen is None:
            return None
        trial = self._live.get(chosen)
        if trial is None or trial.held or trial.status not in (Status.PENDING, Status.PAUSED):
            name = self._experiment.scheduler.name
            raise ExperimentError("scheduler", name, f"chose {chosen}, which is neither pending nor paused")
        return trial

    def _is_held(self, trial: TrialState) -> bool:
        """By a person, or for whoever may have it still."""
        return trial.held or trial.id in self._host.held

    def _suggest(self) -> TrialState | None:
        """A new trial; None when there is none, for good or (the search waits) until more trials end."""
        if self._ledger.exhausted:
            return None
        config = None
        if self._ledger.searched < self._experiment.num_samples:
            trial_id = trial_name(len(self._trials))
            with self._search_blamed:
                # Where nothing is known that could be suggested, the trial's own code draws.
                plan = self._search.plan() if len(self._experiment.space) else Plan()
                config = self._search.suggest(trial_id) if len(self._experiment.space) else {}
            for text in self._search.take_notices():
                self._do(events.Noticed(text))
            if config is None and not self._search.exhausted and self._live:
                return None
        if config is None:
            self._do(events.Exhausted())
            return None
        self._do(self._planned(trial_id, config, plan))
        trial = self._trials[trial_id]
        return self._suggest() if trial.finished else trial  # the scheduler may have ended it at once

    def _planned(self, trial_id: str, suggested: Config, plan: Plan) -> events.Suggested:
        """A suggestion with what its plan adds to it."""
        limit = plan.epochs(self._experiment.max_epochs) if plan.share < 1 else None
        config, checkpoint = suggested, None
        if plan.parent is not None:
            parent = self._trials[plan.parent]
            config = parent.config
            # Its newest checkpoint may be damaged or not kept: the trial then starts from scratch.
            record = parent.resume_from
            if record is not None and record.epoch < (limit or self._experiment.max_epochs):
                with contextlib.suppress(TrialError):
                    checkpoint = self._adopt(record, trial_id, 0)
        return events.Suggested(
            trial_id,
            copied(config),
            limit=limit,
            parent=plan.parent,
            checkpoint=checkpoint,
            repeat=plan.repeat,
            note=copied(plan.note),
            suggested=copied(suggested) if config != suggested else None,
        )
