"""Images: the files they come in, the images file, splits, batches, augmentation, and where they come from."""

import gzip
import hashlib
import http.server
import io
import json
import os
import re
import struct
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from twingrad.data import image_corpora, images
from twingrad.data.download import Source
from twingrad.data.image_batches import (
    TrainingOrder,
    augment,
    epoch_order,
    evaluation_batch,
    pixel_values,
    training_batch,
)
from twingrad.data.image_corpora import SOURCES, download_images
from twingrad.data.images import IMAGE_KINDS, open_images, resized_digits
from twingrad.data.philox import Stream
from twingrad.errors import InputError
from twingrad.paths import shared_fixtures

# What `julia/test/images.jl` pins too.
MNIST_DIGEST = "22eaf118d09a5e5cbea545772237201ed6ea821ca9103d1fee56729eb868ac1c"
MNIST_SOURCE_DIGEST = "59cfce3f69e9d6de5c0e3717564106ff95f5b060eb82bf31da058c5a00cc67e5"
CIFAR_DIGEST = "d68d5ab54e37e38e1386cd66dddb9f5ec4e79af28f39eb7a00a1ea9fe0d60f89"
DIGITS_DIGEST = "1756cecd7142a0f5ab5ee83a4ed11de461fc9f55d3ae50ec42dfb5a14890510f"
PINNED_PLACES = [  # n, seed, first, places of the eight samples from there on
    (5, 3, 0, [1, 2, 4, 3, 0, 3, 2, 0]),
    (5, 3, 3, [3, 0, 3, 2, 0, 1, 4, 4]),
    (1437, 1, 10**12, [236, 1413, 241, 385, 1111, 1176, 941, 1090]),
    (60000, 2**63 - 1, 59996, [5434, 32153, 11815, 38163, 48068, 14424, 52083, 13878]),
]
MNIST_PIXELS = "3b45ce3634e1c15c667ed65af68c67b8d98cd9dbe6beb0fd92eee1e1d7488039"
MNIST_CROPS = "ad333e73ebce441eb3fa70e17b66c8cfa72b87628628cdf92280babb641cdff1"
CIFAR_CROPS = "51bbbeb17928624a975be93232acebd38a55c1cd7181e15f160c1db09892a1d4"
DIGITS_CROPS = "cd72705a23b4aa9dac00020644e514b404b6950fea48d42b1f6f1f5e39900ad2"
PINNED_BATCHES = [  # data set, first, count, dtype, pad, flip, SHA-256 of the pixels, labels; seed 6
    ("mnist", 4, 6, "float32", 0, False, MNIST_PIXELS, [1, 5, 0, 0, 1, 5]),
    ("mnist", 4, 6, "float64", 3, False, MNIST_CROPS, [1, 5, 0, 0, 1, 5]),
    ("cifar10", 10**9, 5, "float32", 4, True, CIFAR_CROPS, [0, 7, 6, 9, 8]),
    ("digits", 1430, 9, "float32", 2, True, DIGITS_CROPS, [5, 8, 9, 9, 1, 3, 7, 0, 6]),
]
# Of the real MNIST test images, see test_real_mnist.
REAL_MNIST_DIGEST = "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b"

TRAIN, TEST = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)


def drawn(use, count):
    return Stream(1, f"test/{use}").words(count)


def idx(*sizes, data):
    return struct.pack(f">{1 + len(sizes)}I", 0x800 + len(sizes), *sizes) + bytes(data)


def idx_files(use, n):
    """The bytes of an IDX file of n images, and of one of their labels."""
    pixels, labels = drawn(f"{use}/images", 784 * n) % 256, drawn(f"{use}/labels", n) % 10
    return idx(n, 28, 28, data=pixels.astype(np.uint8)), idx(n, data=labels.astype(np.uint8))


def write_mnist(folder, prefix="", ending="", parts=(("train", 7, TRAIN), ("test", 3, TEST))):
    """Seven training images and three test images."""
    folder.mkdir(parents=True, exist_ok=True)
    for use, n, names in parts:
        for name, data in zip(names, idx_files(use, n), strict=True):
            (folder / f"{prefix}{name}{ending}").write_bytes(gzip.compress(data) if ending else data)
    return folder


def write_cifar(folder):
    """Two training images in each file, and three test images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, n in [*((f"data_batch_{i}.bin", 2) for i in range(1, 6)), ("test_batch.bin", 3)]:
        records = (drawn(name, 3073 * n) % 256).astype(np.uint8).reshape(n, 3073)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
    return folder


@pytest.fixture
def mnist(tmp_path):
    return write_mnist(tmp_path / "mnist")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data sets that the batches are pinned of."""
    folder = tmp_path_factory.mktemp("images")
    return {
        "mnist": open_images(write_mnist(folder / "mnist"), folder),
        "cifar10": open_images(write_cifar(folder / "cifar"), folder),
        "digits": open_images(None, folder),
    }


# ---- files and the images file


@pytest.mark.parametrize(
    ("folder", "prefix", "ending", "name"),
    [
        ("a", "", "", "mnist"),
        ("a", "", ".gz", "mnist"),
        ("a", "mnist-", ".gz", "mnist"),
        ("Fashion/mnist", "", "", "mnist"),
        ("FashionMNIST", "", "", "fashion-mnist"),
        ("a", "fashion-mnist-", ".gz", "fashion-mnist"),
    ],
)
def test_mnist_is_what_the_julia_side_pins(tmp_path, folder, prefix, ending, name):
    found = open_images(write_mnist(tmp_path / folder, prefix, ending), tmp_path / "b" / "cache")
    assert (found.kind.name, found.digest, found.train) == (name, MNIST_DIGEST, 7)
    assert (found.images.shape, found.labels.shape) == ((10, 1, 28, 28), (10,))
    assert isinstance(found.images, np.memmap)
    assert not found.images.flags.writeable
    for part, n in [("train", 7), ("test", 3)]:
        pixels, labels = found.split(part)
        assert (idx(n, 28, 28, data=pixels.tobytes()), idx(n, data=labels)) == idx_files(part, n)
        assert np.shares_memory(pixels, found.images)


def test_images_file_is_as_the_format_says(mnist, tmp_path):
    found = open_images(mnist, tmp_path)
    lines = [f"{name}={hashlib.sha256((mnist / name).read_bytes()).hexdigest()}\n" for name in TRAIN + TEST]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == MNIST_SOURCE_DIGEST
    data, description = tmp_path / f"images-{MNIST_SOURCE_DIGEST[:16]}.bin", f"images-{MNIST_SOURCE_DIGEST[:16]}.json"
    assert data.read_bytes() == found.images.tobytes() + found.labels.tobytes()
    assert json.loads((tmp_path / description).read_bytes()) == {
        "format": "twingrad-images",
        "format_version": 1,
        "source_digest": MNIST_SOURCE_DIGEST,
        "shape": [10, 1, 28, 28],
        "train": 7,
        "digest": hashlib.sha256(data.read_bytes()).hexdigest(),
    }


def test_a_name_that_is_given_counts_and_a_packed_file_comes_second(mnist, tmp_path):
    for name in TRAIN:
        (mnist / f"{name}.gz").write_bytes(b"no gzip")
    assert open_images(mnist, tmp_path, "fashion-mnist").kind is IMAGE_KINDS["fashion-mnist"]
    assert open_images(mnist, tmp_path, "fashion-mnist").digest == MNIST_DIGEST


@pytest.mark.parametrize("part", [("train", 7, TRAIN), ("test", 7, TEST)])
def test_one_part_alone_is_split(tmp_path, part):
    found = open_images(write_mnist(tmp_path, parts=[part]), tmp_path)
    assert found.train == 5
    assert [found.split(name)[1].size for name in ("train", "test")] == [5, 2]
    with pytest.raises(InputError, match=r"^split: expected one of train, test, found 'validation'"):
        found.split("validation")


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin"])
def test_cifar10_is_what_the_julia_side_pins(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(images, "CHUNK_IMAGES", 2)
    write_cifar(tmp_path / "place" / folder)
    found = open_images(tmp_path / "place", tmp_path)
    assert (found.kind.name, found.digest, found.train) == ("cifar10", CIFAR_DIGEST, 10)
    assert found.images.shape == (13, 3, 32, 32)
    test = np.frombuffer((tmp_path / "place" / folder / "test_batch.bin").read_bytes(), np.uint8).reshape(3, 3073)
    pixels, labels = found.split("test")
    assert np.array_equal(labels, test[:, 0])
    assert np.array_equal(pixels[:, 1].reshape(3, 1024), test[:, 1025:2049])


def test_digits_are_what_the_julia_side_pins(data):
    digits = data["digits"]
    assert (digits.kind.name, digits.digest, digits.train) == ("digits", DIGITS_DIGEST, 1437)
    assert digits.images.shape == (1797, 1, 28, 28)
    train, labels = digits.split("train")
    assert np.bincount(labels).tolist() == [143, 146, 142, 146, 144, 145, 144, 143, 141, 143]
    assert (round((train / 255).mean(), 4), round((train / 255).std(), 4)) == digits.kind.mean + digits.kind.std


def unpacked_digits():
    folder = shared_fixtures() / "digits"
    return [gzip.decompress((folder / f"{name}.gz").read_bytes()) for name in IMAGE_KINDS["digits"].train]


def test_digits_are_enlarged_like_torch_does(data):
    small = np.frombuffer(unpacked_digits()[0], np.uint8)[16:].reshape(1797, 1, 8, 8)
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(small * (255 / 16)), size=(28, 28), mode="bilinear", align_corners=False
    ).numpy()
    assert np.abs(data["digits"].images - exact).max() < 0.5 + 1e-9
    for value in range(17):
        assert np.unique(resized_digits(np.full((1, 8, 8), value, np.uint8))) == [(255 * value * 2 + 16) // 32]


def test_digits_are_those_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    assert unpacked_digits() == [
        idx(1797, 8, 8, data=theirs.images.astype(np.uint8).tobytes()),
        idx(1797, data=theirs.target.astype(np.uint8).tobytes()),
    ]


def test_images_file_is_used_again(mnist, tmp_path):
    open_images(mnist, tmp_path)
    file = tmp_path / f"images-{MNIST_SOURCE_DIGEST[:16]}.bin"
    written = file.stat().st_mtime_ns, file.stat().st_ino
    assert open_images(mnist, tmp_path).digest == MNIST_DIGEST
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written


def changed(entry, value):
    def change(file, description):
        description.write_text(json.dumps({**json.loads(description.read_bytes()), entry: value}), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda file, description: file.unlink(),
        lambda file, description: description.unlink(),
        lambda file, description: file.write_bytes(file.read_bytes()[:-1]),
        lambda file, description: file.write_bytes(b"\1" + file.read_bytes()[1:]),
        lambda file, description: description.write_bytes(b"\xff"),
        lambda file, description: description.write_bytes(b"[1]"),
        changed("format_version", 2),
        changed("shape", [10, 28, 1, 28]),
        changed("train", 6),
        changed("digest", "0" * 64),
        changed("extra", 3),
    ],
)
def test_damaged_images_file_is_written_again(mnist, tmp_path, damage):
    open_images(mnist, tmp_path)
    file = tmp_path / f"images-{MNIST_SOURCE_DIGEST[:16]}.bin"
    whole = file.read_bytes(), file.with_suffix(".json").read_bytes()
    damage(file, file.with_suffix(".json"))
    assert open_images(mnist, tmp_path).digest == MNIST_DIGEST
    assert (file.read_bytes(), file.with_suffix(".json").read_bytes()) == whole


# ---- what is refused

IMAGES, LABELS = TRAIN


def replaced(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def cut(name, count):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:count])


def added(name, data):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + data)


def packed(name, change):
    def damage(folder):
        data = gzip.compress((folder / name).read_bytes(), mtime=0)
        (folder / name).unlink()
        (folder / f"{name}.gz").write_bytes(change(data))

    return damage


@pytest.mark.parametrize(
    ("damage", "where", "message"),
    [
        (cut(IMAGES, 3), IMAGES, "expected 16 bytes, found 3 bytes"),
        (cut(LABELS, 0), LABELS, "expected 8 bytes, found 0 bytes"),
        (cut(IMAGES, -1), IMAGES, "expected 5504 bytes, found 5503 bytes"),
        (cut(LABELS, -1), LABELS, "expected 15 bytes, found 14 bytes"),
        (added(IMAGES, b"\0"), IMAGES, "expected 5504 bytes, found more"),
        (added(LABELS, b"\0"), LABELS, "expected 15 bytes, found more"),
        (replaced(IMAGES, idx(7, data=bytes(20))), IMAGES, "magic number 2051 of an IDX file of images, found 2049"),
        (
            replaced(LABELS, b"\x1f\x8b" + bytes(6)),
            LABELS,
            "magic number 2049 of an IDX file of labels, found 529203200",
        ),
        (replaced(IMAGES, idx(7, 32, 28, data=b"")), IMAGES, "images of 28 x 28 pixels, found 32 x 28"),
        (replaced(LABELS, idx(8, data=bytes(8))), LABELS, "expected 7 labels, as many as images, found 8"),
        (replaced(LABELS, idx(7, data=[0] * 5 + [10, 9])), LABELS, "labels from 0 to 9, found 10 of image 5, counted"),
        (packed(IMAGES, lambda data: data[:-1]), f"{IMAGES}.gz", "a whole gzip file, found one that is cut short"),
        (packed(IMAGES, lambda data: data[:3000]), f"{IMAGES}.gz", "a whole gzip file, found one that is cut short"),
        (packed(IMAGES, lambda data: data[:-8] + bytes(8)), f"{IMAGES}.gz", "a whole gzip file, found a damaged one"),
        (packed(LABELS, lambda data: b"no gzip"), f"{LABELS}.gz", "a whole gzip file, found a damaged one"),
        (lambda folder: (folder / LABELS).unlink(), "", f"expected {LABELS} beside {IMAGES}, found no such file"),
    ],
)
def test_damaged_idx_files_are_refused(mnist, tmp_path, damage, where, message):
    damage(mnist)
    with pytest.raises(InputError, match=f"^{re.escape(str(mnist / where))}: .*{message}"):
        open_images(mnist, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


@pytest.mark.parametrize(
    ("damage", "where", "message"),
    [
        (cut("data_batch_2.bin", -1), "data_batch_2.bin", "records of 3073 bytes, .*, found 6145 bytes"),
        (cut("test_batch.bin", 0), "test_batch.bin", "records of 3073 bytes, .*, found 0 bytes"),
        (added("data_batch_5.bin", b"\xff" + bytes(3072)), "data_batch_5.bin", "0 to 9, found 255 of image 2, counted"),
        (lambda folder: (folder / "data_batch_3.bin").unlink(), "", "data_batch_3.bin beside data_batch_1.bin, data_b"),
    ],
)
def test_damaged_cifar10_files_are_refused(tmp_path, damage, where, message):
    folder = write_cifar(tmp_path / "cifar")
    damage(folder)
    with pytest.raises(InputError, match=f"^{re.escape(str(folder / where))}: .*{message}"):
        open_images(folder, tmp_path)


def test_digits_of_other_values_are_refused(tmp_path):
    (tmp_path / "digits-images-idx3-ubyte").write_bytes(idx(2, 8, 8, data=[16] * 127 + [17]))
    (tmp_path / "digits-labels-idx1-ubyte").write_bytes(idx(2, data=[0, 1]))
    with pytest.raises(InputError, match="expected values from 0 to 16, found 17"):
        open_images(tmp_path, tmp_path)


def test_folders_without_the_files_of_one_data_set_are_refused(mnist, tmp_path):
    def refused(place, name, message):
        with pytest.raises(InputError, match=message):
            open_images(place, tmp_path, name)

    refused(tmp_path / "missing", None, "missing: expected a folder with images, found no such folder")
    refused(mnist / IMAGES, None, f"{IMAGES}: expected a folder with images, found a file")
    refused(tmp_path, None, "found no file of mnist, fashion-mnist, cifar10, digits. IDX files are named train-images")
    refused(tmp_path, "cifar10", r"with data_batch_1\.bin and so on, found none of the files of cifar10")
    refused(mnist, "emnist", r"^images: expected one of mnist, fashion-mnist, cifar10, digits, found 'emnist'")
    refused(write_cifar(mnist), None, "the files of one data set, found those of mnist and fashion-mnist and cifar10")
    assert open_images(mnist, tmp_path, "cifar10").digest == CIFAR_DIGEST


def test_too_few_images_and_an_unusable_folder_are_refused(mnist, tmp_path):
    with pytest.raises(InputError, match="expected a folder to write to, found File exists"):
        open_images(mnist, mnist / IMAGES)
    for name in TEST:
        (mnist / name).unlink()
    for n in (0, 1):
        (mnist / IMAGES).write_bytes(idx(n, 28, 28, data=bytes(784 * n)))
        (mnist / LABELS).write_bytes(idx(n, data=bytes(n)))
        with pytest.raises(InputError, match=f"expected at least 2 images, found {n}"):
            open_images(mnist, tmp_path)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read and write everything")
def test_images_and_a_folder_without_permission_are_refused(mnist, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(InputError, match="expected a place to write to, found Permission denied"):
        open_images(mnist, tmp_path / "cache")
    (mnist / LABELS).chmod(0)
    with pytest.raises(InputError, match=f"{LABELS}: expected a readable file, found Permission denied"):
        open_images(mnist, tmp_path)


def test_a_full_disk_is_an_input_error_and_leaves_nothing(mnist, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"images-.*: expected a place to write to, found File too large"):
            open_images(mnist, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "cache").iterdir()) == []


def test_files_that_change_while_they_are_read_are_refused(mnist, tmp_path, monkeypatch):
    check = images._check_labels

    def change(file, labels, first):
        check(file, labels, first)
        (mnist / LABELS).write_bytes(idx(7, data=bytes(7)))

    monkeypatch.setattr(images, "_check_labels", change)
    with pytest.raises(InputError, match="found other bytes at the second reading"):
        open_images(mnist, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


# ---- batches


@pytest.mark.parametrize(("n", "seed", "first", "places"), PINNED_PLACES)
def test_training_places_are_what_the_julia_side_pins(n, seed, first, places):
    order = TrainingOrder(n, seed)
    assert order.places(first, 8).tolist() == places
    assert order.places(first + 1, 2).tolist() == places[1:3]
    assert order.places(first, 0).size == 0


def test_every_epoch_takes_every_image_once_in_another_order():
    order = TrainingOrder(11, 4)
    epochs = order.places(0, 33).reshape(3, 11)
    assert np.array_equal(np.sort(epochs), np.tile(np.arange(11), (3, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    for epoch in range(3):
        words = Stream(4, f"batch/images/{epoch}").words(11)
        assert epoch_order(11, 4, epoch).tolist() == sorted(range(11), key=lambda j: (words[j], j))
    with pytest.raises(InputError, match=r"^images: expected at least 1, found 0"):
        TrainingOrder(0, 1)


@pytest.mark.parametrize(("name", "first", "count", "dtype", "pad", "flip", "digest", "labels"), PINNED_BATCHES)
def test_training_batch_is_what_the_julia_side_pins(data, name, first, count, dtype, pad, flip, digest, labels):
    order = TrainingOrder(data[name].train, 6)
    x, c = training_batch(data[name], order, first, count, dtype, pad=pad, flip=flip)
    assert x.dtype == dtype
    assert x.shape == (count, *data[name].kind.shape)
    assert c.dtype == np.int64
    assert c.tolist() == labels
    assert hashlib.sha256(x.tobytes()).hexdigest() == digest


def test_evaluation_batches_are_the_split_in_order(data):
    for name, n in [("train", 10), ("test", 3)]:
        parts = [evaluation_batch(data["cifar10"], name, first, 4) for first in range(0, n, 4)]
        assert [len(labels) for _, labels in parts] == [4] * (n // 4) + [n % 4]
        pixels, labels = data["cifar10"].split(name)
        assert np.array_equal(np.concatenate([labels for _, labels in parts]), labels)
        expected = pixel_values(pixels, data["cifar10"].kind)
        assert np.array_equal(np.concatenate([x for x, _ in parts]), expected)


@pytest.mark.parametrize(("pad", "flip"), [(0, True), (1, False), (4, True), (9, True)])
def test_augmentation_is_its_definition(pad, flip):
    batch = (drawn("augment", 9 * 2 * 5 * 6) % 255 + 1).astype(np.uint8).reshape(9, 2, 5, 6)
    crops = augment(batch, 8, 10**10, pad, flip)
    for i, word in enumerate(int(word) for word in Stream(8, "augment").words(9, 10**10)):
        right, down = word // 2 % 2**31 % (2 * pad + 1) - pad, word // 2**32 % (2 * pad + 1) - pad
        for c, y, x in np.ndindex(2, 5, 6):
            row, column = y + down, x + right
            inside = 0 <= row < 5 and 0 <= column < 6
            column = 5 - column if flip and word % 2 else column
            assert crops[i, c, y, x] == (batch[i, c, row, column] if inside else 0)
    assert np.array_equal(augment(batch[2:], 8, 10**10 + 2, pad, flip), crops[2:])


def test_no_augmentation_leaves_the_images():
    batch = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4)
    assert np.array_equal(augment(batch, 1, 0, 0, False), batch)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pixels_are_normalised_in_float64_and_then_rounded(dtype):
    for kind in IMAGE_KINDS.values():
        assert len(kind.mean) == len(kind.std) == kind.shape[0]
        assert len(kind.classes) == 10
        batch = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), (1, kind.shape[0], 1, 1))
        found = pixel_values(batch, kind, dtype)
        assert found.dtype == dtype
        for c, mean, std in zip(range(kind.shape[0]), kind.mean, kind.std, strict=True):
            expected = np.array([(byte / 255.0 - mean) / std for byte in range(256)]).astype(dtype)
            assert np.array_equal(found[0, c].ravel(), expected)


# ---- where images come from


def test_sources_are_named_as_the_files_that_are_opened():
    for name in ("mnist", "fashion-mnist"):
        names = [source.url.rpartition("/")[2] for source in SOURCES[name]]
        assert names == [f"{file}.gz" for file in IMAGE_KINDS[name].train + IMAGE_KINDS[name].test]
        assert [source.title.rpartition(" ")[2] for source in SOURCES[name]] == names
    digests = [source.sha256 for sources in SOURCES.values() for source in sources]
    assert len(set(digests)) == 9
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A web server on this machine that stands for the publishers of MNIST and CIFAR-10; `server.files` is settable."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.server.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as served:
        write_mnist(tmp_path / "served", ending=".gz")
        served.files = {f"/{file.name}": file.read_bytes() for file in (tmp_path / "served").iterdir()}
        served.files["/cifar.tar.gz"] = archive(write_cifar(tmp_path / "cifar-10-batches-bin"), "../evil", "extra.bin")

        def sources(*names):
            url = f"http://127.0.0.1:{served.server_port}/"
            checks = [(len(served.files["/" + name]), hashlib.sha256(served.files["/" + name])) for name in names]
            return tuple(
                Source(name, url + name, size, sha.hexdigest(), "--data DIR", "Without a network")
                for name, (size, sha) in zip(names, checks, strict=True)
            )

        served.sources = sources
        monkeypatch.setenv("no_proxy", "*")
        mnist = sources(*(f"{name}.gz" for name in TRAIN + TEST))
        monkeypatch.setattr(image_corpora, "SOURCES", {"mnist": mnist, "cifar10": sources("cifar.tar.gz")})
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def archive(folder, *others):
    """A packed archive of a folder and of other files."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w:gz") as opened:
        opened.add(folder, arcname=folder.name)
        for other in others:
            opened.addfile(tarfile.TarInfo(other), io.BytesIO())
    return output.getvalue()


def test_mnist_is_downloaded_once(server, tmp_path):
    steps = []
    place = download_images("mnist", tmp_path / "data", lambda *step: steps.append(step))
    assert place == tmp_path / "data" / "mnist"
    assert open_images(place, tmp_path).digest == MNIST_DIGEST
    total = sum(len(body) for name, body in server.files.items() if "ubyte" in name)
    assert steps == sorted(steps)
    assert steps[-1] == (total, total)
    server.files = {}
    assert download_images("mnist", tmp_path / "data") == place
    (place / f"{LABELS}.gz").write_bytes(b"other")
    with pytest.raises(InputError, match=rf"{LABELS}\.gz: expected .*Remove the file .* or use `--data DIR` to train"):
        download_images("mnist", tmp_path / "data")
    (place / f"{LABELS}.gz").unlink()
    with pytest.raises(InputError, match=rf"{LABELS}\.gz: .*found the answer 404 Not Found\. Without a network"):
        download_images("mnist", tmp_path / "data")
    with pytest.raises(InputError, match=r"^data: expected one of mnist, cifar10, found 'digits'"):
        download_images("digits", tmp_path / "data")


def test_a_file_with_another_checksum_is_refused(server, tmp_path):
    server.files[f"/{TEST[1]}.gz"] = b"other"
    with pytest.raises(InputError, match=r"bytes of SHA-256 [0-9a-f]{64}, found 5 bytes of SHA-256"):
        download_images("mnist", tmp_path)
    assert len(list((tmp_path / "mnist").iterdir())) == 3


def test_cifar10_is_downloaded_and_unpacked_by_name(server, tmp_path):
    place = download_images("cifar10", tmp_path / "data")
    assert sorted(str(file.relative_to(tmp_path / "data")) for file in (tmp_path / "data").rglob("*.*")) == [
        "cifar10/cifar-10-batches-bin/data_batch_1.bin",
        "cifar10/cifar-10-batches-bin/data_batch_2.bin",
        "cifar10/cifar-10-batches-bin/data_batch_3.bin",
        "cifar10/cifar-10-batches-bin/data_batch_4.bin",
        "cifar10/cifar-10-batches-bin/data_batch_5.bin",
        "cifar10/cifar-10-batches-bin/test_batch.bin",
        "cifar10/cifar.tar.gz",
    ]
    assert open_images(place, tmp_path).digest == CIFAR_DIGEST


@pytest.mark.parametrize(
    "body", [b"no archive", gzip.compress(b"no archive", mtime=0), "empty"], ids=["no archive", "no tar", "empty"]
)
def test_an_archive_without_the_files_is_refused(server, tmp_path, monkeypatch, body):
    (tmp_path / "folder").mkdir()
    server.files["/cifar.tar.gz"] = archive(tmp_path / "folder") if body == "empty" else body
    monkeypatch.setitem(image_corpora.SOURCES, "cifar10", server.sources("cifar.tar.gz"))
    with pytest.raises(
        InputError, match=r"an archive with cifar-10-batches-bin/data_batch_1\.bin and so on, found none"
    ):
        download_images("cifar10", tmp_path / "data")


# ---- the real thing


@pytest.mark.skipif("TWINGRAD_TEST_MNIST" not in os.environ, reason="TWINGRAD_TEST_MNIST names no folder")
def test_real_mnist(tmp_path):
    """A folder with MNIST's test images and no others: their bytes, and means near the training images'."""
    found = open_images(Path(os.environ["TWINGRAD_TEST_MNIST"]), tmp_path)
    assert (found.kind.name, found.images.shape, found.train) == ("mnist", (10000, 1, 28, 28), 8000)
    assert found.digest == REAL_MNIST_DIGEST
    assert np.bincount(found.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = found.images / 255
    assert abs(pixels.mean() - 0.1307) < 0.002
    assert abs(pixels.std() - 0.3081) < 0.003
