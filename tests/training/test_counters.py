"""Random numbers from counters: each a function of key, step, draw and element, and all of them as good as random."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from raytune_hpo.errors import ExperimentError
from raytune_hpo.training import counters
from raytune_hpo.training.counters import Stream, key_of, stream, words_of

KEYS = torch.tensor([key_of(seed, "test") for seed in range(5)])
N = 200_000


def bits_of(x: torch.Tensor) -> torch.Tensor:
    """[...] int32 -> [..., 32] of 0 and 1."""
    return (x[..., None] >> torch.arange(32, dtype=torch.int32)) & 1


def test_key_of_depends_on_seed_and_purpose() -> None:
    keys = {key_of(seed, purpose) for seed in range(100) for purpose in ("train", "augment")}
    assert len(keys) == 200
    assert all(0 <= key < 2**63 for key in keys)
    assert key_of(3, "train") == key_of(3, "train")


def test_the_numbers_are_these() -> None:
    """Whatever changes them changes every result of a run with the same seed."""
    assert key_of(0, "train") == 219549013871501008
    assert stream(12345, 6, 7).bits((3,)).tolist() == [510384527, -645068595, 1959160943]


def triple32(x: int) -> int:
    """C. Wellons' own text of the hash, in plain integers."""
    x ^= x >> 17
    x = x * 0xED5AD4BB % 2**32
    x ^= x >> 11
    x = x * 0xAC4C1B51 % 2**32
    x ^= x >> 15
    x = x * 0x31848BAB % 2**32
    return x ^ x >> 14


def test_the_hash_is_triple32() -> None:
    found = Stream(torch.tensor([9, 0], dtype=torch.int32)).bits((1000,)).tolist()
    assert [x % 2**32 for x in found] == [triple32(9 + i) for i in range(1000)]


def test_numbers_on_a_gpu_are_those_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's path, of torch's operations alone, run on the CPU: NumPy has none of it."""
    expected = {name: method(stream(KEYS, 1, 0), (9001,)) for name, method in METHODS.items()}
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    for name, method in METHODS.items():
        assert torch.equal(method(stream(KEYS, 1, 0), (9001,)), expected[name])


def test_words_are_splitmix64() -> None:
    def mixed(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    word = mixed((mixed((mixed(77) + 6 * counters.GAMMA) % 2**64) + 4 * counters.GAMMA) % 2**64)
    found = [x % 2**32 for x in words_of(77, 5, 3, 1)[0].tolist()]
    assert found == [word % 2**32, word >> 32]


METHODS = {
    "bits": lambda s, shape: s.bits(shape),
    "uniform": lambda s, shape: s.uniform(shape),
    "uniform64": lambda s, shape: s.uniform(shape, torch.float64),
    "half": lambda s, shape: s.uniform(shape, torch.float16),
    "normal": lambda s, shape: s.normal(shape),
    "normal64": lambda s, shape: s.normal(shape, torch.float64),
    "exponential": lambda s, shape: s.exponential(shape),
    "bernoulli": lambda s, shape: s.bernoulli(0.3, shape),
    "integers": lambda s, shape: s.integers(-3, 9, shape),
    "wide": lambda s, shape: s.integers(0, 2**63, shape),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(), (1,), (7, 3), (1001,), (300, 301)])
def test_a_lane_has_its_numbers_alone_and_a_few_are_the_first_of_many(name: str, shape: tuple[int, ...]) -> None:
    method = METHODS[name]
    steps = torch.tensor([4, 4, 0, 9, 1])
    torch.manual_seed(0)
    together = method(stream(KEYS, steps, 2), shape)
    assert together.shape == (5, *shape)
    before = torch.get_rng_state()
    many = method(stream(KEYS, steps, 2), (math.prod(shape) + 5,))
    assert torch.equal(many[:, :-5], together.reshape(5, -1))
    for i in range(5):
        assert torch.equal(method(stream(int(KEYS[i]), int(steps[i]), 2), shape), together[i])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("block", [2048, 2**20])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {name: method(stream(KEYS, 1, 0), (9001,)) for name, method in METHODS.items()}
    monkeypatch.setattr(counters, "BLOCK", block)
    for name, method in METHODS.items():
        assert torch.equal(method(stream(KEYS, 1, 0), (9001,)), expected[name])


def sequences() -> dict[str, torch.Tensor]:
    """Bits along each of what a number depends on: [N] int32."""
    n = 40_000
    lanes, draws = torch.arange(n), words_of(3, 0, 0, n)
    return {
        "elements": stream(3, 0, 0).bits((N,)),
        "of lane 1": stream(KEYS, 3, 1).bits((N,))[1],
        "keys": stream(lanes, 0, 0).bits((1,))[:, 0],
        "steps": stream(torch.full((n,), 3), lanes, 0).bits((1,))[:, 0],
        "draws": Stream(draws).bits((1,))[:, 0],
        "second words": Stream(draws[0])._words(0, N, 2)[1],
    }


@pytest.mark.parametrize("along", sequences())
def test_bits_are_fair_and_neighbours_unrelated(along: str) -> None:
    """Limits: 5 standard errors, about 1 in a million for each figure."""
    x = sequences()[along]
    n = len(x)
    bits = bits_of(x).double()
    assert float((bits.mean(0) - 0.5).abs().max()) < 5 * 0.5 / n**0.5
    for lag in (1, 2, 16):
        changed = (bits_of(x[lag:] ^ x[:-lag])).double()
        assert float((changed.mean(0) - 0.5).abs().max()) < 5 * 0.5 / n**0.5
        u = x.double()
        assert abs(float(torch.corrcoef(torch.stack((u[lag:], u[:-lag])))[0, 1])) < 5 / n**0.5
    between = torch.corrcoef(bits.T).fill_diagonal_(0)
    assert float(between.abs().max()) < 5.5 / n**0.5
    for byte in range(4):
        counts = torch.bincount(x.bitwise_right_shift(8 * byte).bitwise_and(255).long(), minlength=256)
        assert 1e-6 < stats.chisquare(counts.numpy()).pvalue < 1 - 1e-6
    pairs = x.bitwise_right_shift(28).bitwise_and(15).long()
    counts = torch.bincount(pairs[1::2] * 16 + pairs[: n // 2 * 2 : 2], minlength=256)
    assert 1e-6 < stats.chisquare(counts.numpy()).pvalue < 1 - 1e-6


def test_two_draws_are_unrelated_where_one_begins_within_the_other() -> None:
    """Two draws whose first words are near count over the same integers: the second word tells them apart."""
    a = Stream(torch.tensor([1000, 5], dtype=torch.int32)).bits((N,))
    for second in (6, 4, 5 + 2**16, 5 ^ 2**30):
        b = Stream(torch.tensor([1003, second], dtype=torch.int32)).bits((N - 3,))
        changed = bits_of(a[3:] ^ b).double().mean(0)
        assert float((changed - 0.5).abs().max()) < 0.02


def test_avalanche() -> None:
    """Any one bit of the key, changed, changes each bit of a number half of the time."""
    keys = torch.arange(3000) * 7919
    whole = stream(keys, 5, 1).bits((2,))
    for bit in range(63):
        changed = bits_of(whole ^ stream(keys ^ (1 << bit), 5, 1).bits((2,))).double().mean((0, 1))
        assert float((changed - 0.5).abs().max()) < 5 * 0.5 / 6000**0.5


def test_distributions() -> None:
    s = stream(1, 2, 3)
    for dtype in (torch.float32, torch.float64):
        for name, drawn in (
            ("uniform", s.uniform((N,), dtype)),
            ("norm", s.normal((N,), dtype)),
            ("expon", s.exponential((N,), dtype)),
        ):
            assert drawn.dtype == dtype
            assert stats.kstest(drawn.double().numpy(), name).pvalue > 1e-4, (name, dtype)
    normal = s.normal((N // 2 * 2,)).double()
    for a, b in ((normal[::2], normal[1::2]), (normal[:-1], normal[1:])):
        for power in (1, 2):
            together = torch.stack((a**power, b**power))
            assert abs(float(torch.corrcoef(together)[0, 1])) < 5 / len(a) ** 0.5
    u = s.uniform((N,))
    assert 0 <= float(u.min()) < float(u.max()) < 1
    assert torch.allclose(
        s.uniform((N,), torch.float64), u.double(), atol=2.0**-24, rtol=0
    )  # double goes on from single
    assert s.uniform((N,), torch.bfloat16).max() < 1
    assert 0 < s.inner((N,)).min() < s.inner((N,)).max() < 1
    counts = torch.bincount(s.integers(0, 7, (N,)))
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    wide = s.integers(-(2**40), 2**40, (N,)).double() / 2**41 + 0.5
    assert stats.kstest(wide.numpy(), "uniform").pvalue > 1e-4


def test_bernoulli_takes_rates_of_lanes() -> None:
    rates = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    together = stream(KEYS, 0, 0).bernoulli(rates[:, None], (N,))
    for i, rate in enumerate(rates.tolist()):
        alone = stream(int(KEYS[i]), 0, 0).bernoulli(rate, (N,))
        assert torch.equal(alone, together[i])
        assert abs(float(alone.double().mean()) - rate) <= 5 * (rate * (1 - rate) / N) ** 0.5


def test_permutation() -> None:
    orders = stream(KEYS, 0, 0).permutation(1000)
    assert torch.equal(orders.sort(-1).values, torch.arange(1000).expand(5, 1000))
    assert len({tuple(order) for order in orders.tolist()}) == 5
    assert torch.equal(stream(int(KEYS[2]), 0, 0).permutation(1000), orders[2])
    small = stream(torch.arange(6000), 0, 0).permutation(3)
    counts = torch.bincount(small[:, 0] * 9 + small[:, 1] * 3 + small[:, 2])
    assert stats.chisquare(counts[counts > 0].numpy()).pvalue > 1e-4
    assert int((counts > 0).sum()) == 6


def test_bad_input_is_one_line() -> None:
    with pytest.raises(ExperimentError, match=r"integers = \(3, 3\)"):
        stream(1, 0, 0).integers(3, 3, (2,))
    with pytest.raises(ExperimentError, match="elements of a draw"):
        stream(1, 0, 0).bits((2**32,))
