"""What is a full disk, and what only happened beside one."""

from __future__ import annotations

import errno
import io
from typing import Any

import pytest
import torch

from raytune_hpo.storage.full_disk import full_disk


class Full(io.BytesIO):
    """A file with room for small things only."""

    def write(self, data: Any) -> int:
        if len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_torch_says_it_in_its_own_way() -> None:
    with pytest.raises(RuntimeError, match="unexpected pos") as caught:
        torch.save(torch.zeros(1000), Full())
    found = full_disk(caught.value)
    assert found is not None
    assert found.errno == errno.ENOSPC


def after(error: Exception, *, caused: bool) -> Exception:
    """`error`, raised where a read-only disk was found."""
    try:
        try:
            raise OSError(errno.EROFS, "Read-only file system")
        except OSError as disk:
            if caused:
                raise error from disk
            raise error  # noqa: B904
    except Exception as raised:
        return raised


def test_another_error_after_it_is_another_error() -> None:
    fallback = after(ValueError("units: must be 1 or more"), caused=False)
    assert isinstance(fallback.__context__, OSError)
    assert full_disk(fallback) is None
    assert full_disk(after(ValueError("the cache"), caused=True)) is not None
    assert full_disk(None) is None
