"""One experiment seed becomes a seed per purpose and per trial.

Every random draw in this package takes its generator from here, keyed by what it is for and by a
counter. No generator is carried from one draw to the next, so a resumed run needs no random state:
draw number i is the same whether or not the process was killed before it.
"""

from __future__ import annotations

import zlib

import numpy as np


def _key(part: str | int) -> int:
    return zlib.crc32(part.encode()) if isinstance(part, str) else int(part)


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """A generator that depends on `seed` and on every part of `key`, and on nothing else."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=tuple(_key(k) for k in key))
    return np.random.Generator(np.random.PCG64(sequence))


def derive_seed(seed: int, *key: str | int) -> int:
    """A seed in [0, 2**31) for libraries that want an integer."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=tuple(_key(k) for k in key))
    return int(sequence.generate_state(1, np.uint32)[0] >> 1)


def trial_seed(seed: int, trial_id: str, repeat: int | None = None) -> int:
    """A trial's own seed, from the experiment's; repetitions of a config share theirs with the same repetition of
    others."""
    return derive_seed(seed, "trial", trial_id) if repeat is None else derive_seed(seed, "repeat", repeat)
