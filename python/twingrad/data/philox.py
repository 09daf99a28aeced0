"""The random numbers that both languages draw alike, bit for bit: Philox4x32-10.

Specified in `shared_fixtures/FORMAT.md`; the same file on the Julia side is `julia/src/data/philox.jl`.
Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Words = NDArray[np.uint64]

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_INCREMENTS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
ROUNDS = 10
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Ten rounds of Philox on `counter` (4, n) under `key`; 32-bit words, kept in 64-bit integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    for _ in range(ROUNDS):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + KEY_INCREMENTS[0]) & LOW, (k1 + KEY_INCREMENTS[1]) & LOW
    return np.stack([c0, c1, c2, c3])


def fnv1a(name: str) -> int:
    """64-bit FNV-1a hash of the name's UTF-8 bytes."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


@dataclass(frozen=True)
class Stream:
    """The numbers of one named stream under one seed, 0 <= seed < 2**63. Number i depends on nothing but i."""

    seed: int
    name: str

    def words(self, count: int, first: int = 0) -> Words:
        """64-bit words first .. first + count - 1, shape (count,); 0 <= first < 2**63."""
        start, stop = first // 2, (first + count + 1) // 2
        blocks = np.uint64(start) + np.arange(stop - start, dtype=np.uint64)
        stream = fnv1a(self.name)
        counter = np.empty((4, blocks.size), np.uint64)
        counter[0], counter[1] = blocks & LOW, blocks >> HALF
        counter[2], counter[3] = stream & 0xFFFFFFFF, stream >> 32
        r = philox4x32(counter, (self.seed & 0xFFFFFFFF, self.seed >> 32))
        return np.stack([r[0] | r[1] << HALF, r[2] | r[3] << HALF], axis=1).ravel()[first % 2 :][:count]

    def uniform(self, count: int) -> Floats:
        """Uniform numbers 0 .. count - 1 in [0, 1), shape (count,)."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, count: int) -> Floats:
        """Standard normal numbers 0 .. count - 1 (Box and Muller), shape (count,)."""
        u = self.uniform(count + count % 2).reshape(-1, 2)
        radius = np.sqrt(-2.0 * portable_log(1.0 - u[:, 0]))
        cos, sin = portable_circle(u[:, 1])
        return np.stack([radius * cos, radius * sin], axis=1).ravel()[:count]


def portable_log(u: Floats) -> Floats:
    """Natural logarithm of u > 0 from operations that IEEE 754 rounds exactly: equal on every machine."""
    m, e = np.frexp(u)
    low = m < 0.7071067811865476
    m, e = np.where(low, 2.0 * m, m), np.where(low, e - 1, e)
    s = (m - 1.0) / (m + 1.0)
    q, p = s * s, np.zeros_like(s)
    for k in range(23, 0, -2):
        p = p * q + 1.0 / k
    return e * 0.6931471805599453 + (2.0 * s) * p


def portable_circle(turns: Floats) -> tuple[Floats, Floats]:
    """(cos 2πv, sin 2πv) of v in [0, 1], equal on every machine like `portable_log`."""
    n = np.floor(4.0 * turns + 0.5)
    theta = 6.283185307179586 * (turns - n / 4.0)
    q = theta * theta
    c, s = np.ones_like(q), np.ones_like(q)
    for k in range(17, 0, -2):
        c = 1.0 - (q / (k * (k + 1))) * c
    for k in range(18, 0, -2):
        s = 1.0 - (q / (k * (k + 1))) * s
    s = theta * s
    quadrant = n.astype(np.int64) % 4
    return np.choose(quadrant, [c, -s, -c, s]), np.choose(quadrant, [s, c, -s, -c])
