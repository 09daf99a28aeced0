"""The four planar data sets of Benning et al. (J. Comput. Dyn. 6(2), 2019), and initial parameters.

Each number is specified in `shared_fixtures/FORMAT.md`; the same file on the Julia side is
`julia/src/data/planar.jl`, and both give the same arrays bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, one_of
from .philox import Floats, Stream, portable_circle

Draw = Callable[[str], Stream]
Points = tuple[Floats, Floats]


@dataclass(frozen=True)
class PlanarData:
    """A data set: `sample(draw, n)` gives points (n, 2) before noise and labels (n,)."""

    sample: Callable[[Draw, int], Points]
    noise: float


def _donut_radius(draw: Draw, label: Floats) -> Floats:
    return 0.1 * draw("radius").normal(len(label)) + np.where(label == 1.0, 0.0, 0.5)


def _donut1d(draw: Draw, n: int) -> Points:
    label = (np.arange(n) % 3 == 0).astype(np.float64)
    side = np.where(draw("side").uniform(n) < 0.5, -1.0, 1.0)
    return np.stack([side * _donut_radius(draw, label), np.zeros(n)], axis=1), label


def _donut2d(draw: Draw, n: int) -> Points:
    label = (np.arange(n) % 2 == 0).astype(np.float64)
    radius = _donut_radius(draw, label)
    cos, sin = portable_circle(draw("angle").uniform(n))
    return np.stack([radius * cos, radius * sin], axis=1), label


def _squares2d(draw: Draw, n: int) -> Points:
    points = 1.4 * draw("position").uniform(2 * n).reshape(n, 2) - 0.7
    return points, (points[:, 0] * points[:, 1] > 0.0).astype(np.float64)


def _spiral2d(draw: Draw, n: int) -> Points:
    label = (np.arange(n) % 2 == 0).astype(np.float64)
    position = draw("position").uniform(n)
    radius = 0.1 + 0.9 * position
    radius = np.where(label == 1.0, radius, -radius)  # the second arm, turned by π
    cos, sin = portable_circle(position)
    return np.stack([radius * cos, radius * sin], axis=1), label


DATASETS: dict[str, PlanarData] = {
    "donut1d": PlanarData(_donut1d, noise=0.1),
    "donut2d": PlanarData(_donut2d, noise=0.1),
    "squares2d": PlanarData(_squares2d, noise=0.1),
    "spiral2d": PlanarData(_spiral2d, noise=0.05),
}


def planar(dataset: str, split: str, samples: int, seed: int, d: int = 2) -> Points:
    """Draw a data set.

    Args:
        dataset: a name in `DATASETS`.
        split: "train" or "test", which draw from separate streams.
        samples: how many; a smaller draw is a prefix of a larger one.
        seed: 0 <= seed < 2**63.
        d: dimension of the points, at least 2; coordinates past the second are 0.

    Returns:
        Points (samples, d) and labels (samples,) of 0.0 and 1.0, float64.
    """
    if dataset not in DATASETS:
        raise InputError("dataset", expected=one_of(DATASETS), found=repr(dataset))
    if d < 2:
        raise InputError("d", expected="at least 2, the dimension of the data", found=str(d))

    def draw(use: str) -> Stream:
        return Stream(seed, f"{dataset}/{split}/{use}")

    source = DATASETS[dataset]
    points, label = source.sample(draw, samples)
    points = points + source.noise * draw("noise").normal(2 * samples).reshape(samples, 2)
    return np.pad(points, ((0, 0), (0, d - 2))), label


def normal_params(shapes: dict[str, tuple[int, ...]], seed: int, use: str = "init") -> dict[str, Floats]:
    """Standard normal arrays of the given shapes, each from the stream `<use>/<name>`."""
    return {
        name: Stream(seed, f"{use}/{name}").normal(int(np.prod(shape))).reshape(shape) for name, shape in shapes.items()
    }
