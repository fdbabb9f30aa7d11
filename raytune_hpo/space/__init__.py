"""Search spaces: what may be searched, in one description for every algorithm.

    parameters  Float, Int, Choice: each with a map to the unit interval
    conditions  when a parameter is part of a config
    space       SearchSpace: parameters, constants and conditions together
    configs     plain nested dictionaries

What this folder may not do: draw by itself (randomness is an argument), or know who searches.
"""

from __future__ import annotations

from raytune_hpo.space.space import SearchSpace, Vector, describe

__all__ = ["SearchSpace", "Vector", "describe"]
