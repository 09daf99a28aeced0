"""The shared random numbers: known answers, portable functions, data sets."""

import math

import numpy as np
import pytest

from twingrad.data.philox import Stream, fnv1a, philox4x32, portable_circle, portable_log
from twingrad.data.planar import DATASETS, planar
from twingrad.errors import InputError

# Known answers of Random123's test vectors for philox4x32-10: counter, key, output.
KNOWN_ANSWERS = [
    ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter, key, output):
    found = philox4x32(np.array(counter, np.uint64)[:, None], key)
    assert [int(word) for word in found[:, 0]] == output


def test_fnv1a_gives_the_known_answers():
    assert fnv1a("") == 0xCBF29CE484222325
    assert fnv1a("a") == 0xAF63DC4C8601EC8C
    assert fnv1a("foobar") == 0x85944171F73967E8


def test_a_shorter_draw_is_a_prefix_and_streams_differ():
    stream = Stream(2**62 + 3, "some/stream")
    for draw in (stream.words, stream.uniform, stream.normal):
        assert np.array_equal(draw(11), draw(100)[:11])
    assert not np.any(stream.words(50) == Stream(2**62 + 3, "other/stream").words(50))
    assert not np.any(stream.words(50) == Stream(3, "some/stream").words(50))


PINNED_WORDS = [6499395782972352392, 5978109297376740586]
PINNED_NORMALS = [-0.4183122447342533, 0.8329297227246718, 0.7456842762511856]


def test_numbers_are_what_format_md_pins():
    """Values that were drawn once and must never change: files of other machines depend on them."""
    stream = Stream(1, "donut2d/train/noise")
    assert [int(word) for word in stream.words(2)] == PINNED_WORDS
    assert stream.normal(3).tolist() == PINNED_NORMALS


def test_uniform_and_normal_are_distributed_as_named():
    u, z = Stream(4, "u").uniform(200_000), Stream(4, "z").normal(200_000)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 1 / 2) < 0.003
    assert abs(u.var() - 1 / 12) < 0.001
    assert abs(z.mean()) < 0.01
    assert abs(z.var() - 1) < 0.02
    assert abs((z**4).mean() - 3) < 0.1
    assert abs(np.mean(np.abs(z) < 1) - math.erf(1 / math.sqrt(2))) < 0.004


def test_portable_functions_are_accurate():
    u = np.concatenate([Stream(1, "log").uniform(10_000) + 2.0**-53, [2.0**-53, 0.5, 1.0, math.sqrt(0.5)]])
    assert np.all(np.abs(portable_log(u) - np.log(u)) <= 1e-15 * np.maximum(np.abs(np.log(u)), 1e-3))
    turns = np.concatenate([Stream(1, "turns").uniform(10_000), [0.0, 0.125, 0.25, 0.5, 0.75, 1 - 2.0**-53]])
    cos, sin = portable_circle(turns)
    assert np.abs(cos - np.cos(2 * np.pi * turns)).max() < 1e-15
    assert np.abs(sin - np.sin(2 * np.pi * turns)).max() < 1e-15


@pytest.mark.parametrize("dataset", DATASETS)
def test_data_sets_are_as_described(dataset):
    x, c = planar(dataset, "train", 3000, seed=5)
    assert x.shape == (3000, 2)
    assert set(c) == {0.0, 1.0}
    share = 1 / 3 if dataset == "donut1d" else 1 / 2
    assert abs(c.mean() - share) < 0.03
    radius = np.hypot(*x.T)
    if dataset.startswith("donut"):
        assert abs(radius[c == 0].mean() - 0.5) < 0.05
        assert radius[c == 1].mean() < 0.25
    if dataset == "donut1d":
        assert abs(x[:, 1].std() - 0.1) < 0.01
    if dataset == "squares2d":
        assert np.mean((x[:, 0] * x[:, 1] > 0) == (c == 1)) > 0.75
    if dataset == "spiral2d":
        assert abs(radius.max() - 1) < 0.25
    assert not np.array_equal(x, planar(dataset, "test", 3000, seed=5)[0])
    assert np.array_equal(planar(dataset, "train", 10, seed=5, d=4)[0][:, :2], x[:10])
    assert np.all(planar(dataset, "train", 10, seed=5, d=4)[0][:, 2:] == 0)


def test_unknown_data_set_lists_the_known_ones():
    with pytest.raises(InputError, match="donut1d, donut2d, squares2d, spiral2d, found 'donut3d'"):
        planar("donut3d", "train", 10, seed=1)
