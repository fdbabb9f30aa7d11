"""The population: the state of a run as a machine that is moved by journal events, and by nothing else.

Live, the driver asks it (`next_trial`, `report`, `failure`, ...); it decides, moves itself by the events
of that decision, and hands the events over to be journaled as one step. After a restart, `replay` moves
a fresh population by the recorded steps: the searcher is told what it suggested and observed, the
scheduler is called as it was called, and both come back exactly. Nothing here knows processes or files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from raytune_hpo.configs import Config
from raytune_hpo.errors import TrialError
from raytune_hpo.execution.judge import Judge
from raytune_hpo.execution.retention import doomed_checkpoints
from raytune_hpo.experiment import Experiment
from raytune_hpo.results import trial as states
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.trial import TrialState
from raytune_hpo.schedulers import POPULATION_BASED, ray_host
from raytune_hpo.schedulers.ray_host import Exploited, SchedulerHost
from raytune_hpo.search.algorithm import Plan, Search
from raytune_hpo.states import Outcome
from raytune_hpo.storage.checkpoints import CheckpointRecord
from raytune_hpo.storage.journal import Event, Step

#: Workers that a trial may lose, without a new report in between, before it counts as failed: a lost
#: machine is not the trial's fault, a trial that kills every worker it gets is.
LOSSES_ALLOWED = 3

HOST_STATUS = {
    states.PENDING: ray_host.PENDING,
    states.RUNNING: ray_host.RUNNING,
    states.PAUSED: ray_host.PAUSED,
}
Adopt = Callable[[CheckpointRecord, str, int], CheckpointRecord]


class Population:
    """Trials, searcher and scheduler of one run.

    adopt: gives a trial a copy of a donor's checkpoint, (record, trial, generation) -> record; raises
    TrialError if that is damaged or gone.
    """

    def __init__(self, experiment: Experiment, search: Search, host: SchedulerHost, adopt: Adopt) -> None:
        self.experiment = experiment
        self.search = search
        self.host = host
        self.adopt = adopt
        self.ledger = Ledger(*experiment.objective)
        self.metric = self.ledger.metric
        self.judge = Judge(experiment, host)
        self.trials, self.live = self.ledger.trials, self.ledger.live
        self.mismatches = 0  # replayed decisions that came out otherwise than recorded
        self.doomed: list[CheckpointRecord] = []  # checkpoints to delete, once the step is journaled
        self._ranking: list[TrialState] = []
        self._step: list[Event] = []

    # Asked by the driver --------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        return self.ledger.exhausted and not self.live

    def take_step(self) -> list[Event]:
        """The events since the last call, to be journaled as one step."""
        step, self._step = self._step, []
        return step

    def open_session(self, **description: Any) -> None:
        self.do({"event": "session", "number": self.ledger.sessions + 1, **description})
        self._end_waiting()  # a run that was stopped ends those that ran when its process died

    def close_session(self, status: str) -> None:
        self.do({"event": "close", "status": status})

    def next_trial(self) -> TrialState | None:
        """The trial that a free worker should run now; None when there is none (yet)."""
        if self.ledger.stop_reason is not None or self.ledger.held:
            return None
        if self.experiment.option("scheduler")[0] in POPULATION_BASED:
            # Exploitation compares the members of a whole population: all are there from the start.
            while self._suggest() is not None:
                pass
        chosen = self.host.choose()
        if chosen is not None:
            return self.trials[chosen]
        suggested = self._suggest()
        if suggested is not None:
            return suggested
        chosen = self.host.choose()  # running out of suggestions may have set paused trials free
        if chosen is not None:
            return self.trials[chosen]
        if self.live and not any(t.status == states.RUNNING for t in self.live.values()):
            return next(iter(self.live.values()))  # no scheduler may leave trials waiting for ever
        return None

    def _suggest(self) -> TrialState | None:
        """A new trial; None when there is none, for good or (the search waits) until more trials end."""
        if self.ledger.exhausted:
            return None
        number, config = len(self.trials), None
        if number < self.experiment.samples:
            trial_id = f"t{number:05d}"
            plan = self.search.plan()
            config = self.search.suggest(trial_id)
            if config is None and not self.search.exhausted and self.live:
                return None
        if config is None:
            self.do({"event": "exhausted"})
            return None
        self.do({"event": "suggest", "trial": trial_id, "config": config, **self._planned(trial_id, config, plan)})
        return self.trials[trial_id]

    def _planned(self, trial_id: str, config: Config, plan: Plan) -> Event:
        """What a plan adds to the suggest event; nothing where there is nothing out of the ordinary."""
        event: Event = {}
        if plan.share < 1:
            event["limit"] = plan.epochs(self.experiment.max_epochs)
        if plan.parent is not None:
            parent = self.trials[plan.parent]
            event["parent"] = parent.id
            if parent.config != config:
                event.update(config=parent.config, suggested=config)
            # Its newest checkpoint may be damaged or not kept: the trial then starts from scratch.
            record = parent.resume_from
            if record is not None and record.epoch < event.get("limit", self.experiment.max_epochs):
                with contextlib.suppress(TrialError):
                    event["checkpoint"] = self.adopt(record, trial_id, 0).to_json()
        if plan.repeat is not None:
            event["repeat"] = plan.repeat
        if plan.note is not None:
            event["note"] = plan.note
        return event

    def next_decision(self, trial: TrialState) -> int:
        """The next epoch at whose report the scheduler may decide anything but to continue."""
        scheduler = self.host.next_decision(trial.id, trial.epoch)
        return max(trial.epoch + 1, int(min(scheduler, self.judge.last_epoch(trial))))

    def started(self, trial: TrialState, epoch: int, host: str) -> None:
        self.do({"event": "start", "trial": trial.id, "epoch": epoch, "host": host})

    def saved(self, record: CheckpointRecord) -> None:
        self.do({"event": "checkpoint", **record.to_json()})

    def report(self, trial: TrialState, epoch: int, metrics: Mapping[str, Any], seconds: float) -> str:
        """Take a report and decide: "continue", "pause" or "end".

        A report that is known already (the trial repeats epochs since its last checkpoint) changes
        nothing. Raises TrialError for a report without the metric.
        """
        if epoch <= trial.epoch:
            return "continue"
        value = metrics.get(self.metric)
        if not isinstance(value, int | float) or isinstance(value, bool):
            reported = ", ".join(sorted(k for k in metrics)) or "nothing"
            raise TrialError(f"the report has no number named {self.metric!r}; it has: {reported}")
        event: Event = {
            "event": "result",
            "trial": trial.id,
            "generation": trial.generation,
            "epoch": epoch,
            "metrics": dict(metrics),
            "seconds": round(seconds, 4),
        }
        self._step.append(event)
        self._apply(event)
        decision, end = self.judge.judge(trial, self.ledger.stop_reason)
        event["decision"] = decision
        if decision == "continue" and self.host.noted is not None:
            event["note"] = self.host.noted
        self._follow(trial, decision)
        for effect in self.host.take_effects():
            self._do_effect(effect)
        if end is not None:
            self.do({"event": "end", "trial": trial.id, **end})
        reached = self.judge.run_is_over(self.ledger)
        if reached is not None:
            self.stop(reached)
        if trial.finished:
            return "end"
        return "continue" if trial.status == states.RUNNING else "pause"

    def trial_returned(self, trial: TrialState) -> None:
        """The trainable returned before max_epochs."""
        if trial.epoch == 0:
            self.failure(trial, "the trainable returned without a report", retry=False)
        else:
            self.do({"event": "end", "trial": trial.id, "status": states.COMPLETED, "reason": "returned"})

    def failure(
        self,
        trial: TrialState,
        error: str,
        *,
        file: str | None = None,
        lost: float | None = None,
        retry: bool = True,
    ) -> None:
        """A trial raised, or its worker died: lost is then its blame, see `pool.Lost`."""
        event: Event = {"trial": trial.id, "error": error, "file": file}
        again = trial.failures < self.experiment.max_failures if lost is None else trial.losses + lost <= LOSSES_ALLOWED
        if retry and again:
            blame = {} if lost is None or lost == 1 else {"blame": lost}
            self.do({"event": "retry", "lost_worker": lost is not None, "epoch": trial.epoch, **blame, **event})
            self._end_waiting()
        else:
            self.do({"event": "end", "status": states.FAILED, "reason": "error", **event})

    def checkpoint_unreadable(self, record: CheckpointRecord) -> None:
        """A checkpoint turned out damaged or gone: fall back to the one before it."""
        self.do({"event": "lost_checkpoint", "trial": record.trial, "path": record.path})
        self.doomed.append(record)

    def stop(self, reason: str) -> None:
        """Accept no more work: running trials end at their next report, the others now."""
        if self.ledger.stop_reason is None:
            self.do({"event": "stop", "reason": reason})
            self._end_waiting()

    def _end_waiting(self) -> None:
        """In a stopped run, end the trials that wait for a worker: they will get none."""
        reason = self.ledger.stop_reason
        for trial in list(self.live.values()) if reason is not None else ():
            if trial.status != states.RUNNING and not trial.finished:
                self.do({"event": "end", "trial": trial.id, "status": states.STOPPED, "reason": reason})

    # Following ---------------------------------------------------------------------------------

    def _follow(self, trial: TrialState, decision: str) -> None:
        self.ledger.decided(trial, decision)
        self._sync_status(trial.id)
        if decision in ("pause", "exploited"):
            self.host.trials[trial.id].config = trial.config  # until the perturb event says otherwise
        elif decision in ("complete", "plateau", "halt"):
            self.host.trials[trial.id].last_result = self.judge.scheduler_result(trial)

    def _do_effect(self, effect: ray_host.Effect) -> None:
        trial = self.trials[effect.trial_id]
        if isinstance(effect, Exploited):
            self.perturb(trial, effect.donor, effect.checkpoint, effect.config, effect.reason)
        else:
            reason, _ = self.experiment.option("scheduler")
            self.do({"event": "end", "trial": trial.id, "status": states.STOPPED, "reason": reason})

    def perturb(
        self,
        trial: TrialState,
        donor: str,
        record: CheckpointRecord,
        config: Config,
        reason: str,
        by: str = "scheduler",
    ) -> bool:
        """Let a trial go on from `record` of `donor` with `config`. False: it is damaged or gone, nothing changed."""
        try:
            adopted = self.adopt(record, trial.id, trial.generation + 1)
        except TrialError:
            self.checkpoint_unreadable(record)
            return False  # the trial goes on from its own, with its own config
        self.do(
            {
                "event": "perturb",
                "trial": trial.id,
                "donor": donor,
                "donor_epoch": record.epoch,
                "donor_generation": record.generation,
                "epoch": trial.epoch,
                "generation": trial.generation + 1,
                "old_config": trial.config,
                "new_config": config,
                "checkpoint": adopted.to_json(),
                "reason": reason,
                "by": by,
            }
        )
        return True

    # Moving -------------------------------------------------------------------------------------

    def do(self, event: Event) -> None:
        """Move by an event decided now, which becomes part of the step."""
        self._step.append(event)
        self._apply(event)
        for effect in self.host.take_effects():
            self._do_effect(effect)

    def replay(self, step: Step) -> None:
        """Move by a recorded step."""
        self.ledger.seconds = step["t"]
        for event in step["events"]:
            if event["event"] == "suggest":
                self.search.replay(event["trial"], event.get("suggested", event["config"]))
            self._apply(event)
            if event["event"] == "result":
                self._replay_decision(self.trials[event["trial"]], event["decision"])
            self.host.take_effects()  # what followed from it is recorded too
        self.doomed.clear()

    def _replay_decision(self, trial: TrialState, decision: str) -> None:
        if not self.judge.replay(trial, decision):
            self.mismatches += 1
        self._follow(trial, decision)

    def _apply(self, event: Event) -> None:
        """Move the ledger, then the scheduler, the searcher and what is kept on disk along with it."""
        self.ledger.apply(event)
        kind = event["event"]
        if kind == "exhausted":
            self.host.exhausted()
        elif kind == "session":
            self.host.has_room = event.get("room", False)
        if "trial" not in event:
            for trial_id in self.live:
                self._sync_status(trial_id)
            return
        trial = self.trials[event["trial"]]
        if kind == "suggest":
            self.judge.add(trial)
            self.host.add(trial.id, trial.config)
        elif kind in ("perturb", "narrow"):
            self.host.trials[trial.id].config = trial.config
            if event.get("by") == "hand":
                self.host.intervened(trial.id)
        elif kind == "lost_checkpoint":
            self.host.forget(event["path"])
        elif kind == "result":
            self.search.report(trial.id, trial.epoch, trial.metrics[self.metric])
        elif kind == "end":
            failed = not trial.eligible
            self.judge.forget(trial)
            self.host.end(trial.id, failed=failed)
            self.search.observe(trial.id, Outcome(trial.status), None if failed else trial.best, trial.epoch)
        self._sync_status(trial.id)
        if kind in ("checkpoint", "perturb", "end"):
            pinned = {record.path for record in self.host.pinned()}
            rule = self.experiment.checkpointing
            self.doomed += doomed_checkpoints(trial, self._ranking, rule, self.ledger.mode, pinned)

    def _sync_status(self, trial_id: str) -> None:
        hosted = self.host.trials.get(trial_id)
        status = HOST_STATUS.get(self.trials[trial_id].status)
        if hosted is not None and status is not None and not hosted.is_finished():
            hosted.status = status
