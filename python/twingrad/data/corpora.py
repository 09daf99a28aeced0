"""Texts to train on: tiny Shakespeare from the network, Python's own sources from this machine."""

from __future__ import annotations

import hashlib
import http.client
import platform
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..files import make_folder, reading, replacing
from .text import Progress

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SHAKESPEARE_BYTES = 1_115_394
TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 2**16
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
    file = make_folder(folder) / "tinyshakespeare.txt"
    if file.exists():
        _check_shakespeare(file)
        return file
    sha = hashlib.sha256()
    with replacing(file) as temporary, temporary.open("wb") as output:
        done = 0
        for piece in _received():
            sha.update(piece)
            output.write(piece)
            done += len(piece)
            progress(done, SHAKESPEARE_BYTES)
            if done > SHAKESPEARE_BYTES:
                break
        if sha.hexdigest() != SHAKESPEARE_SHA256:
            expected = f"{SHAKESPEARE_BYTES} bytes of SHA-256 {SHAKESPEARE_SHA256}"
            found = f"{done} bytes of SHA-256 {sha.hexdigest()}"
            raise InputError(SHAKESPEARE_URL, expected=expected, found=found, hint=WITHOUT_NETWORK)
    return file


def _check_shakespeare(file: Path) -> None:
    with reading(file), file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != SHAKESPEARE_SHA256:
        hint = "Remove the file to download it again, or use `--text FILE` to train on it as it is."
        expected = f"tiny Shakespeare, SHA-256 {SHAKESPEARE_SHA256}"
        raise InputError(str(file), expected=expected, found=f"SHA-256 {found}", hint=hint)


def _received() -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(SHAKESPEARE_URL, timeout=TIMEOUT_SECONDS) as reply:
            while piece := reply.read(CHUNK_BYTES):
                yield piece
    except urllib.error.HTTPError as error:
        error.close()
        raise _no_download(f"the answer {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _no_download(f"no answer ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _no_download(f"no whole answer ({str(error) or type(error).__name__})") from None


def _no_download(found: str) -> InputError:
    return InputError(SHAKESPEARE_URL, expected="the text of tiny Shakespeare", found=found, hint=WITHOUT_NETWORK)


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
