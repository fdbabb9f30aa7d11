"""The suites that our own searchers, schedulers, trainers and metrics pass, for pytest, and for those of users.

    from raytune_hpo.testing import Case, SearcherContract

    class TestMine(SearcherContract):
        case = Case(Mine)

Each is a class to derive from; its module says what it needs. Needs pytest; nothing else in the package imports this
room.
"""

import pytest

# Its rewriting of assertions, which says what was compared with what, is for a test's own files unless asked for.
SUITES = ("fake_pool", "metrics", "schedulers", "searchers", "simulation", "trainers")
pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in SUITES))

from raytune_hpo.testing.metrics import MetricContract  # noqa: E402
from raytune_hpo.testing.schedulers import SchedulerContract  # noqa: E402
from raytune_hpo.testing.searchers import Case, SearcherContract  # noqa: E402
from raytune_hpo.testing.trainers import TrainerContract  # noqa: E402

__all__ = ["Case", "MetricContract", "SchedulerContract", "SearcherContract", "TrainerContract"]
