"""SearchAlgorithm: what every search algorithm is here, apart from any host.

An algorithm is asked for configs and told how they did. It knows neither Ray nor torch: the driver
asks it directly, `ray_searcher.RaySearcher` makes it a `ray.tune.search.Searcher`, a unit test calls
it in a loop. (Vizier's Designer is the model for this seam.)

State is the history, and only the history: the list of suggestions in order and what became of them.
Randomness comes from `seeding.generator(seed, "search", number of the suggestion, attempt)`. So a
search that is rebuilt from its recorded history (`replay`, `observe`), or from `state_dict`, suggests
exactly what the uninterrupted one would have, and there is no random state to lose.

Notations
    value    the objective, always to be minimized in here (the sign of a maximized metric is flipped
             at the door); NaN for a trial that failed or diverged
    pending  suggested and not yet observed
    curve    epoch -> value of the trial's reports, kept only for algorithms that use them
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Final, Literal, Protocol

import numpy as np

from raytune_hpo.configs import Config, config_key
from raytune_hpo.options import Options
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace, Vector

Mode = Literal["min", "max"]
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


@dataclass
class Suggestion:
    """One suggestion and its fate. value: None while pending, NaN if it failed, else to be minimized."""

    trial_id: str
    config: Config
    unit: Vector = field(repr=False)
    value: float | None = None
    curve: dict[int, float] = field(default_factory=dict, repr=False)

    @property
    def pending(self) -> bool:
        return self.value is None

    @property
    def failed(self) -> bool:
        return self.value is not None and math.isnan(self.value)


class Search(Protocol):
    """What a run asks of its search: ours, or a foreign one behind the same calls (search.ray_searcher)."""

    exhausted: bool

    def total(self) -> int | None: ...
    def plan(self, number: int) -> Plan: ...
    def suggest(self, trial_id: str) -> Config | None: ...
    def replay(self, trial_id: str, config: Config) -> None: ...
    def report(self, trial_id: str, epoch: int, value: float) -> None: ...
    def observe(self, trial_id: str, value: float | None) -> None: ...


@dataclass(frozen=True)
class SearchOptions(Options):
    """The options of an algorithm: a frozen record, whose base this is."""

    FIELD: ClassVar[str] = "searcher"


class SearchAlgorithm(ABC):
    """Base of the search algorithms. Subclasses implement `propose` and keep no state of their own
    that cannot be derived from `history`.

    space: the SearchSpace; mode: "min" or "max" of the observed metric; seed: any non-negative int;
    start_points: configs to suggest first (checked against the space by the caller); options: a record of
    the class's `Options`.
    """

    name: ClassVar[str]
    #: What a user may choose, each with its default, its bounds and its meaning.
    Options: ClassVar[type[SearchOptions]] = SearchOptions
    options: SearchOptions
    #: Whether configs that were suggested before are drawn again (up to ATTEMPTS times) before they
    #: are given up on.
    avoids_duplicates: ClassVar[bool] = True
    #: Whether `report` keeps the curves of trials.
    uses_reports: ClassVar[bool] = False
    #: Whether suggestions depend on what trials have shown, so that too many at a time are worse ones.
    learns: ClassVar[bool] = True
    #: Whether `plan` decides how long trials run: schedulers that pause trials to do so do not go with it.
    plans_budgets: ClassVar[bool] = False

    def __init__(
        self,
        space: SearchSpace,
        *,
        mode: Mode,
        seed: int,
        start_points: Sequence[Config] = (),
        options: SearchOptions | None = None,
    ) -> None:
        self.space = space
        self.options = type(self).Options() if options is None else options
        self.mode: Mode = mode
        self.seed = seed
        self.start_points = list(start_points)
        self.history: list[Suggestion] = []
        self.order: list[int] = []  # positions in `history`, in the order of their observation
        self._position: dict[str, int] = {}
        self._seen: set[str] = set()
        self.exhausted = False  # whether the last None of `suggest` was for good

    @classmethod  # noqa: B027  (optional)
    def check_epochs(cls, options: SearchOptions, max_epochs: int) -> None:
        """Raise ExperimentError where the budgets that `plan` would set do not fit `max_epochs`."""

    @abstractmethod
    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config | Signal | None:
        """A config inside the space for suggestion `number` (0-based); None when there is no more;
        WAIT when the next one depends on trials that are not observed yet.

        Called again with the next `attempt` (0-based) and another `rng` when the answer was
        suggested before.
        """

    def total(self) -> int | None:
        """How many configs there are to suggest; None if that is not known or unlimited."""
        return None

    def plan(self, number: int) -> Plan:
        """How suggestion `number` is to be run: asked right before it is suggested, and after that."""
        return Plan()

    def suggest(self, trial_id: str) -> Config | None:
        """The next config; None when there is none: for good if `exhausted`, else until more is observed."""
        number = len(self.history)
        if number < len(self.start_points):
            return self._record(trial_id, self.start_points[number])
        for attempt in range(ATTEMPTS):
            config = self.propose(number, attempt, generator(self.seed, "search", number, attempt))
            if config is None or isinstance(config, Signal):
                self.exhausted = config is None
                return None
            known = self.avoids_duplicates and config_key(config) in self._seen
            if not known or self.plan(number).parent is not None:  # a known one may be trained on on purpose
                return self._record(trial_id, config)
        return self._unseen(trial_id, number)

    def _unseen(self, trial_id: str, number: int) -> Config | None:
        # The algorithm keeps coming back to known configs: explore. A finite space may be used up.
        size = self.space.size(limit=10_000)
        if size is not None:
            left = [c for c in self.space.grid(points=10_000) if config_key(c) not in self._seen]
            if not left:
                self.exhausted = True
                return None
            pick = int(generator(self.seed, "search-unseen", number).integers(len(left)))
            return self._record(trial_id, left[pick])
        rng = generator(self.seed, "search-unseen", number)
        configs = (self.space.sample(rng) for _ in range(ATTEMPTS))
        unseen = (c for c in configs if config_key(c) not in self._seen)
        return self._record(trial_id, next(unseen, self.space.sample(rng)))

    def replay(self, trial_id: str, config: Config) -> None:
        """Take note of a suggestion made before a restart, without computing it again."""
        self._record(trial_id, config)

    def _record(self, trial_id: str, config: Config) -> Config:
        self._position[trial_id] = len(self.history)
        self._seen.add(config_key(config))
        self.history.append(Suggestion(trial_id, config, self.space.to_unit(config)))
        return config

    def observe(self, trial_id: str, value: float | None) -> None:
        """Tell the final metric of a trial; None or a value that is not finite says that it failed.

        A failed trial counts as a bad one: it is neither forgotten nor does it distort a model.
        """
        suggestion = self.history[self._position[trial_id]]
        if suggestion.pending:
            self.order.append(self._position[trial_id])
        failed = value is None or not math.isfinite(value)
        suggestion.value = math.nan if failed or value is None else (value if self.mode == "min" else -value)

    def report(self, trial_id: str, epoch: int, value: float) -> None:
        """Tell the metric of a trial's report at `epoch` (1-based), each epoch once."""
        if self.uses_reports:
            loss = value if self.mode == "min" else -value
            self.history[self._position[trial_id]].curve[epoch] = loss if math.isfinite(value) else math.nan

    def observed(self) -> list[Suggestion]:
        """The finished suggestions, failed ones included, in the order in which they finished."""
        return [self.history[i] for i in self.order]

    def pending(self) -> list[Suggestion]:
        return [s for s in self.history if s.pending]

    def state_dict(self) -> dict[str, Any]:
        """The exact state as plain JSON data."""
        return {
            "history": [
                [s.trial_id, s.config, s.pending, s.failed, s.value if not s.failed else None] for s in self.history
            ],
            "order": list(self.order),
            "curves": [[[e, None if math.isnan(v) else v] for e, v in s.curve.items()] for s in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the state of a fresh algorithm over the same space, mode and seed."""
        self.history, self._position, self._seen = [], {}, set()
        for trial_id, config, pending, failed, value in state["history"]:
            self._record(trial_id, config)
            if not pending:
                self.history[-1].value = math.nan if failed else float(value)
        for suggestion, curve in zip(self.history, state["curves"], strict=True):
            suggestion.curve = {int(e): math.nan if v is None else float(v) for e, v in curve}
        self.order = list(state["order"])
