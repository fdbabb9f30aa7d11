"""Values that can be read, for the ticks of an axis in its own scale."""

from __future__ import annotations

import math

MOST = 7


def linear(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, five or so, within the range."""
    step = 10 ** math.floor(math.log10((high - low) / 2))
    for times in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0):
        found = _multiples(low, high, step * times)
        if len(found) <= MOST:
            return found
    return [low, high]


def log(low: float, high: float) -> list[float]:
    """Powers of ten; where there are too few, twice and five times them, too."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, (last - first) // MOST + 1)
    decades = [10.0**k for k in range(first, last + 1, every) if low * (1 - 1e-9) <= 10.0**k <= high * (1 + 1e-9)]
    if len(decades) >= 3:
        return decades
    finer = [times * 10.0**k for k in range(first, last + 1) for times in (1, 2, 5)]
    return [value for value in finer if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)][:MOST] or [low, high]


def reverse_log(low: float, high: float) -> list[float]:
    """One minus such values: 0.5, 0.9, 0.99."""
    return sorted(1 - value for value in log(1 - high, 1 - low))


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, min(last, first + 4 * MOST) + 1)]
