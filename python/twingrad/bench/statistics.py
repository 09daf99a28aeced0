"""What samples of times say: quartiles, the ratio of two medians with its interval, the exponent of a growing cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..specs import Array

RESAMPLES, SEED, CONFIDENCE = 1000, 20260101, 0.95


@dataclass(frozen=True)
class Quartiles:
    """The median of some samples, and the two quartiles around it."""

    first: float
    median: float
    third: float

    @property
    def spread(self) -> float:
        """The distance of the quartiles in medians."""
        return (self.third - self.first) / self.median


@dataclass(frozen=True)
class Ratio:
    """A ratio of two medians and the 95 % interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Exponent:
    """p of cost ~ size^p, with its standard error (None of two points, through which every line goes)."""

    value: float
    error: float | None
    points: int


def quartiles(samples: Sequence[float]) -> Quartiles:
    """Quartiles by linear interpolation (Hyndman and Fan's type 7, NumPy's default)."""
    first, median, third = np.quantile(np.asarray(samples), [0.25, 0.5, 0.75])
    return Quartiles(float(first), float(median), float(third))


def ratio(above: Mapping[int, Sequence[float]], below: Mapping[int, Sequence[float]], seed: int = SEED) -> Ratio | None:
    """Median of all samples `above` by that of all `below`; both hold samples by round. None where no round is in both.

    The interval is a percentile bootstrap (Efron and Tibshirani 1993, chapter 13) in two stages: rounds are drawn with
    replacement, the same for both sides, since what slows a machine down for a while slows both; within each round each
    side's samples are drawn with replacement. Of one round, only the second stage is left.
    """
    rounds = sorted(above.keys() & below.keys())
    if not rounds:
        return None
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(rounds), size=(RESAMPLES, len(rounds)))
    value, draws = 1.0, np.ones(RESAMPLES)
    for side, power in ((above, 1.0), (below, -1.0)):
        samples = [np.asarray(side[number], float) for number in rounds]
        value *= float(np.median(np.concatenate(samples))) ** power
        draws *= _medians(_resampled(samples, chosen, generator)) ** power
    low, high = np.quantile(draws, [(1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0])
    return Ratio(value, float(low), float(high))


def _resampled(samples: Sequence[Array], chosen: Array, generator: np.random.Generator) -> Array:
    """Samples drawn from the chosen rounds (resamples, rounds), one resample a row; nan where a round has fewer."""
    longest = max(len(one) for one in samples)
    drawn = np.full((*chosen.shape, longest), np.nan)
    for number, one in enumerate(samples):
        places = chosen == number
        drawn[places, : len(one)] = generator.choice(one, (int(places.sum()), len(one)))
    return drawn.reshape(len(chosen), -1)


def _medians(rows: Array) -> Array:
    """The median of the numbers of each row; NumPy's own that skips nan is slow."""
    ordered, counts = np.sort(rows, axis=1), np.count_nonzero(~np.isnan(rows), axis=1)
    places = np.arange(len(rows))
    medians: Array = 0.5 * (ordered[places, (counts - 1) // 2] + ordered[places, counts // 2])
    return medians


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> Exponent | None:
    """The slope of log cost over log size by least squares; None of fewer than two sizes."""
    if len(set(sizes)) < 2:
        return None
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(costs, float))
    dx = x - x.mean()
    slope = float(dx @ (y - y.mean()) / (dx @ dx))
    if len(x) == 2:
        return Exponent(slope, None, 2)
    residual = y - y.mean() - slope * dx
    error = math.sqrt(float(residual @ residual) / (len(x) - 2) / float(dx @ dx))
    return Exponent(slope, error, len(x))
