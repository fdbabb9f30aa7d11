"""A disk that takes no more. That is no trial's fault: the run stops with one line, and goes on once there is room."""

from __future__ import annotations

import errno

TAKES_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def full_disk(error: BaseException | None) -> OSError | None:
    """The error, or the one behind it, that says so; None where none does. torch raises a RuntimeError meanwhile."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in TAKES_NO_MORE:
            return error
        meanwhile = isinstance(error, RuntimeError) and not error.__suppress_context__
        error = error.__cause__ or (error.__context__ if meanwhile else None)
    return None
