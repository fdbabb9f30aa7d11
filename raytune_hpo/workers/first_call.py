"""The first check of a run's task, as the driver sees it: a call that the first worker has before any trial."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from raytune_hpo.errors import TaskError
from raytune_hpo.journal.events import Noticed
from raytune_hpo.workers.messages import Checked
from raytune_hpo.workers.transport import Actor, Call, CallFailedError

#: How long a run waits for it: its first trials then begin in other workers.
LONGEST_S = 30.0


class FirstCheck:
    """configs: to try the task with; none is no check. at: whoever does it, None where nobody does (any more).
    too_late: a trial has begun, so that what it finds ends no run."""

    def __init__(self, configs: Sequence[Mapping[str, Any]]) -> None:
        self._configs = configs
        self._until = 0.0
        self.at: Any = None
        self.too_late = False

    @property
    def awaited(self) -> bool:
        return self.at is not None and time.monotonic() < self._until

    def begun(self, at: Any, actor: Actor) -> Call | None:
        """The call, of the first who asks; a worker that dies of it is not followed by another."""
        if not self._configs:
            return None
        configs, self._configs = self._configs, ()
        self.at, self._until = at, time.monotonic() + LONGEST_S
        return actor.call("check", configs)

    def failed(self, error: CallFailedError) -> Checked:
        """Raises TaskError where the task is at fault; what else may have failed, the trials will tell."""
        if isinstance(error.error, TaskError) and not self.too_late:
            raise error.error from None
        return Checked()

    def ended(self, answer: Checked) -> list[Noticed]:
        self.at = None
        return [Noticed(remark) for remark in answer.remarks]

    def lost(self, who: Any) -> None:
        if who is self.at:
            self.at = None
