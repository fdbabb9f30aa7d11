"""The device of the tests of lanes: `RAYTUNE_HPO_TEST_DEVICE=cuda make test ARGS=tests/training/lanes` is on a GPU."""

from __future__ import annotations

import os

import pytest

DEVICE = os.environ.get("RAYTUNE_HPO_TEST_DEVICE", "cpu")

#: Of tests whose claim is one about a CPU.
on_a_cpu = pytest.mark.skipif(DEVICE != "cpu", reason="it holds on a CPU alone")
