"""The panda: automatic care of one model that trains for days, as a scheduler of one trial.

What a person who babysits a model does (the handbook's "panda" way), done at the end of an epoch:

divergence  a loss is not finite, or the training loss is more than `explode` times its best, above all of the last
            epochs and up by a visible share of what it was at the start (a loss of 0.002 may double and double
            again): back to the last good checkpoint, with the learning rate times `decay`. A person's nudge may
            shake the model for a few epochs
plateau     no better metric in `patience` epochs: the learning rate times `decay`, going on from here
nudge       every `nudge_every` epochs, the learning rate times or over `nudge_factor` for `window` epochs, and
            then, from the same checkpoint, `window` epochs without: the better end is kept. The direction that
            helped last is tried first next time; where neither helps, the waits between nudges grow

Every one of these is a restart of the trial from a checkpoint with another config, as PBT's exploits are,
and journaled like one: the lineage of the last weights is a list of (config, first epoch, last epoch).
A person's own interventions (engine.interventions) come in as the same event. State is derived from
results and events alone, so a replayed journal gives it back.

Neither the shape nor the units of a metric matter: only its order, and the mean over a window.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.options import option
from raytune_hpo.schedulers.host import HostTrial, SchedulerHost
from raytune_hpo.schedulers.scheduler import Answer, Scheduler, SchedulerOptions
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config, flatten, with_values
from raytune_hpo.space.parameters import Float

LOWEST = 1e-4  # automatic care takes the learning rate down to this share of the first one
RECENT = 3  # epochs whose training losses an exploded one is above
VISIBLE = 0.05  # and its rise over the best, as a share of the first epoch's loss
SHAKEN = 3  # epochs after an intervention by hand in which only a loss `explode` times the first one is a divergence
LONGEST_WAIT = 8  # between two nudges on trial, as a multiple of `nudge_every`
MOST_KEPT = 20  # old checkpoints for a person to go back to


@dataclass
class Nudge:
    """A nudge on trial. base: where both arms start; with_end: the state at the end of the nudged arm."""

    base: CheckpointRecord
    base_config: Config
    config: Config
    scores: list[float] = field(default_factory=list)  # of the running arm, larger is better
    with_scores: list[float] = field(default_factory=list)
    with_end: CheckpointRecord | None = None


@dataclass(frozen=True)
class PandaOptions(SchedulerOptions):
    parameter: str = option("lr", doc="the path of the learning rate in the config")
    decay: float = option(
        0.5, low=0, high=1, open_low=True, open_high=True, doc="its factor after a plateau, and after a divergence"
    )
    patience: int = option(10, low=1, doc="epochs without a better metric that are a plateau")
    explode: float = option(4.0, low=1, open_low=True, doc="a training loss so many times its best is a divergence")
    max_rollbacks: int = option(5, low=0, doc="divergences that are undone without a new best between them")
    nudge_every: int = option(10, low=0, doc="epochs between nudges on trial; 0 is never")
    nudge_factor: float = option(1.25, low=1, open_low=True, doc="of the learning rate, up or down")
    window: int = option(2, low=1, doc="epochs of a nudge on trial, and as many without it")
    keep_every: int = option(
        10, low=1, doc="which epochs stay on disk to go back to, until there are 20: then every second of those, ..."
    )

    def resolved(self, *, space: SearchSpace, max_epochs: int, structural: set[str] | None) -> Self:
        known = [*space.parameters, *space.constants]
        if self.parameter not in known:
            no_such = checks.no_such("parameter or constant", self.parameter, known)
            raise ExperimentError(
                "scheduler.parameter", self.parameter, f"{no_such}; the space must hold the learning rate"
            )
        return self

    def checkpoint_every(self, asked: int) -> int:
        """A person may go back to any epoch."""
        return 1


class Panda(Scheduler):
    """Automatic care keeps the learning rate within its parameter's bounds; a person may go beyond."""

    name = "panda"
    Options = PandaOptions
    is_of_one = True
    takes_commands = True
    handles_divergence = True
    sees_metrics = True
    plans_budgets = True

    def prepare(self) -> None:
        o = self.options
        assert isinstance(o, PandaOptions)
        rate = self.space.parameters.get(o.parameter)
        self._bounds = (rate.low, rate.high) if isinstance(rate, Float) else (0.0, math.inf)
        self._metric_name, self._parameter = self.objective.metric, o.parameter
        self._decay, self._patience, self._explode = o.decay, o.patience, o.explode
        self._max_rollbacks = o.max_rollbacks
        self._nudge_every, self._nudge_factor, self._window = o.nudge_every, o.nudge_factor, o.window
        self._keep_every = o.keep_every
        self._first: float | None = None  # the learning rate at the start
        self._best, self._best_loss = -math.inf, math.inf
        self._first_loss: float | None = None
        self._losses: deque[float] = deque(maxlen=RECENT)
        self._shaken = 0  # epochs left in which a person's change may shake the model
        self._idle = 0  # epochs since the last new best or the last change
        self._since_nudge = 0
        self._rollbacks = 0  # since the last new best
        self._up = True
        self._in_vain = 0  # nudges in a row that did not help, or could not move the rate
        self._nudge: Nudge | None = None
        self._good: CheckpointRecord | None = None
        self._kept: dict[int, CheckpointRecord] = {}  # every `_keep_every` epochs, for a person to go back to

    # Called by the host ---------------------------------------------------------------------------

    def on_trial_result(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> str:
        score = self.objective.gain(float(result[self._metric_name]))
        loss = float(result.get("train_loss", 0.0))
        what = self._divergence(loss, finite=result["finite"])
        if what is not None:
            return self._rescue(host, trial, what, finite=result["finite"])
        self._note_loss(loss)
        saved = trial.checkpoint if trial.checkpoint and trial.checkpoint.epoch == result["epoch"] else None
        if saved is not None:
            self._good = saved
            self._keep(saved)
        if self._nudge is not None:
            return self._go_on_nudging(host, trial, self._nudge, score, saved)
        self._idle += 1
        self._since_nudge += 1
        if score > self._best:
            self._best, self._idle, self._rollbacks = score, 0, 0
        if saved is None:
            return Answer.CONTINUE
        if self._idle >= self._patience:
            reason = f"plateau: no better {self._metric_name} in {self._idle} epochs"
            self._idle = 0
            if self._lower(host, trial, saved, reason):
                return Answer.NOOP
        wait = self._nudge_every * min(2 ** (self._in_vain // 2), LONGEST_WAIT)
        if self._nudge_every and self._since_nudge >= wait:
            return self._start_nudge(host, trial, saved)
        return Answer.CONTINUE

    def intervened(self, trial: HostTrial) -> None:
        """A person changed the trial: what was under way is off, and the count of idle epochs starts anew."""
        self._nudge, self._idle, self._since_nudge, self._rollbacks, self._in_vain = None, 0, 0, 0, 0
        self._best_loss, self._shaken = math.inf, SHAKEN
        self._losses.clear()

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        return epoch + 1

    def pinned_checkpoints(self) -> list[CheckpointRecord]:
        nudge = self._nudge
        pinned = [*self._kept.values(), self._good, nudge.base if nudge else None, nudge.with_end if nudge else None]
        return [record for record in pinned if record is not None]

    def forget_checkpoint(self, path: str) -> None:
        self._kept = {epoch: record for epoch, record in self._kept.items() if record.path != path}
        if self._good is not None and self._good.path == path:
            self._good = None
        if self._nudge is not None and path in {r.path for r in (self._nudge.base, self._nudge.with_end) if r}:
            self._nudge = None

    def _keep(self, saved: CheckpointRecord) -> None:
        """Keep it for a person to go back to; of a long run every second, fourth, ... of `keep_every` epochs."""
        if saved.epoch % self._keep_every == 0:
            self._kept[saved.epoch] = saved
        while len(self._kept) > MOST_KEPT:
            self._keep_every *= 2
            self._kept = {epoch: record for epoch, record in self._kept.items() if epoch % self._keep_every == 0}

    # Care -----------------------------------------------------------------------------------------

    def _divergence(self, loss: float, *, finite: bool) -> str | None:
        """Why an epoch with this training loss is a divergence; None if it is none."""
        if not finite:
            return "a loss is not finite"
        if self._first_loss is None:
            return None
        if self._shaken:
            if loss > self._explode * self._first_loss:
                return f"the training loss {loss:.3g} is over {self._explode:g} times the first epoch's"
            return None
        best = self._best_loss
        visible = loss > max(self._losses, default=0.0) and loss - best > VISIBLE * self._first_loss
        if visible and loss > self._explode * best:
            return f"the training loss {loss:.3g} is over {self._explode:g} times its best, {best:.3g}"
        return None

    def _note_loss(self, loss: float) -> None:
        self._shaken = max(0, self._shaken - 1)
        self._losses.append(loss)
        if loss > 0:
            self._first_loss = loss if self._first_loss is None else self._first_loss
            self._best_loss = min(self._best_loss, loss)

    def _rescue(self, host: SchedulerHost, trial: HostTrial, what: str, *, finite: bool) -> str:
        nudge, self._nudge = self._nudge, None
        if nudge is not None:
            self._since_nudge = 0
            self._vain()
            host.exploit(trial, trial, nudge.base, nudge.base_config, f"divergence: {what}; the nudge is undone")
            return Answer.NOOP
        self._rollbacks += 1
        if self._good is None or self._rollbacks > self._max_rollbacks:
            return Answer.CONTINUE if finite else Answer.STOP
        self._idle = 0
        return Answer.NOOP if self._lower(host, trial, self._good, f"divergence: {what}") else Answer.STOP

    def _lower(self, host: SchedulerHost, trial: HostTrial, record: CheckpointRecord, reason: str) -> bool:
        """Go on from `record` with a lower learning rate. False: it is as low as it may be."""
        value = self._rate(trial.config)
        lower = self._moved(value, self._decay)
        worthwhile = lower < value * 0.999  # rounding at a bound is no change
        if worthwhile:
            self._in_vain = 0
            host.exploit(trial, trial, record, with_values(trial.config, {self._parameter: lower}), reason)
        return worthwhile

    def _start_nudge(self, host: SchedulerHost, trial: HostTrial, saved: CheckpointRecord) -> str:
        before = self._rate(trial.config)
        for _ in ("up", "down"):
            value = self._moved(before, self._nudge_factor if self._up else 1 / self._nudge_factor)
            # A bound may be so near that the move would show nothing: then it is the other direction's turn.
            if max(value, before) > min(value, before) * math.sqrt(self._nudge_factor):
                break
            self._vain()
        else:
            self._since_nudge = 0
            return Answer.CONTINUE
        config = with_values(trial.config, {self._parameter: value})
        self._nudge = Nudge(saved, trial.config, config)
        arrow = "up" if self._up else "down"
        host.exploit(trial, trial, saved, config, f"nudge {arrow}: tried for {self._window} epochs")
        return Answer.NOOP

    def _go_on_nudging(
        self, host: SchedulerHost, trial: HostTrial, nudge: Nudge, score: float, saved: CheckpointRecord | None
    ) -> str:
        nudge.scores.append(score)
        if len(nudge.scores) < self._window or saved is None:
            return Answer.CONTINUE
        if nudge.with_end is None:
            nudge.with_end, nudge.with_scores, nudge.scores = saved, nudge.scores, []
            host.exploit(trial, trial, nudge.base, nudge.base_config, "nudge: the same epochs without it")
            return Answer.NOOP
        self._nudge, self._since_nudge, self._idle = None, 0, 0
        with_it, without = (sum(s) / len(s) for s in (nudge.with_scores, nudge.scores))
        self._best = max(self._best, *nudge.with_scores, *nudge.scores)
        if with_it <= without:
            self._vain()
            figures = f"{abs(with_it):.5g} with it, {abs(without):.5g} without"
            host.note(f"nudge rejected: mean {self._metric_name} {figures}")
            return Answer.CONTINUE  # it goes on from the arm without, which is the one that has just ended
        self._in_vain = 0
        figures = f"{abs(with_it):.5g} against {abs(without):.5g}"
        host.exploit(trial, trial, nudge.with_end, nudge.config, f"nudge kept: mean {self._metric_name} {figures}")
        return Answer.NOOP

    def _vain(self) -> None:
        """A nudge in this direction has come to nothing."""
        self._up, self._in_vain = not self._up, self._in_vain + 1

    def _moved(self, value: float, factor: float) -> float:
        """The learning rate times `factor`, kept within the bounds and above LOWEST of the first one."""
        low, high = self._bounds
        low = max(low, LOWEST * (self._first or value))
        # A person may have left the bounds: care does not jump back into them.
        return min(max(value * factor, min(low, value)), max(high, value))

    def _rate(self, config: Config) -> float:
        value = float(flatten(config)[self._parameter])
        self._first = value if self._first is None else self._first
        return value
