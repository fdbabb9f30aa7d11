"""Trials that somebody may have still, through the end of a session: kept for that one while its lease lasts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

UNTIL = " until "


class Reservations:
    """kept: trial -> the token of who had it, and for how many seconds it is kept for that one. Of threads."""

    def __init__(self, kept: Mapping[str, tuple[str, float]]) -> None:
        now = time.monotonic()
        self._kept = {trial: (token, now + kept_s) for trial, (token, kept_s) in kept.items()}
        self._lock = threading.Lock()

    def __contains__(self, trial: object) -> bool:
        return trial in self._kept

    def lasting(self) -> set[str]:
        now = time.monotonic()
        with self._lock:
            return {trial for trial, (_, until) in self._kept.items() if until > now}

    def is_anothers(self, trial: str, token: str) -> bool:
        return self._kept.get(trial, (token, 0.0))[0] != token

    def end(self, trial: str) -> None:
        with self._lock:
            self._kept.pop(trial, None)

    def heard(self, token: str, lease_s: float) -> None:
        """Of whoever is known by the token."""
        until = time.monotonic() + lease_s
        with self._lock:
            own = {trial: kept for trial, kept in self._kept.items() if kept[0] == token}
            self._kept |= {trial: (token, max(before, until)) for trial, (_, before) in own.items()}


def reservations(started: Mapping[str, tuple[str | None, int | None]], kept_s: float) -> dict[str, tuple[str, float]]:
    """Of trials that ran as the last session ended -> (worker, pid): the token of who may still have it, and for how
    many seconds it is kept for that one. kept_s: for a process that lives and has not said so yet."""
    found = {}
    for trial, (name, pid) in started.items():
        token, _, until = (name or "").partition(UNTIL)
        if until.isdigit():
            left = int(until) - time.time()
            if left > 0:
                found[trial] = (token, left)
        elif token and pid and _lives(pid):
            found[trial] = (token, kept_s)
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
