"""Which images make a batch, what is done to them, and the numbers a network gets.

Specified in `shared_fixtures/FORMAT.md`, "Images"; the same file on the Julia side is
`julia/src/data/image_batches.jl`, and both give the same batches bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import InputError
from .images import Bytes, ImageKind, Images
from .philox import Stream

Labels = NDArray[np.int64]
Places = NDArray[np.int64]
Pixels = NDArray[Any]

PAD = 4  # He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2


class TrainingOrder:
    """The order in which a training sees n images: all of them in every epoch, shuffled anew."""

    def __init__(self, n: int, seed: int) -> None:
        if n < 1:
            raise InputError("images", expected="at least 1", found=str(n))
        self.n, self.seed = n, seed
        self._epoch, self._order = 0, epoch_order(n, seed, 0)

    def places(self, first: int, count: int) -> Places:
        """Which images samples first .. first + count - 1 of a training are, shape (count,).

        Sample k of all is the one at place k mod batch of iteration k // batch, and at place k mod n of epoch k // n.
        """
        return np.array([self._of_epoch(k // self.n)[k % self.n] for k in range(first, first + count)], np.int64)

    def _of_epoch(self, epoch: int) -> Places:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self.n, self.seed, epoch)
        return self._order


def epoch_order(n: int, seed: int, epoch: int) -> Places:
    """The numbers 0 .. n - 1 in the order of their random words, shape (n,)."""
    return np.argsort(Stream(seed, f"batch/images/{epoch}").words(n), kind="stable")


def training_batch(
    data: Images,
    order: TrainingOrder,
    first: int,
    count: int,
    dtype: DTypeLike = np.float32,
    *,
    pad: int = 0,
    flip: bool = False,
) -> tuple[Pixels, Labels]:
    """Pixels (count, C, H, W) and labels (count,) of samples first .. first + count - 1 of a training.

    `order` is one of `data.train` images; `pad` and `flip` say how to augment.
    """
    images, labels = data.split("train")
    places = order.places(first, count)
    drawn = augment(images[places], order.seed, first, pad, flip)
    return pixel_values(drawn, data.kind, dtype), labels[places].astype(np.int64)


def evaluation_batch(
    data: Images, split: str, first: int, count: int, dtype: DTypeLike = np.float32
) -> tuple[Pixels, Labels]:
    """Pixels (m, C, H, W) and labels (m,) of images first .. first + m - 1 of a split; m < `count` only at its end."""
    images, labels = data.split(split)
    part = slice(first, first + count)
    return pixel_values(images[part], data.kind, dtype), labels[part].astype(np.int64)


def augment(images: Bytes, seed: int, first: int, pad: int = PAD, flip: bool = True) -> Bytes:
    """Samples first, first + 1, ... of a training, images (m, C, H, W) of bytes, each a random crop of itself.

    An image is flipped left to right or not, where `flip`, then gets `pad` zeros on each side, and a part of its first
    size is cut out.
    """
    if pad == 0 and not flip:
        return images
    m, _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    crops = np.empty_like(images)
    for i, word in enumerate(Stream(seed, "augment").words(m, first)):
        flipped, x, y = _crop(int(word), pad)
        image = padded[i, :, :, ::-1] if flip and flipped else padded[i]
        crops[i] = image[:, y : y + height, x : x + width]
    return crops


def _crop(word: int, pad: int) -> tuple[bool, int, int]:
    """Whether to flip, the column and the row where the crop starts."""
    choices = 2 * pad + 1
    return word & 1 == 1, (word >> 1 & 0x7FFFFFFF) % choices, (word >> 32) % choices


def pixel_values(images: Bytes, kind: ImageKind, dtype: DTypeLike = np.float32) -> Pixels:
    """(byte / 255 - mean) / std of images (m, C, H, W), computed in float64 and then rounded to `dtype`."""
    mean, std = np.array(kind.mean)[:, None], np.array(kind.std)[:, None]
    of_byte = ((np.arange(256) / 255.0 - mean) / std).astype(dtype)  # (C, 256)
    values: Pixels = of_byte[np.arange(len(mean))[:, None, None], images]
    return values
