"""Texts to train on: tiny Shakespeare from the network, Python's own sources from this machine."""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path

from ..errors import InputError
from ..files import make_folder, replacing
from .download import Progress, Source, download

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SHAKESPEARE_BYTES = 1_115_394
WITHOUT_NETWORK = (
    "Without a network, `twingrad train gpt` without --text trains on Python's own sources, "
    "and `--text FILE` takes any text."
)


def download_shakespeare(folder: Path, progress: Progress = lambda done, total: None) -> Path:
    """The file `tinyshakespeare.txt` in `folder`, downloaded unless it is there.

    Args:
        folder: where to put it; made if need be.
        progress: called with the bytes received so far and the bytes of the whole.

    Raises InputError where the file is there with other contents, cannot be had, comes with other contents, or cannot
    be written.
    """
    source = Source(
        title="tiny Shakespeare",
        url=SHAKESPEARE_URL,
        size=SHAKESPEARE_BYTES,
        sha256=SHAKESPEARE_SHA256,
        option="--text FILE",
        without_network=WITHOUT_NETWORK,
    )
    return download(source, make_folder(folder) / "tinyshakespeare.txt", progress)


def standard_library(folder: Path) -> Path:
    """The file `python-<version>.txt` in `folder`: the ASCII sources of this Python's top-level modules.

    They stand in the order of their names, each followed by an empty line; the same Python writes the same file.
    Raises InputError where this Python came without sources or the file cannot be written.
    """
    library = Path(sysconfig.get_path("stdlib"))
    try:
        sources = [file.read_bytes() for file in sorted(library.glob("*.py"))]
    except OSError as error:
        raise _no_sources(library, error.strerror or str(error)) from None
    sources = [source for source in sources if source and source.isascii()]
    if not sources:
        raise _no_sources(library, "none")
    file = make_folder(folder) / f"python-{platform.python_version()}.txt"
    with replacing(file) as temporary, temporary.open("wb") as output:
        for source in sources:
            output.write(source if source.endswith(b"\n") else source + b"\n")
            output.write(b"\n")
    return file


def _no_sources(library: Path, found: str) -> InputError:
    expected = "the sources of Python's standard library"
    return InputError(str(library), expected=expected, found=found, hint="`--text FILE` trains on any text.")
