"""What lanes refuse to train."""

from __future__ import annotations

from raytune_hpo.errors import TrialError


class NotFusableError(TrialError):
    """A model or an option that lanes cannot train as it would train alone."""
