"""Ray Tune's schedulers, each corrected where Ray 2.60 is wrong, and seeded.

Every subclass says which fault it corrects. The time attribute is the epoch throughout. This is the only module that
knows the internals of Ray's schedulers, `ray_alone` besides what they import; tests/contracts/test_schedulers.py fails
loudly when Ray changes them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.objective import Objective
from raytune_hpo.schedulers.explore import explore
from raytune_hpo.schedulers.host import HostTrial, SchedulerHost
from raytune_hpo.schedulers.ray_alone import classes
from raytune_hpo.schedulers.scheduler import Answer
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config

TIME = "epoch"

RAYS = classes()
AsyncHyperBandScheduler: Any = RAYS.asha
HyperBandScheduler: Any = RAYS.hyperband
MedianStoppingRule: Any = RAYS.median
PopulationBasedTraining: Any = RAYS.pbt


class Asha(AsyncHyperBandScheduler):  # type: ignore[misc]  # ray has no types here
    """ASHA (Li et al. 2020, arXiv:1810.05934).

    Corrects: the bracket is drawn from NumPy's global generator; a failed trial stays in the books; a trial that
    goes on from another's checkpoint is entered in the rungs before its first report, with a later epoch's metric.
    """

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(time_attr=TIME, **options)
        self._seed = seed
        self._added = 0
        self.judged_from = 0  # rungs at earlier epochs are passed over

    def rungs(self) -> tuple[int, ...]:
        """The epochs of the longest ladder, rising, and the last one of all."""
        epochs = {math.ceil(milestone) for milestone, _ in self._brackets[0]._rungs}
        return (*sorted(e for e in epochs if e < self._max_t), self._max_t)

    def on_trial_add(self, tune_controller: SchedulerHost, trial: HostTrial) -> None:
        sizes = np.array([len(b._rungs) for b in self._brackets], dtype=float)
        weights = np.exp(sizes - sizes.max())
        rng = generator(self._seed, "asha-bracket", self._added)
        self._added += 1
        self._trial_info[trial.trial_id] = self._brackets[int(rng.choice(len(sizes), p=weights / weights.sum()))]

    def on_trial_error(self, tune_controller: SchedulerHost, trial: HostTrial) -> None:
        self._trial_info.pop(trial.trial_id, None)

    def on_trial_result(self, tune_controller: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> str:
        if self._is_judged(trial, result[TIME]) or result[TIME] >= self._max_t:
            return str(super().on_trial_result(tune_controller, trial, result))
        return Answer.CONTINUE

    def on_trial_complete(self, tune_controller: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> None:
        if result and self._is_judged(trial, result[TIME]):
            super().on_trial_complete(tune_controller, trial, result)
        else:
            self.on_trial_remove(tune_controller, trial)

    def _is_judged(self, trial: HostTrial, epoch: int) -> bool:
        """Whether `epoch` is at a rung that the trial is not entered in yet."""
        if epoch < self.judged_from:
            return False
        rungs = self._trial_info[trial.trial_id]._rungs
        return any(math.ceil(milestone) == epoch and trial.trial_id not in entered for milestone, entered in rungs)

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        rungs = [math.ceil(milestone) for milestone, _ in self._trial_info[trial.trial_id]._rungs]
        return min((rung for rung in rungs if rung > epoch and rung >= self.judged_from), default=math.inf)


class HyperBand(HyperBandScheduler):  # type: ignore[misc]
    """Hyperband (Li et al. 2018, arXiv:1603.06560), synchronous.

    Corrects: `is_being_processed` is set at a bracket's first halving and never cleared, so that the
    end of the last running trial of a later rung is not noticed and the paused ones wait for ever
    (the deadlock). A bracket is halved as soon as the trials it has so far are done, even when it is
    not full yet: the first trial then runs alone up the rungs. A bracket whose trials end takes others
    in their place: with few workers the first one, which never stops a trial, takes them all.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(time_attr=TIME, **options)
        self._exhausted = False

    def on_trial_add(self, tune_controller: SchedulerHost, trial: HostTrial) -> None:
        bracket = self._state["bracket"]
        if bracket is not None and self._was_full(bracket):
            self._state["bracket"] = None  # Ray's method makes the next one
        super().on_trial_add(tune_controller, trial)

    @staticmethod
    def _was_full(bracket: Any) -> bool:
        return bool(len(bracket._all_trials) >= bracket._n0)

    def _process_bracket(self, tune_controller: SchedulerHost, bracket: Any) -> str:
        if not self._was_full(bracket) and not self._exhausted:
            return Answer.PAUSE
        try:
            return str(super()._process_bracket(tune_controller, bracket))
        finally:
            bracket.is_being_processed = False

    def on_trial_remove(self, tune_controller: SchedulerHost, trial: HostTrial) -> None:
        bracket, _ = self._trial_info[trial]
        bracket.cleanup_trial(trial)
        if bracket.current_trials() and not bracket.is_being_processed and bracket.cur_iter_done():
            self._process_bracket(tune_controller, bracket)

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        return int(self._trial_info[trial][0]._cumul_r)

    def on_search_exhausted(self, tune_controller: SchedulerHost) -> None:
        """No trial will fill the last bracket: halve the brackets that waited for more."""
        self._exhausted = True
        for band in self._hyperbands:
            for bracket in band:
                if bracket is not None and bracket.current_trials() and bracket.cur_iter_done():
                    self._process_bracket(tune_controller, bracket)


class Median(MedianStoppingRule):  # type: ignore[misc]
    """Median stopping (Golovin et al. 2017, "Google Vizier").

    Corrects: with too few trials to compare it pauses a trial whenever another waits, at every epoch,
    for nothing; a trial that it stops has its last result counted twice.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(time_attr=TIME, **options)

    def _on_insufficient_samples(self, tune_controller: SchedulerHost, trial: HostTrial, time: float) -> str:
        return Answer.CONTINUE

    def on_trial_complete(self, tune_controller: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> None:
        known = self._results.get(trial)
        if result and (not known or known[-1] is not result):
            super().on_trial_complete(tune_controller, trial, result)


class Pbt(PopulationBasedTraining):  # type: ignore[misc]
    """Population based training (Jaderberg et al. 2017, arXiv:1711.09846).

    Corrects: explore leaves the bounds and crashes on text choices (ours moves in the space's own
    scales); the random numbers are global; a donor's checkpoint may be gone or of another epoch than
    its score (only a checkpoint that is on disk and of the scored epoch is ever copied, and it is
    pinned against deletion as long as it may be).
    """

    KEY = "pbt"  # of its random numbers

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        *,
        mutate: list[str],
        perturbation: float,
        resample_probability: float,
        **options: Any,
    ) -> None:
        super().__init__(
            time_attr=TIME, custom_explore_fn=lambda config: config, log_config=False, require_attrs=True, **options
        )
        self._space = space
        self._seed = seed
        self._mutate = set(mutate)
        self._explore_options = {"perturbation": perturbation, "resample_probability": resample_probability}

    def on_trial_result(self, tune_controller: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> str:
        """Ray pauses a trial at its interval while any other waits, to give that one its place."""
        answer = str(super().on_trial_result(tune_controller, trial, result))
        return Answer.CONTINUE if answer == Answer.PAUSE and tune_controller.has_room else answer

    def _quantiles(self) -> tuple[list[HostTrial], list[HostTrial]]:
        """(worst, best) trials, as Ray's own, which besides puts every trial's state into words at every report."""
        states = self._trial_state
        scores = {t: s.last_score for t, s in states.items() if s.last_score is not None and not t.is_finished()}
        ranked = sorted((t for t, score in scores.items() if not math.isnan(score)), key=scores.__getitem__)
        if len(ranked) <= 1:
            return [], []
        count = min(math.ceil(len(ranked) * self._quantile_fraction), len(ranked) // 2)
        return ranked[:count], ranked[len(ranked) - count :]

    def _checkpoint_or_exploit(
        self,
        trial: HostTrial,
        tune_controller: SchedulerHost,
        upper_quantile: list[HostTrial],
        lower_quantile: list[HostTrial],
    ) -> None:
        state = self._trial_state[trial]
        saved = trial.checkpoint
        is_safe = trial in upper_quantile and saved is not None and saved.epoch == state.last_train_time
        state.last_checkpoint = saved if is_safe else None
        if trial not in lower_quantile:
            return
        donors = [t for t in upper_quantile if self._trial_state[t].last_checkpoint is not None]
        if donors:
            rng = generator(self._seed, self.KEY, self._num_perturbations)
            self._exploit_with(tune_controller, trial, donors[int(rng.integers(len(donors)))], rng)

    def _exploit_with(self, host: SchedulerHost, trial: HostTrial, donor: HostTrial, rng: np.random.Generator) -> None:
        state, donor_state = self._trial_state[trial], self._trial_state[donor]
        host.exploit(trial, donor, donor_state.last_checkpoint, self._explored(trial, donor, rng))
        self._num_perturbations += 1
        # The trial goes on from the donor's epoch.
        state.last_perturbation_time = donor_state.last_perturbation_time
        state.last_train_time = donor_state.last_train_time

    def _explored(self, trial: HostTrial, donor: HostTrial, rng: np.random.Generator) -> Config:
        """The config with which `trial` goes on from the donor's weights."""
        return explore(self._space, donor.config, self._mutate, rng, **self._explore_options)

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        return float(self._trial_state[trial].last_perturbation_time + self._perturbation_interval)

    def pinned_checkpoints(self) -> list[CheckpointRecord]:
        return [s.last_checkpoint for t, s in self._trial_state.items() if s.last_checkpoint and not t.is_finished()]

    def forget_checkpoint(self, path: str) -> None:
        for state in self._trial_state.values():
            if state.last_checkpoint is not None and state.last_checkpoint.path == path:
                state.last_checkpoint = None


def made_ours(scheduler: Any, objective: Objective) -> Any:
    """A user's scheduler, set to compare by the objective at each epoch. Raises ExperimentError if it is none."""
    from ray.tune.schedulers import TrialScheduler  # the real one: a user's object comes of a Ray Tune that is imported

    if not isinstance(scheduler, TrialScheduler):
        raise ExperimentError("scheduler", scheduler, "must be a scheduler of Ray Tune's, or one's name")
    scheduler._time_attr = TIME
    scheduler._metric = scheduler._mode = None  # where either is set already, Ray's method sets neither
    scheduler.set_search_properties(objective.metric, objective.mode)
    return scheduler
