"""Statistics of times against numbers that are known."""

import math

import numpy as np
import pytest

from twingrad.bench.statistics import exponent, quartiles, ratio


def test_quartiles_of_known_samples():
    found = quartiles([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (found.first, found.median, found.third) == (2.0, 3.0, 4.0)
    assert found.spread == pytest.approx(2.0 / 3.0)
    assert quartiles([7.0]).spread == 0.0


def _rounds(generator, median, sigma, *, rounds=3, samples=20, drift=()):
    drift = drift or (1.0,) * rounds
    return {
        number: (drift[number] * median * np.exp(sigma * generator.standard_normal(samples))).tolist()
        for number in range(rounds)
    }


def test_a_ratio_without_noise_is_exact():
    found = ratio({0: [3.0, 3.0], 1: [3.0, 3.0, 3.0]}, {0: [2.0] * 4, 1: [2.0]})
    assert (found.value, found.low, found.high) == (1.5, 1.5, 1.5)


def test_the_value_is_the_ratio_of_the_medians_of_all_samples():
    found = ratio({0: [1.0, 2.0], 1: [9.0]}, {0: [4.0, 4.0], 1: [5.0, 6.0]})
    assert found.value == 2.0 / 4.5
    assert found.low <= found.value <= found.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(100):
        found = ratio(_rounds(generator, 3.0, 0.1), _rounds(generator, 2.0, 0.1))
        covered += found.low <= 1.5 <= found.high
    assert 90 <= covered <= 100


def test_more_samples_make_a_narrower_interval():
    generator = np.random.default_rng(1)
    few, many = (ratio(*(_rounds(generator, 1.0, 0.2, samples=samples) for _ in range(2))) for samples in (10, 1000))
    assert many.high - many.low < 0.3 * (few.high - few.low)


def test_a_machine_that_is_slow_for_a_round_moves_both_sides_together():
    generator, drift = np.random.default_rng(2), (1.0, 1.0, 3.0)
    above, below = _rounds(generator, 2.0, 0.01, drift=drift), _rounds(generator, 1.0, 0.01, drift=drift)
    together = ratio(above, below)
    assert together.high / together.low < 1.05
    shifted = ratio(above, {(number + 1) % 3: samples for number, samples in below.items()})
    assert shifted.high / shifted.low > 2.0, "rounds are drawn in pairs"


def test_the_same_samples_give_the_same_interval():
    above, below = {0: [1.0, 2.0, 3.0]}, {0: [2.0, 2.5, 4.0]}
    assert ratio(above, below) == ratio(above, below)


def test_only_rounds_of_both_sides_count():
    assert ratio({0: [2.0]}, {1: [1.0]}) is None
    assert ratio({0: [2.0], 1: [50.0]}, {0: [1.0]}).value == 2.0


def test_a_power_law_has_its_exponent():
    sizes = [3, 6, 12, 24]
    found = exponent(sizes, [0.01 * size**1.5 for size in sizes])
    assert found.value == pytest.approx(1.5)
    assert found.error == pytest.approx(0.0, abs=1e-12)
    assert found.points == 4


def test_the_standard_error_is_that_of_the_regression():
    """y = 0, 1, 1 at x = 0, 1, 2: slope 1/2, residuals -1/6, 1/3, -1/6, so s² = 1/6 and the error √(s²/2)."""
    found = exponent([1.0, math.e, math.e**2], [1.0, math.e, math.e])
    assert found.value == pytest.approx(0.5)
    assert found.error == pytest.approx(math.sqrt(1 / 12))


def test_two_points_have_no_error_and_one_has_no_exponent():
    assert exponent([1, 2], [1.0, 8.0]).value == pytest.approx(3.0)
    assert exponent([1, 2], [1.0, 8.0]).error is None
    assert exponent([4, 4], [1.0, 2.0]) is None
    assert exponent([], []) is None
