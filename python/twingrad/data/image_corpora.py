"""Images to train on, from the network: MNIST, Fashion-MNIST, CIFAR-10.

The MD5 sums are the publishers' (https://github.com/zalandoresearch/fashion-mnist,
https://www.cs.toronto.edu/~kriz/cifar.html) and, of MNIST, torchvision's. What is checked are SHA-256 sums, as other
projects list them for the same files.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from ..errors import InputError, one_of
from ..files import make_folder, replacing
from .download import Progress, Source, download
from .images import IMAGE_KINDS

WITHOUT_NETWORK = "Without a network, training without --data takes the digits that come with TwinGrad."


def _source(title: str, url: str, size: int, sha256: str) -> Source:
    return Source(title, url, size, sha256, option="--data DIR", without_network=WITHOUT_NETWORK)


def _idx_sources(title: str, url: str, files: dict[str, tuple[int, str]]) -> tuple[Source, ...]:
    return tuple(_source(f"{title}'s {name}", f"{url}/{name}", *check) for name, check in files.items())


SOURCES: dict[str, tuple[Source, ...]] = {
    "mnist": _idx_sources(
        "MNIST",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        {
            "train-images-idx3-ubyte.gz": (
                9_912_422,  # MD5 f68b3c2dcbeaaa9fbdd348bbdeb94873
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            "train-labels-idx1-ubyte.gz": (
                28_881,  # MD5 d53e105ee54ea40749a09fcbcd1e9432
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            "t10k-images-idx3-ubyte.gz": (
                1_648_877,  # MD5 9fb629c4189551a2d022fa330f9573f3
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            "t10k-labels-idx1-ubyte.gz": (
                4_542,  # MD5 ec29112dd5afa0611ce80d1b7f02629c
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        },
    ),
    "fashion-mnist": _idx_sources(
        "Fashion-MNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        {
            "train-images-idx3-ubyte.gz": (
                26_421_880,  # MD5 8d4fb7e6c68d591d4c3dfef9ec88bf0d
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            "train-labels-idx1-ubyte.gz": (
                29_515,  # MD5 25c81989df183df01b3e8a0aad5dffbe
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            "t10k-images-idx3-ubyte.gz": (
                4_422_102,  # MD5 bef4ecab320f06d8554ea6380940ec79
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            "t10k-labels-idx1-ubyte.gz": (
                5_148,  # MD5 bb300cfdad3c16e7a12a480ee83cd310
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        },
    ),
    "cifar10": (
        _source(
            "CIFAR-10, binary version",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            170_052_171,  # MD5 c32a1d4ab5d03f1284b67883e8d87530
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
}


def download_images(name: str, folder: Path, progress: Progress = lambda done, total: None) -> Path:
    """The folder `name` in `folder` with the files of a data set, downloaded unless they are there.

    Args:
        name: "mnist", "fashion-mnist" or "cifar10".
        folder: where to put it; made if need be.
        progress: called with the bytes received so far and the bytes of all files.

    Raises InputError for another name, and where a file is there with other contents, cannot be had, comes with other
    contents, or cannot be written.
    """
    if name not in SOURCES:
        raise InputError("data", expected=one_of(SOURCES), found=repr(name))
    place = make_folder(Path(folder) / name)
    sources, before = SOURCES[name], 0
    total = sum(source.size for source in sources)
    for source in sources:
        file = place / source.url.rpartition("/")[2]
        download(source, file, _from(before, total, progress))
        before += source.size
        progress(before, total)
        if file.name.endswith(".tar.gz"):
            _unpack(file, name, place)
    return place


def _from(before: int, total: int, progress: Progress) -> Progress:
    return lambda done, _: progress(before + done, total)


def _unpack(archive: Path, name: str, place: Path) -> None:
    """Take the data set's files out of an archive, and nothing else."""
    kind = IMAGE_KINDS[name]
    folder = make_folder(place / kind.folder)
    try:
        with tarfile.open(archive) as opened:
            for file in kind.train + kind.test:
                packed = opened.extractfile(f"{kind.folder}/{file}")
                if packed is None:
                    raise KeyError(file)
                with packed, replacing(folder / file) as temporary, temporary.open("wb") as output:
                    shutil.copyfileobj(packed, output)
    except (tarfile.TarError, EOFError, KeyError) as error:
        expected = f"an archive with {kind.folder}/{kind.train[0]} and so on"
        raise InputError(str(archive), expected=expected, found=f"none ({error})") from None
