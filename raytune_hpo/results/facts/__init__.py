"""Facts: everything that is to be said of a run, as strict JSON, one module a part. The report, the live page, the
figures and `report --json` show these and nothing else. Times are seconds of running, from the first session's start.
"""

from raytune_hpo.results.facts.facts import Facts, facts

__all__ = ["Facts", "facts"]
