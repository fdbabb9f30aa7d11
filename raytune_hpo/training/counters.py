"""Random numbers that are functions: of a trial's key, the step, the number of the draw in a pass, and the element.

Data flow: (key, step, draw) --64-bit mixing on the host--> two 32-bit words a lane --`Stream`, on any device--> numbers

A generator with a state gives numbers that depend on everything drawn before. These depend on nothing but what they
are for (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", SC'11, section 2), so that a trial draws the
same numbers alone and as one lane of many. Integers, uniform numbers and masks are made of integer operations and of
exact ones on floating-point numbers, and are the same on each device; normals are so up to rounding.

Not for cryptography.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raytune_hpo.errors import ExperimentError
from raytune_hpo.seeding import generator

Tensor = torch.Tensor
Shape = Sequence[int]
Unsigned = np.ndarray[tuple[int, ...], np.dtype[Any]]  # of uint32 or uint64

# SplitMix64's increment, the golden ratio, and its mixing (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
# number generators", OOPSLA'14, section 5: variant 13 of Stafford).
GAMMA = 0x9E3779B97F4A7C15
_ALL = 2**64 - 1
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
# The 32-bit hash `triple32` of C. Wellons, "Prospecting for hash functions" (2018): shift and multiply three times,
# shift. Bias of its avalanche: 0.021 (0.17 for lowbias32, with two rounds). Philox and Squares (Widynski 2022) take
# 64-bit products, each several passes over twice the memory.
_SHIFTS = (17, 11, 15, 14)
_FACTORS = (0xED5AD4BB, 0xAC4C1B51, 0x31848BAB)
_MOST = 2**31  # elements a draw: their numbers are 32-bit integers
BLOCK = 2**16  # elements made at a time, where more are drawn: they stay in a core's cache, which is twice as fast

# Binary digits of a floating-point type.
DIGITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}


def key_of(seed: int, purpose: str) -> int:
    """The key, in [0, 2**63), of one purpose (`"train"`, `"augment"`) of the trial that has this seed."""
    return int(generator(seed, "counters", purpose).integers(2**63))


def words_of(keys: int | Tensor, step: int | Tensor, first: int, draws: int) -> Tensor:
    """Of draws `first` to `first + draws - 1` of a pass: [draws, *lanes, 2] int32 on the CPU, two words a lane.

    keys: [*lanes] int64, or one number. step: the pass's number, of each lane or of all.
    """
    if not (isinstance(keys, Tensor) or isinstance(step, Tensor)):
        of_pass = _mixed(_mixed(keys % 2**64) + (step + 1) * GAMMA & _ALL)
        drawn = [_mixed(of_pass + i * GAMMA & _ALL) for i in range(first + 1, first + draws + 1)]
        return torch.from_numpy(np.array(drawn, np.uint64).view(np.int32).reshape(draws, 2))
    return torch.from_numpy(words_by_numpy(_unsigned(keys), _unsigned(step), first, draws))


def words_by_numpy(
    key: Unsigned, steps: Unsigned, first: int, draws: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """As `words_of`, of uint64."""
    lanes = np.broadcast_shapes(key.shape, steps.shape)
    numbers = np.arange(first + 1, first + draws + 1, dtype=np.uint64).reshape(-1, *[1] * len(lanes))
    one, gamma = np.uint64(1), np.uint64(GAMMA)
    passes = _mixed_array(_mixed_array(key[None]) + (steps[None] + one) * gamma)
    mixed = _mixed_array(passes + numbers * gamma)
    return np.ascontiguousarray(mixed).view(np.int32).reshape(draws, *lanes, 2)


def _unsigned(values: int | Tensor) -> Unsigned:
    if isinstance(values, Tensor):
        found: Unsigned = values.detach().cpu().to(torch.int64).numpy().view(np.uint64)
        return found
    return np.array(int(values) % 2**64, dtype=np.uint64)


def _mixed(x: int) -> int:
    for shift, factor in zip((30, 27), _MIX, strict=True):
        x = (x ^ x >> shift) * factor & _ALL
    return x ^ x >> 31


def _mixed_array(x: Unsigned) -> Unsigned:
    """As `_mixed`, which for one number is five times as fast."""
    for shift, factor in zip((30, 27), _MIX, strict=True):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    mixed: Unsigned = x ^ (x >> np.uint64(31))
    return mixed


def stream(keys: int | Tensor, step: int | Tensor, draw: int, device: torch.device | str = "cpu") -> Stream:
    """The numbers of one draw. keys, step: as `words_of`."""
    return Stream(words_of(keys, step, draw, 1)[0].to(device))


@dataclass(frozen=True)
class Stream:
    """The numbers of one draw, of any kind and any count. words: [*lanes, 2] int32, on the device of the numbers.

    Each method answers [*lanes, *shape]. Element i of a lane's `shape`, counted row by row, depends on the lane's words
    and on i: not on the other lanes, nor on how many elements are drawn.
    """

    words: Tensor

    @property
    def lanes(self) -> torch.Size:
        return self.words.shape[:-1]

    def bits(self, shape: Shape) -> Tensor:
        """32 random bits an element, as int32. No two elements of a draw have the same."""
        return self._filled(shape, torch.int32, lambda start, stop: self._words(start, stop)[0])

    def uniform(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
        """In [0, 1): multiples of 2**-digits, of the type's 24 digits (53, 11, 8)."""
        return self._filled(shape, dtype, lambda a, b: self._digits(a, b, dtype)[0].mul_(2.0 ** -DIGITS[dtype]))

    def inner(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
        """In (0, 1), symmetric about a half: odd multiples of 2**-digits."""
        return self._filled(shape, dtype, lambda a, b: self._inner(a, b, dtype)[0])

    def normal(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal (Box and Muller 1958). Elements 2j and 2j + 1 are the two of one pair."""
        exact = _at_least_single(dtype)

        def part(start: int, stop: int) -> Tensor:
            radius, angle = self._inner(start // 2, (stop + 1) // 2, exact, 2)
            radius.log_().mul_(-2).sqrt_()
            angle.mul_(2 * math.pi)
            both = radius.new_empty(*radius.shape, 2)
            torch.mul(radius, angle.cos(), out=both[..., 0])
            torch.mul(radius, angle.sin_(), out=both[..., 1])
            drawn: Tensor = both.flatten(-2)[..., : stop - start]
            return drawn

        return self._filled(shape, exact, part).to(dtype)

    def exponential(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
        """Of mean 1, never 0."""
        exact = _at_least_single(dtype)
        return self._filled(shape, exact, lambda a, b: self._inner(a, b, exact)[0].log_().neg_()).to(dtype)

    def bernoulli(self, p: float | Tensor, shape: Shape) -> Tensor:
        """Booleans, true with probability p, to 2**-32. p: one number, or float64 that broadcasts to [*lanes, *shape];
        the same p gives the same either way."""
        if isinstance(p, Tensor):
            return self.bits(shape) < (p.double() * 2.0**32).round_().long().sub_(2**31)
        bound = round(p * 2.0**32) - 2**31
        if bound == 2**31:
            return torch.ones((*self.lanes, *shape), dtype=torch.bool, device=self.words.device)
        return self._filled(shape, torch.bool, lambda a, b: self._words(a, b)[0] < bound)

    def integers(self, low: int, high: int, shape: Shape) -> Tensor:
        """int64 in [low, high). Biased by at most (high - low) / 2**32 (2**63, above 2**31 values), as torch's own."""
        values = high - low
        if not 0 < values <= 2**63:
            raise ExperimentError("integers", (low, high), "low < high, at most 2**63 apart")

        def part(start: int, stop: int) -> Tensor:
            x = self._words(start, stop, 1 if values <= 2**31 else 2).long().bitwise_and_(2**32 - 1)
            if values <= 2**31:  # Lemire 2019: the high word of a product
                return x[0].mul_(values).bitwise_right_shift_(32).add_(low)
            whole = x[0].bitwise_right_shift_(1).mul_(2**32).add_(x[1])
            return (whole if values == 2**63 else whole.remainder_(values)).add_(low)

        return self._filled(shape, torch.int64, part)

    def permutation(self, n: int) -> Tensor:
        """[*lanes, n] int64: the order of n elements' bits, no two of which are equal."""
        return self.bits((n,)).argsort(-1)

    def _filled(self, shape: Shape, dtype: torch.dtype, part: Callable[[int, int], Tensor]) -> Tensor:
        """part(start, stop): those elements, [*lanes, stop - start]. start is even."""
        n, count = math.prod(shape), max(1, math.prod(self.lanes))
        if n > _MOST:
            raise ExperimentError("elements of a draw", n, f"at most {_MOST} for a lane")
        width = n if count * n <= 2 * BLOCK else max(1024, BLOCK // count // 2 * 2)
        if n <= width:
            return part(0, n).reshape((*self.lanes, *shape))
        out = torch.empty(*self.lanes, n, dtype=dtype, device=self.words.device)
        for start in range(0, n, width):
            stop = min(start + width, n)
            out[..., start:stop] = part(start, stop)
        return out.view((*self.lanes, *shape))

    def _words(self, start: int, stop: int, words: int = 1) -> Tensor:
        """[words, *lanes, stop - start] int32: so many words of each of these elements."""
        if self.words.is_cpu:
            return torch.from_numpy(
                _words_by_numpy(self.words.numpy().view(np.uint32), start, stop, words).view(np.int32)
            )
        first, second = self.words[..., :1], self.words[..., 1:]
        number = torch.arange(words, dtype=torch.int32, device=second.device).mul_(_signed(GAMMA >> 32))
        second = second + number.view(-1, *[1] * second.dim())
        out = torch.arange(start, stop, dtype=torch.int32, device=second.device) + first
        return _hashed(out.expand(words, *out.shape).contiguous(), second)

    def _digits(self, start: int, stop: int, dtype: torch.dtype, count: int = 1, odd: bool = False) -> Tensor:
        """[count, *lanes, stop - start]: integers in [0, 2**digits), or the odd ones of them, as numbers of the type.
        In double precision they begin with the digits that they have in single."""
        if dtype == torch.float64:
            words = self._words(start, stop, 2 * count)
            high, low = _shifted(words[:count], 5).to(dtype), _shifted(words[count:], 6)
            return high.mul_(2.0**26).add_(low.bitwise_or_(1) if odd else low)
        x = _shifted(self._words(start, stop, count), 32 - DIGITS[dtype])
        return (x.bitwise_or_(1) if odd else x).to(dtype)

    def _inner(self, start: int, stop: int, dtype: torch.dtype, count: int = 1) -> Tensor:
        return self._digits(start, stop, dtype, count, odd=True).mul_(2.0 ** -DIGITS[dtype])


def _at_least_single(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


def _signed(x: int) -> int:
    """A 32-bit word as the int32 of the same bits."""
    return (x + 2**31) % 2**32 - 2**31


def _shifted(x: Tensor, by: int) -> Tensor:
    """x >> by with zeros shifted in, in place: torch shifts copies of the sign in."""
    return x.bitwise_right_shift_(by).bitwise_and_(2 ** (32 - by) - 1)


def _hashed(x: Tensor, second: Tensor) -> Tensor:
    """`triple32` of x in place with `second` added amid its first round: one to one. Both int32; second broadcasts."""
    for function, given, named in hash_operations(x, second, torch.empty_like(x)):
        function(*given, **named)
    return x


def hash_operations(
    x: Tensor, second: Tensor, shifted: Tensor
) -> list[tuple[Callable[..., Tensor], tuple[Any, ...], dict[str, Any]]]:
    """The operations of `_hashed`, in order. shifted: like x, for them to use."""
    found: list[tuple[Callable[..., Tensor], tuple[Any, ...], dict[str, Any]]] = []
    for i, shift in enumerate(_SHIFTS):
        found.append((torch.bitwise_right_shift, (x, shift), {"out": shifted}))
        found.append((shifted.bitwise_and_, (2 ** (32 - shift) - 1,), {}))
        found.append((x.bitwise_xor_, (shifted,), {}))
        if i == 0:
            found.append((torch.add, (second, x), {"alpha": _signed(_FACTORS[0]), "out": x}))
        elif i < len(_FACTORS):
            found.append((x.mul_, (_signed(_FACTORS[i]),), {}))
    return found


def permutation_by_numpy(key: int, step: int, n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """As `stream(key, step, 0).permutation(n)`."""
    words = words_by_numpy(np.array(key % 2**64, np.uint64), np.array(step, np.uint64), 0, 1)[0]
    bits = _words_by_numpy(words.view(np.uint32), 0, n, 1)[0].view(np.int32)
    order: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = bits.argsort()
    return order


def threshold(p: Unsigned) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Of probabilities above 0, float64: of the `Stream.bits` those up to it are `Stream.bernoulli`'s true ones."""
    return (np.round(p * 2.0**32) - 2**31 - 1).astype(np.int32)


def _words_by_numpy(own: Unsigned, start: int, stop: int, words: int) -> Unsigned:
    """As `Stream._words`, of the same words, all uint32: NumPy has the shift that torch makes of two operations, and
    costs a third where numbers are few."""
    first, second = own[..., :1], own[..., 1:]
    if words > 1:
        second = second + np.arange(words, dtype=np.uint32).reshape(-1, *[1] * own.ndim) * np.uint32(GAMMA >> 32)
    x = np.empty((words, *own.shape[:-1], stop - start), np.uint32)
    np.add(np.arange(start, stop, dtype=np.uint32), first, out=x)
    hash_by_numpy(x, second, np.empty_like(x))
    return x


def hash_by_numpy(x: Unsigned, second: Unsigned, shifted: Unsigned) -> None:
    """As `_hashed`, of uint32. shifted: like x, for it to use."""
    for i, shift in enumerate(_SHIFTS):
        np.bitwise_xor(x, np.right_shift(x, np.uint32(shift), out=shifted), out=x)
        if i < len(_FACTORS):
            np.multiply(x, np.uint32(_FACTORS[i]), out=x)
        if i == 0:
            np.add(x, second, out=x)
