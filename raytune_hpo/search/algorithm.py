"""SearchAlgorithm: what every search algorithm is here, apart from any host.

A Search is asked for configs and told how they did; that is all that a run knows of it. A SearchAlgorithm is one
of ours, which knows neither Ray nor torch: the driver asks it directly, `ray_searcher.RaySearcher` makes it a
`ray.tune.search.Searcher`, a unit test calls it in a loop. (Vizier's Designer is the model for this seam.)

Its state is the history, and only the history: the list of suggestions in order and what became of them.
Randomness comes from `seeding.generator(seed, "search", number of the suggestion, attempt)`. So a
search that is rebuilt from its recorded history (`replay`, `observe`), or from `state_dict`, suggests
exactly what the uninterrupted one would have, and there is no random state to lose.

Notations
    value    the objective, in a history always as a loss, to be minimized (`Objective.loss` flips the sign at the
             door); NaN for a trial that failed or diverged
    pending  suggested and not yet observed
    levels   the epochs at which trials are compared (`fidelity`)
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final, Literal

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Objective
from raytune_hpo.options import Named, Options
from raytune_hpo.search.evidence import Evidence, best_of_sources, extent
from raytune_hpo.search.fidelity import expected_scores, levels
from raytune_hpo.search.history import History, Suggestion
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace, Vector
from raytune_hpo.space.configs import Config, config_key, plain
from raytune_hpo.space.grid import grid, number_of_configs
from raytune_hpo.states import Outcome

#: "starts": every second suggestion is one of the best configs of elsewhere, until `starts` of them were tried.
EvidenceUse = Literal["observations", "starts", "nothing"]
STARTS = 5  # of the best configs of elsewhere, unless a scheduler wants more
ATTEMPTS = 32  # draws before a repeated config is taken to mean that the space is exhausted


class Signal(Enum):
    """What `propose` may answer instead of a config."""

    WAIT = "nothing before more trials are observed"


WAIT: Final = Signal.WAIT


@dataclass(frozen=True)
class Plan:
    """How a suggested trial is run, beyond its config.

    share   of max_epochs after which it is complete, in (0, 1]
    parent  the trial of the same config from whose newest checkpoint it goes on, if that is still there
    repeat  the number of this repetition of a config: it has its own training seed and its own split of
            the training and validation data, both shared by the same repetition of other configs
    note    what the search decided with this suggestion, as JSON data for the results (a round's box)
    """

    share: float = 1.0
    parent: str | None = None
    repeat: int | None = None
    note: dict[str, Any] | None = None

    def epochs(self, max_epochs: int) -> int:
        """The epoch after which it is complete."""
        return math.ceil(self.share * max_epochs)


class Search(ABC):
    """What a run asks of its search: one of ours, or a foreign one behind the same calls.

    space: the SearchSpace; objective: what is optimized. Only `suggest` and `observe` have no default.
    """

    #: Whether suggestions depend on what trials have shown, so that too many at a time are worse ones.
    learns: ClassVar[bool] = True
    #: Whether `plan` decides how long trials run: schedulers that pause trials to do so do not go with it.
    plans_budgets: ClassVar[bool] = False
    #: Whether a trial that was observed may be reported on and observed again, the later observation in place of the
    #: earlier: one that failed and is tried again.
    takes_corrections: ClassVar[bool] = False
    #: What it makes of `evidence`: what it learns from; configs to try; nothing.
    uses_evidence: ClassVar[EvidenceUse] = "nothing"

    def __init__(self, space: SearchSpace, objective: Objective) -> None:
        self.space = space
        self.objective = objective
        self.exhausted = False  # whether the last None of `suggest` was for good
        self._notices: list[str] = []

    def take_notices(self) -> list[str]:
        """What people should know of the suggestions since the last call."""
        found, self._notices = self._notices, []
        return found

    def total(self) -> int | None:
        """How many configs there are to suggest; None if that is not known or unlimited."""
        return None

    def plan(self) -> Plan:
        """How the suggestion that comes next is to be run: asked right before it is."""
        return Plan()

    @abstractmethod
    def suggest(self, trial_id: str) -> Config | None:
        """The next config; None when there is none: for good if `exhausted`, else until more is observed."""

    def replay(self, trial_id: str, config: Config) -> None:
        """Bring the search along to a suggestion made before a restart: it is asked again, and must say the same.

        Raises ExperimentError where it suggests something else.
        """
        again = self.suggest(trial_id)
        if again is None or config_key(again) != config_key(config):
            expected = (
                f"the searcher suggests something else than was recorded for trial {trial_id} ({config_key(config)}); "
                "resume with a fresh searcher of the same options and seed"
            )
            raise ExperimentError("searcher", again, expected)

    def pass_over(self) -> None:  # noqa: B027  (optional)
        """A suggestion of before does not lie in the space as it is now: what was drawn for it is not drawn again."""

    def report(self, trial_id: str, epoch: int, value: float) -> None:  # noqa: B027  (optional)
        """Tell the objective in a trial's report at `epoch` (1-based), each epoch once."""

    @abstractmethod
    def observe(self, trial_id: str, outcome: Outcome, value: float | None, epoch: int) -> None:
        """Tell how a trial ended, after `epoch` epochs. value: its best one, None if it failed or diverged. outcome:
        COMPLETED also of one that has come to a plateau, since it would reach no more.
        """

    def evidence(self, config: Config, curve: Mapping[int, float], source: str) -> None:  # noqa: B027  (optional)
        """Tell what is known from elsewhere: the objective of a config by epoch, and where that comes from."""


@dataclass(frozen=True)
class SearchOptions(Options):
    """The options of an algorithm: a frozen record, whose base this is."""

    FIELD: ClassVar[str] = "searcher"


class SearchAlgorithm(Named, Search):
    """Base of the search algorithms. Subclasses implement `propose` and keep no state of their own
    that cannot be derived from `history`.

    max_epochs: the longest that a trial trains; seed: any non-negative int; start_points: configs to suggest first
    (checked against the space by the caller); options: a record of the class's `Options`.
    """

    #: The searcher's name; of a subclass that gives itself none, that of the class.
    name: ClassVar[str]
    #: What a user may choose, each with its default, its bounds and its meaning.
    Options: ClassVar[type[SearchOptions]] = SearchOptions
    options: SearchOptions
    takes_corrections = True
    #: Whether configs that were suggested before are drawn again (up to ATTEMPTS times) before they
    #: are given up on.
    avoids_duplicates: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        objective: Objective,
        *,
        max_epochs: int,
        seed: int,
        start_points: Sequence[Config] = (),
        options: SearchOptions | None = None,
    ) -> None:
        super().__init__(space, objective)
        self.max_epochs = max_epochs
        self.past = History(levels(max_epochs))
        self.seed = seed
        self.start_points = list(start_points)
        self.options = type(self).Options() if options is None else options
        self.elsewhere: list[Evidence] = []
        #: How many of the best configs of elsewhere are tried; a population begins with more.
        self.starts = STARTS if self.uses_evidence == "starts" else 0
        self._told_of: dict[tuple[str, str], int] = {}  # (source, config) -> its place there
        self._best_elsewhere: tuple[int, list[Config]] = (0, [])  # of so much evidence
        self.passed_over = 0
        self._seen: set[str] = set()
        self._drew_instead = False
        self.prepare()

    @property
    def history(self) -> list[Suggestion]:
        """The suggestions in order."""
        return self.past.trials

    @property
    def order(self) -> list[int]:
        """Positions in `history`, in the order of their observation."""
        return self.past.ended

    def prepare(self) -> None:
        """The constructor's last step: whatever a subclass works out from the fields above.

        Raises ExperimentError where it refuses the space.
        """

    @classmethod
    def expected_share(cls, options: SearchOptions) -> float:
        """Of max_epochs, that a trial is planned for on average: by it the length of a run is judged."""
        return 1.0

    @classmethod
    def check_epochs(cls, options: SearchOptions, max_epochs: int) -> None:
        """Raise ExperimentError where the budgets that `plan` would set do not fit `max_epochs`."""

    @abstractmethod
    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config | Signal | None:
        """A config inside the space for suggestion `number` (0-based); None when there is no more;
        WAIT when the next one depends on trials that are not observed yet.

        Called again with the next `attempt` (0-based) and another `rng` when the answer was
        suggested before.
        """

    def plan_of(self, number: int) -> Plan:
        """How suggestion `number` is, or was, to be run: a function of the history."""
        return Plan()

    def plan(self) -> Plan:
        return self.plan_of(len(self.history))

    def plan_for(self, trial_id: str) -> Plan:
        """The plan of a trial that has been suggested."""
        return self.plan_of(self.past.position[trial_id])

    def suggest(self, trial_id: str) -> Config | None:
        number = len(self.history)
        if number < len(self.start_points):
            return self._record(trial_id, self.start_points[number])
        if self.starts and self.elsewhere and (number - len(self.start_points)) % 2 == 0 and self.begins(number):
            start = self._start_of_elsewhere()
            if start is not None:
                return self._record(trial_id, start)
        for attempt in range(ATTEMPTS):
            config = self.propose(number, attempt, generator(self.seed, "search", number + self.passed_over, attempt))
            if config is None or isinstance(config, Signal):
                self.exhausted = config is None
                return None
            config = self._checked(config)
            known = self.avoids_duplicates and config_key(config) in self._seen
            if not known or self.plan_of(number).parent is not None:  # a known one may be trained on on purpose
                return self._record(trial_id, config)
        return self._unseen(trial_id, number)

    def begins(self, number: int) -> bool:
        """Whether suggestion `number` may be a config of elsewhere instead of what `propose` would answer."""
        return True

    def _start_of_elsewhere(self) -> Config | None:
        """The best new one of the `starts` best configs of elsewhere; of several sources each in turn."""
        if self._best_elsewhere[0] != extent(self.elsewhere):
            best = list(itertools.islice(best_of_sources(self.space, self.elsewhere), self.starts))
            self._best_elsewhere = (extent(self.elsewhere), best)
        return next((config for config in self._best_elsewhere[1] if config_key(config) not in self._seen), None)

    def _checked(self, config: Any) -> Config:
        """A proposal as plain data. Raises ExperimentError unless it lies in the space."""
        found = plain(self.name, config)
        if not isinstance(found, dict):
            raise ExperimentError(self.name, config, "propose must answer a config, None or WAIT")
        self.space.check(found, self.name)
        return found

    def _unseen(self, trial_id: str, number: int) -> Config | None:
        # The algorithm keeps coming back to known configs: explore. A finite space may be used up.
        size = number_of_configs(self.space, limit=10_000)
        if size is not None:
            left = [c for c in grid(self.space, points=10_000) if config_key(c) not in self._seen]
            if not left:
                self.exhausted = True
                return None
            pick = int(generator(self.seed, "search-unseen", number).integers(len(left)))
            return self._record(trial_id, left[pick])
        if not self._drew_instead:
            text = (
                f"searcher {self.name} proposes only configs that it has proposed before: random ones take their place"
            )
            self._notices.append(text)
            self._drew_instead = True
        rng = generator(self.seed, "search-unseen", number)
        configs = (self.space.sample(rng) for _ in range(ATTEMPTS))
        unseen = (c for c in configs if config_key(c) not in self._seen)
        return self._record(trial_id, next(unseen, self.space.sample(rng)))

    def pass_over(self) -> None:
        self.passed_over += 1

    def replay(self, trial_id: str, config: Config) -> None:
        """Take note of a suggestion made before a restart, without computing it again."""
        self._record(trial_id, config)

    def _record(self, trial_id: str, config: Config) -> Config:
        self._seen.add(config_key(config))
        self.past.add(trial_id, config, self.space.to_unit(config))
        return config

    def observe(self, trial_id: str, outcome: Outcome, value: float | None, epoch: int) -> None:
        """A failed trial counts as a bad one: it is neither forgotten nor does it distort a model. One without a
        finite value counts as failed, whatever its outcome. One that is COMPLETED has shown all it can: its value
        stands for max_epochs, whatever its plan.
        """
        loss = self._loss(value) if outcome.eligible and value is not None else math.nan
        through = self.max_epochs if outcome == Outcome.COMPLETED else epoch
        if not self.past[trial_id].pending:
            self.corrected()
        self.past.end(trial_id, outcome, loss, epoch, through)

    def corrected(self) -> None:
        """What was known of a trial is about to change: whatever a subclass has derived from the history is void."""

    def report(self, trial_id: str, epoch: int, value: float) -> None:
        self.past.report(trial_id, epoch, self._loss(value))

    def evidence(self, config: Config, curve: Mapping[int, float], source: str) -> None:
        """See `uses_evidence`. Of a config that was told of before by the same source this takes the place of that, if
        its curve is longer: it has trained on."""
        told = Evidence(config, {e: self._loss(v) for e, v in curve.items()}, source)
        key = (source, config_key(config))
        before = self._told_of.get(key)
        if before is not None and told.epochs > self.elsewhere[before].epochs:
            self.elsewhere[before] = told
            return
        self._told_of[key] = len(self.elsewhere)
        self.elsewhere.append(told)

    def _loss(self, value: float) -> float:
        return self.objective.loss(value) if math.isfinite(value) else math.nan

    def observed(self) -> list[Suggestion]:
        """The finished suggestions, failed ones included, in the order in which they finished."""
        return [self.history[i] for i in self.order]

    def ranked(self, trials: Sequence[Suggestion]) -> list[Suggestion]:
        """The best first, by what is expected of each at max_epochs (`fidelity`); failed ones, and those that have
        shown nothing yet, last; equal ones as they come."""
        return [trials[i] for i in np.argsort(self.expected(trials), kind="stable")]

    def expected(self, trials: Sequence[Suggestion]) -> Vector:
        """[n] a score of each trial, to be minimized (`fidelity.expected_scores`)."""
        return expected_scores(trials, len(self.past.levels))

    def known(self) -> list[Suggestion]:
        """Those that have ended, or have shown something: what can be learned from."""
        return self.past.known()

    def pending(self) -> list[Suggestion]:
        return [s for s in self.history if s.pending]

    def state_dict(self) -> dict[str, Any]:
        """The exact state as plain JSON data."""
        elsewhere = [e.to_json() for e in self.elsewhere]
        return {**self.past.to_json(), "elsewhere": elsewhere, "passed_over": self.passed_over}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the state of a fresh algorithm over the same space, objective, options and seed."""
        self.corrected()
        configs = [row["config"] for row in state["history"]]
        self.past.load(state, [self.space.to_unit(c) for c in configs])
        self._seen = set(map(config_key, configs))
        self.elsewhere = [Evidence.from_json(row) for row in state["elsewhere"]]
        self._told_of = {(one.source, config_key(one.config)): i for i, one in enumerate(self.elsewhere)}
        self.passed_over = int(state.get("passed_over", 0))
