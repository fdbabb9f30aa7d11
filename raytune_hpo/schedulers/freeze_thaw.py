"""FreezeThaw: trials are paused at every rung, and a model says which of them go on.

Swersky, Snoek & Adams, "Freeze-Thaw Bayesian Optimization" (2014, arXiv:1406.3896) keep a basket of paused trainings
and let a model of learning curves choose which to continue. Here the model is that of the search
(`search.config_model`: a Gaussian process over configs and epochs, which learns how much an early epoch is worth), and
what a paused trial is chosen by is its expected improvement at max_epochs, as in DyHPO (Wistuba, Kadra & Grabocka 2022,
arXiv:2202.09774).

How many go on, and so how many begin, is no matter of the model: of the trials that have reached a rung, one in
`reduction_factor` is let through, as in ASHA (Li et al. 2020), whose rungs these are; but a paused trial can be chosen
at any later time, when more is known. (Left out, since it was worse on benchmarks/search_quality.py: to begin a new
trial whenever its expected improvement is the highest.)

- Until FIRST trials have shown something, the best at a rung goes on.
- The first rung rises where early epochs turn out to say little (`rungs.first_telling`).
- Of more than `frozen` paused trials, the one of which least is expected is stopped: each keeps a checkpoint.
- When the search has no more to suggest, those go on that are due; the rest are stopped.
- A function that saves no checkpoints begins anew when it goes on. As soon as one has, no trial is paused any more: at
  each rung it goes on at once, where it is the one that is due, or ends.

Everything follows from what was reported, in its order: a replayed journal makes it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.one_thread import one_thread
from raytune_hpo.options import option
from raytune_hpo.schedulers.host import HostTrial, SchedulerHost
from raytune_hpo.schedulers.rungs import FirstRung, GraceOptions
from raytune_hpo.schedulers.scheduler import Answer, Scheduler, SchedulerOptions, Standing
from raytune_hpo.search.config_model import ConfigModel
from raytune_hpo.search.fidelity import expected_scores, levels
from raytune_hpo.search.history import History, Suggestion
from raytune_hpo.seeding import generator
from raytune_hpo.space import Vector
from raytune_hpo.states import Outcome

FIRST = 10
MARGIN = 0.01  # of an improvement, in standard deviations of the targets, as bayesopt's xi


@dataclass(frozen=True)
class FreezeThawOptions(GraceOptions):
    reduction_factor: float = option(2, low=1, doc="1 in this many goes on from a rung")
    frozen: int = option(100, low=1, high=100_000, doc="paused trials at most, each with a checkpoint")


class FreezeThaw(Scheduler):
    """Trials wait at rungs, and go on by their expected improvement at max_epochs."""

    name = "freeze_thaw"
    Options = FreezeThawOptions
    plans_budgets = True
    options: FreezeThawOptions

    @classmethod
    def expected_epochs(cls, options: SchedulerOptions | None, max_epochs: int) -> float:
        assert isinstance(options, FreezeThawOptions)
        epochs, before, share = 0.0, 0, 1.0
        for rung in rungs_of(options, max_epochs):
            epochs += share * (rung - before)
            before, share = rung, share / options.reduction_factor
        return epochs

    def prepare(self) -> None:
        self.rungs = rungs_of(self.options, self.max_epochs)
        self._history = History(self.rungs)
        self._model = ConfigModel(self.space, self.rungs, "gp", self.seed, None)
        self._first = FirstRung(self.rungs, moves=self.options.grace_period is None)
        self._paused_at: dict[str, int] = {}  # trial -> the rung at which it was paused last
        #: by rung: trials that were ever paused at it, and those of them that ended there
        self._passed, self._dropped = dict.fromkeys(self.rungs, 0), dict.fromkeys(self.rungs, 0)
        self._ending: set[str] = set()  # those that were stopped at a rung
        self._exhausted = False
        self._ranking: tuple[int, dict[str, float]] = (-1, {})  # a cache: (things seen, trial -> improvement)

    # Told of trials -----------------------------------------------------------------------------------

    def on_trial_add(self, host: SchedulerHost, trial: HostTrial) -> None:
        if trial.trial_id not in self._history.position:  # one that is tried again is there already
            self._history.add(trial.trial_id, trial.config, self.space.to_unit(trial.config))

    def on_trial_result(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> str:
        epoch, value = int(result["epoch"]), float(result[self.objective.metric])
        loss = self.objective.loss(value) if math.isfinite(value) else math.nan
        self._history.report(trial.trial_id, epoch, loss)
        if epoch in self._passed and self._first.now <= epoch < self.max_epochs:
            self._passed[epoch] += 1
            self._paused_at[trial.trial_id] = epoch
            if not host.keeps_paused:
                return self._decided_now(host, trial, epoch)
            self._thin(host)
            return Answer.STOP if self._finish(host, trial) else Answer.PAUSE
        news = self._first.take_news()
        if news is not None:
            host.note(news)
        return Answer.CONTINUE

    def _decided_now(self, host: SchedulerHost, trial: HostTrial, epoch: int) -> Answer:
        """Of a trial that would begin anew if it were paused: it goes on if it is the one that is due, or ends."""
        paused = [t for t in host.get_live_trials() if t.status == Standing.PAUSED]
        if self._due([*paused, trial]) is trial:
            return Answer.CONTINUE
        self._dropped[epoch] += 1
        self._ending.add(trial.trial_id)
        return Answer.STOP

    def on_trial_complete(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> None:
        if trial.trial_id in self._ending:
            self._over(trial, Outcome.STOPPED, result.get("epoch", 0))
            self._finish(host, trial)
            return
        self._first.ended(self._over(trial, Outcome.COMPLETED, self.max_epochs))
        self._finish(host, trial)

    def on_trial_error(self, host: SchedulerHost, trial: HostTrial) -> None:
        self._over(trial, Outcome.FAILED, 0)
        self._finish(host, trial)

    def on_trial_remove(self, host: SchedulerHost, trial: HostTrial) -> None:
        if trial.status == Standing.PAUSED and trial.trial_id in self._paused_at:
            self._dropped[self._paused_at[trial.trial_id]] += 1
        self._over(trial, Outcome.STOPPED, 0)
        self._finish(host, trial)

    def new_era(self, max_epochs: int) -> None:
        self._exhausted = False

    def search_exhausted(self, host: SchedulerHost) -> None:
        self._exhausted = True
        self._finish(host, None)

    def _over(self, trial: HostTrial, outcome: Outcome, epoch: int) -> Suggestion:
        """epoch: up to which its best value stands."""
        suggestion = self._history[trial.trial_id]
        if not suggestion.pending:  # it was tried again: what was learned of it is void
            self._model.forget()
            self._ranking = (-1, {})
        loss = suggestion.best if outcome.eligible and math.isfinite(suggestion.best) else math.nan
        if outcome != Outcome.STOPPED or not math.isnan(loss):  # one that was ended before it began says nothing
            self._history.end(trial.trial_id, outcome, loss, epoch)
        return suggestion

    # Who goes on --------------------------------------------------------------------------------------

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        return min((r for r in self.rungs if r > epoch and r >= self._first.now), default=math.inf)

    def choose_trial_to_run(self, host: SchedulerHost) -> HostTrial | None:
        live = host.get_live_trials()
        fresh = next((t for t in live if t.status == Standing.PENDING), None)
        return fresh if fresh is not None else self._due([t for t in live if t.status == Standing.PAUSED])

    def _due(self, paused: list[HostTrial]) -> HostTrial | None:
        """Of all paused trials the one that is to go on; the highest rung at which one is due comes first."""
        at: dict[int, list[HostTrial]] = {}
        for trial in paused:
            if trial.trial_id in self._paused_at:
                at.setdefault(self._paused_at[trial.trial_id], []).append(trial)
        for rung in sorted(at, reverse=True):
            let_through = self._passed[rung] - self._dropped[rung] - len(at[rung])
            if self._passed[rung] >= self.options.reduction_factor * (let_through + 1):
                merits = self._merits(paused)
                return max(at[rung], key=lambda t: merits[t.trial_id])
        return None

    def _merits(self, paused: list[HostTrial]) -> dict[str, float]:
        """Of each paused trial, what is expected of it: comparable at one rung."""
        seen = len(self._history.shown)
        if self._ranking[0] != seen or any(t.trial_id not in self._ranking[1] for t in paused):
            waiting = [self._history[t.trial_id] for t in paused]
            merits: Vector = -expected_scores(waiting, len(self.rungs))
            if len(self._history.known()) >= FIRST:
                with one_thread():
                    belief = self._model.belief(self._history, (), generator(self.seed, "freeze-thaw", seen))
                    mean, deviation = belief.moments(self._model.codes(waiting))
                merits = improvement(mean[0], deviation[0], belief.best + MARGIN)
            self._ranking = (seen, {s.trial_id: float(m) for s, m in zip(waiting, merits, strict=True)})
        return self._ranking[1]

    # Who does not -------------------------------------------------------------------------------------

    def _thin(self, host: SchedulerHost) -> None:
        """Stop the paused trials that are too many, those first of which least is expected."""
        paused = {t.trial_id: t for t in host.get_live_trials() if t.status == Standing.PAUSED}
        waiting = [self._history[t] for t in paused]
        for _ in range(len(waiting) - self.options.frozen):
            worst = waiting.pop(int(np.argmax(expected_scores(waiting, len(self.rungs)))))
            host.stop_trial(paused[worst.trial_id])

    def _finish(self, host: SchedulerHost, leaving: HostTrial | None) -> bool:
        """Where nothing more is suggested, nothing runs and nothing is due, the paused trials have nothing to wait for:
        they are stopped. leaving: the trial that is being paused or has ended. Whether it is over too."""
        if not self._exhausted:
            return False
        others = [t for t in host.get_live_trials() if t is not leaving and not t.is_finished()]
        if any(t.status in (Standing.PENDING, Standing.RUNNING) for t in others):
            return False
        being_paused = leaving is not None and self._history[leaving.trial_id].pending
        if self._due([*others, leaving] if leaving is not None and being_paused else others) is not None:
            return False
        for trial in others:
            host.stop_trial(trial)
        return True


def rungs_of(options: FreezeThawOptions, max_epochs: int) -> tuple[int, ...]:
    """The grace period and the levels well above it, rising to max_epochs."""
    grace = options.first_rung(max_epochs)
    if 1.5 * grace > max_epochs:
        return (*(r for r in (grace,) if r < max_epochs), max_epochs)
    return (*(r for r in (grace,) if r < max_epochs), *(r for r in levels(max_epochs) if r >= 1.5 * grace))


def improvement(mean: Vector, deviation: Vector, best: float) -> Vector:
    """The expected improvement [n] over `best` (Mockus 1978) of normal beliefs."""
    from scipy.special import ndtr

    z = (mean - best) / deviation
    found: Vector = (mean - best) * ndtr(z) + deviation * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return found
