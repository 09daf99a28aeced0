"""Images with labels, which stay on the disk: MNIST, Fashion-MNIST, CIFAR-10, and digits that need no download.

Specified in `shared_fixtures/FORMAT.md`, "Images"; the same file on the Julia side is `julia/src/data/images.jl`, and
both write the same images file byte for byte.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, one_of
from ..files import make_folder, replacing
from ..paths import shared_fixtures

Bytes = NDArray[np.uint8]
Files = tuple[Path, ...]
Pieces: TypeAlias = Iterator[tuple[Bytes, Bytes]]

CLASSES = 10  # of every data set here
CHUNK_IMAGES = 1024
IDX_BYTES = 0x800  # the magic number of an IDX file of bytes is this and how many axes it has
CIFAR_PIXELS = 3 * 32 * 32
DIGITS_MOST = 16  # the digits' largest value: how many points of a 4 × 4 block are ink


@dataclass(frozen=True)
class ImageKind:
    """A data set that `open_images` knows.

    Args:
        name: what it is called.
        shape: (C, H, W) of an image.
        mean: of each channel over the training images, of bytes divided by 255.
        std: likewise, the standard deviation.
        classes: names of the labels 0, 1, ...
        flip: whether an image's mirror image may stand for it in training.
        train: names of the files of the training images.
        test: likewise, of the test images.
        count: how many images files of such names hold.
        pieces: their pixels (m, ...) and labels (m,), in order.
        folder: where in a folder the files may lie too.
        packed: whether the files may be packed, with the ending .gz.
    """

    name: str
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    flip: bool
    train: tuple[str, ...]
    test: tuple[str, ...]
    count: Callable[[Files], int]
    pieces: Callable[[Files], Pieces]
    folder: str = ""
    packed: bool = True


@dataclass(frozen=True)
class Images:
    """Images with labels, the training images first.

    Args:
        kind: the data set they are from: name, shape, mean, std, classes, flip.
        images: (n, C, H, W) uint8, read-only and mapped from the disk.
        labels: (n,) uint8, likewise.
        train: how many are training images.
        digest: SHA-256 of the images file: of the bytes of `images`, then of `labels`.
    """

    kind: ImageKind
    images: Bytes
    labels: Bytes
    train: int
    digest: str

    def split(self, name: str) -> tuple[Bytes, Bytes]:
        """Images and labels of the "train" or the "test" part, views of all; raises InputError for another name."""
        places = {"train": slice(None, self.train), "test": slice(self.train, None)}
        if name not in places:
            raise InputError("split", expected=one_of(places), found=repr(name))
        return self.images[places[name]], self.labels[places[name]]


def open_images(place: Path | None, folder: Path, name: str | None = None) -> Images:
    """The images in a folder, at constant memory.

    Args:
        place: the folder with the data set's files; the digits in this repository where it is None.
        folder: where the images file is kept and found again; made if need be.
        name: a name in `IMAGE_KINDS`; told by the files where it is None. Files of MNIST and of Fashion-MNIST have the
            same names: they are Fashion-MNIST's where `place` has "fashion" in its name.

    Raises InputError for a place that is missing, unreadable or without such files or with those of several data sets,
    for files that are incomplete, damaged or of other sizes, for a label without a class, for an unknown name, and
    where `folder` cannot be written to.
    """
    if name is not None and name not in IMAGE_KINDS:
        raise InputError("images", expected=one_of(IMAGE_KINDS), found=repr(name))
    place = shared_fixtures() / "digits" if place is None else Path(place)
    kind = _told_kind(place) if name is None else IMAGE_KINDS[name]
    parts = [files for files in (_part(place, kind, kind.train), _part(place, kind, kind.test)) if files]
    if not parts:
        expected = f"a folder with {(kind.train + kind.test)[0]} and so on"
        raise InputError(str(place), expected=expected, found=f"none of the files of {kind.name}")
    counts = [kind.count(files) for files in parts]
    n = sum(counts)
    if n < 2:
        raise InputError(str(parts[0][0]), expected="at least 2 images", found=str(n))
    sources = [file for files in parts for file in files]
    source_digest = _digest_of_files(sources)
    images_file = Path(folder) / f"images-{source_digest[:16]}.bin"
    train = counts[0] if len(parts) == 2 else 4 * n // 5
    description = {
        "format": "twingrad-images",
        "format_version": 1,
        "source_digest": source_digest,
        "shape": [n, *kind.shape],
        "train": train,
    }
    digest = _kept_digest(images_file, description)
    if digest is None:
        pieces = chain.from_iterable(kind.pieces(files) for files in parts)
        digest = _keep(images_file, description, sources, pieces)
    images, labels = _mapped(images_file, (n, *kind.shape))
    return Images(kind, images, labels, train, digest)


# ---- which files


def _told_kind(place: Path) -> ImageKind:
    """The data set whose files lie in a folder."""

    def has_files(kind: ImageKind) -> bool:
        return bool(_part(place, kind, kind.train) or _part(place, kind, kind.test))

    names = [name for name, kind in IMAGE_KINDS.items() if has_files(kind)]
    if names == ["mnist", "fashion-mnist"]:
        return IMAGE_KINDS["fashion-mnist" if "fashion" in place.name.lower() else "mnist"]
    if len(names) == 1:
        return IMAGE_KINDS[names[0]]
    if names:
        raise InputError(str(place), expected="the files of one data set", found=f"those of {' and '.join(names)}")
    raise InputError(
        str(place),
        expected="a folder with images",
        found="no file of " + ", ".join(IMAGE_KINDS),
        hint="IDX files are named train-images-idx3-ubyte, t10k-labels-idx1-ubyte and so on, also with .gz; "
        "CIFAR-10's binary files data_batch_1.bin and so on.",
    )


def _part(place: Path, kind: ImageKind, names: tuple[str, ...]) -> Files:
    """The files of one part of a data set: none, or all; raises InputError where only some are there."""
    with _reading(place):
        if not place.is_dir():
            found = "a file" if place.exists() else "no such folder"
            raise InputError(str(place), expected="a folder with images", found=found)
        files = [_file(place, kind, f"{kind.name}-{file}") or _file(place, kind, file) for file in names]
    if not any(files):
        return ()
    for file, there in zip(names, files, strict=True):
        if there is None:
            others = ", ".join(other.name for other in files if other is not None)
            raise InputError(str(place), expected=f"{file} beside {others}", found="no such file")
    return tuple(file for file in files if file is not None)


def _file(place: Path, kind: ImageKind, name: str) -> Path | None:
    for folder in (place, place / kind.folder):
        for ending in ("", ".gz") if kind.packed else ("",):
            file = folder / f"{name}{ending}"
            if file.is_file():
                return file
    return None


# ---- reading them


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except EOFError:
        raise InputError(str(file), expected="a whole gzip file", found="one that is cut short") from None
    except (gzip.BadGzipFile, zlib.error):
        raise InputError(str(file), expected="a whole gzip file", found="a damaged one") from None
    except OSError as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise InputError(str(file), expected="a readable file", found=found) from None


class _Source:
    """The bytes of a file in order, unpacked where its name ends in .gz; every error names the file."""

    def __init__(self, file: Path) -> None:
        self.file, self._done = file, 0
        with _reading(file):
            packed = file.suffix == ".gz"
            self._opened: io.BufferedIOBase = gzip.open(file) if packed else file.open("rb")  # noqa: SIM115

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def take(self, count: int, whole: int) -> bytes:
        """The next `count` bytes of at least `whole`."""
        with _reading(self.file):
            data = self._opened.read(count)
        self._done += len(data)
        if len(data) < count:
            raise InputError(str(self.file), expected=f"{whole} bytes", found=f"{self._done} bytes")
        return data

    def end(self) -> None:
        """Check that there is nothing more."""
        with _reading(self.file):
            more = self._opened.read(1)
        if more:
            raise InputError(str(self.file), expected=f"{self._done} bytes", found="more")


@contextmanager
def _idx(files: Files, side: int = 28) -> Iterator[tuple[_Source, _Source, int]]:
    """An IDX file of images of side × side pixels and one of their labels, behind their headers, and how many."""
    with _Source(files[0]) as images, _Source(files[1]) as labels:
        n, *pixels = _idx_header(images, 3)
        if pixels != [side, side]:
            found = f"{pixels[0]} x {pixels[1]}"
            raise InputError(str(files[0]), expected=f"images of {side} x {side} pixels", found=found)
        (count,) = _idx_header(labels, 1)
        if count != n:
            raise InputError(str(files[1]), expected=f"{n} labels, as many as images", found=str(count))
        yield images, labels, n


def _idx_header(source: _Source, axes: int) -> list[int]:
    size, magic = 4 + 4 * axes, IDX_BYTES + axes
    found, *sizes = struct.unpack(f">{1 + axes}I", source.take(size, size))
    if found != magic:
        expected = f"magic number {magic} of an IDX file of {'images' if axes == 3 else 'labels'}"
        raise InputError(str(source.file), expected=expected, found=str(found))
    return sizes


def _idx_count(files: Files, side: int = 28) -> int:
    with _idx(files, side) as (_, _, n):
        return n


def _idx_pieces(files: Files, side: int = 28) -> Pieces:
    with _idx(files, side) as (images, labels, n):
        for first in range(0, n, CHUNK_IMAGES):
            m = min(CHUNK_IMAGES, n - first)
            pixels = np.frombuffer(images.take(m * side**2, 16 + n * side**2), np.uint8)
            classes = np.frombuffer(labels.take(m, 8 + n), np.uint8)
            _check_labels(files[1], classes, first)
            yield pixels.reshape(m, side, side), classes
        images.end()
        labels.end()


def _digits_pieces(files: Files) -> Pieces:
    for pixels, labels in _idx_pieces(files, 8):
        if pixels.max() > DIGITS_MOST:
            raise InputError(str(files[0]), expected=f"values from 0 to {DIGITS_MOST}", found=str(pixels.max()))
        yield resized_digits(pixels), labels


def _cifar_count(files: Files) -> int:
    return sum(_cifar_records(file) for file in files)


def _cifar_records(file: Path) -> int:
    with _reading(file):
        size = file.stat().st_size
    if size == 0 or size % (1 + CIFAR_PIXELS):
        expected = f"records of {1 + CIFAR_PIXELS} bytes, a label and 3 x 32 x 32 pixels"
        raise InputError(str(file), expected=expected, found=f"{size} bytes")
    return size // (1 + CIFAR_PIXELS)


def _cifar_pieces(files: Files) -> Pieces:
    for file in files:
        n, record = _cifar_records(file), 1 + CIFAR_PIXELS
        with _Source(file) as source:
            for first in range(0, n, CHUNK_IMAGES):
                m = min(CHUNK_IMAGES, n - first)
                records = np.frombuffer(source.take(m * record, n * record), np.uint8).reshape(m, record)
                _check_labels(file, records[:, 0], first)
                yield records[:, 1:], records[:, 0]


def _check_labels(file: Path, labels: Bytes, first: int) -> None:
    wrong = np.flatnonzero(labels >= CLASSES)
    if wrong.size:
        found = f"{labels[wrong[0]]} of image {first + wrong[0]}, counted from 0"
        raise InputError(str(file), expected=f"labels from 0 to {CLASSES - 1}", found=found)


def resized_digits(digits: Bytes) -> Bytes:
    """Digits (m, 8, 8) of values 0 .. 16 as images (m, 28, 28) of bytes, bilinear between the centres of the pixels.

    Along an axis, pixel X lies at (4X − 5)/14 of the small image, or on its border where that is outside.
    """
    low, part = np.divmod(np.clip(4 * np.arange(28) - 5, 0, 14 * 7), 14)
    high, small = np.minimum(low + 1, 7), digits.astype(np.int64)
    rows = (14 - part)[:, None] * small[:, low] + part[:, None] * small[:, high]  # (m, 28, 8), times 14
    sums = (14 - part) * rows[:, :, low] + part * rows[:, :, high]  # (m, 28, 28), times 14²
    most = 14**2 * DIGITS_MOST
    return ((2 * 255 * sums + most) // (2 * most)).astype(np.uint8)


# ---- the images file


def _digest_of_files(files: list[Path]) -> str:
    sha = hashlib.sha256()
    for file in files:
        with _reading(file), file.open("rb") as opened:
            sha.update(f"{file.name}={hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return sha.hexdigest()


def _kept_digest(images_file: Path, description: dict[str, Any]) -> str | None:
    """The images file's digest where it and its description are there, whole, and of these files."""
    try:
        found = json.loads(images_file.with_suffix(".json").read_bytes())
        with images_file.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, RecursionError):
        return None
    return digest if found == {**description, "digest": digest} else None


def _keep(images_file: Path, description: dict[str, Any], sources: list[Path], pieces: Pieces) -> str:
    """Write the images file, then its description; the file's digest."""
    make_folder(images_file.parent)
    sha, all_labels = hashlib.sha256(), bytearray()
    with replacing(images_file) as temporary, temporary.open("wb") as file:
        for pixels, labels in pieces:
            data = pixels.tobytes()
            sha.update(data)
            file.write(data)
            all_labels += labels.tobytes()
        sha.update(all_labels)
        file.write(all_labels)
        if _digest_of_files(sources) != description["source_digest"]:
            expected, found = "files that stay as they are while they are read", "other bytes at the second reading"
            raise InputError(str(sources[0].parent), expected=expected, found=found)
    with replacing(images_file.with_suffix(".json")) as temporary:
        temporary.write_bytes(json.dumps({**description, "digest": sha.hexdigest()}).encode())
    return sha.hexdigest()


def _mapped(file: Path, shape: tuple[int, ...]) -> tuple[Bytes, Bytes]:
    with _reading(file):
        data = np.memmap(file, np.uint8, mode="r")
    n = shape[0]
    return data[:-n].reshape(shape), data[-n:]


# ---- the data sets

IDX_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
IDX_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DIGITS = tuple("0123456789")

# Means and standard deviations: of MNIST, Fashion-MNIST and CIFAR-10 as they are commonly used, which are those of the
# 60,000 or 50,000 training images; of the digits, over their training images as `resized_digits` gives them.
KINDS = (
    ImageKind(
        name="mnist",
        shape=(1, 28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        classes=DIGITS,
        flip=False,
        train=IDX_TRAIN,
        test=IDX_TEST,
        count=_idx_count,
        pieces=_idx_pieces,
    ),
    ImageKind(
        name="fashion-mnist",
        shape=(1, 28, 28),
        mean=(0.2860,),
        std=(0.3530,),
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        flip=True,
        train=IDX_TRAIN,
        test=IDX_TEST,
        count=_idx_count,
        pieces=_idx_pieces,
    ),
    ImageKind(
        name="cifar10",
        shape=(3, 32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        flip=True,
        train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test=("test_batch.bin",),
        count=_cifar_count,
        pieces=_cifar_pieces,
        folder="cifar-10-batches-bin",
        packed=False,
    ),
    ImageKind(
        name="digits",
        shape=(1, 28, 28),
        mean=(0.3054,),
        std=(0.3238,),
        classes=DIGITS,
        flip=False,
        train=("digits-images-idx3-ubyte", "digits-labels-idx1-ubyte"),
        test=(),
        count=partial(_idx_count, side=8),
        pieces=_digits_pieces,
    ),
)
IMAGE_KINDS = {kind.name: kind for kind in KINDS}
