"""A disk that takes no more. That is no trial's fault: the run stops with one line, and goes on once there is room."""

from __future__ import annotations

import errno

TAKES_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def full_disk(error: BaseException | None) -> OSError | None:
    """The error, or the one behind it (torch hides it), that says so; None where none does."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in TAKES_NO_MORE:
            return error
        error = error.__cause__ or error.__context__
    return None
