"""How large a space a search takes: what it suggests for within about a second, on one core. What is larger is refused
when the experiment is built, since the driver answers nobody while a search thinks."""

from __future__ import annotations

from raytune_hpo.errors import ExperimentError


def check_size(searcher: str, found: int, most: int, what: str) -> None:
    """Raise ExperimentError where `found` is more than `most`. what: is counted, in words."""
    if found > most:
        expected = (
            f"takes about a second a suggestion for {most:,} {what}, and this space has {found:,}: take evolutionary, "
            "coarse_to_fine or random, or a smaller space"
        )
        raise ExperimentError("searcher", searcher, expected)
