"""A module that is imported when it is used, and is then what it would have been."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from raytune_hpo.search.import_later import import_later

import_later("scipy.stats")
import scipy.stats
first = sys.modules["scipy.stats"]
assert "scipy.stats._stats_py" not in sys.modules
import_later("scipy.stats")
from scipy.stats import kendalltau
assert sys.modules["scipy.stats"] is first is scipy.stats
assert kendalltau([1, 2, 3], [1, 2, 3]).statistic == 1
assert scipy.stats.norm.cdf(0) == 0.5
import scipy.stats.qmc
assert scipy.stats.qmc.Sobol is not None
try:
    scipy.stats.no_such_thing
except AttributeError:
    pass
else:
    raise AssertionError
import_later("no_such_package_at_all")
assert "no_such_package_at_all" not in sys.modules
"""

HYPEROPT = """
import sys
from raytune_hpo.search.hyperopt_search import imported_hyperopt
assert imported_hyperopt().tpe.suggest
assert "scipy.stats._stats_py" not in sys.modules
"""


def python(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_it_is_imported_when_it_is_used() -> None:
    python(PROGRAM)


def test_hyperopt_needs_no_scipy_stats_for_tpe() -> None:
    python(HYPEROPT)
