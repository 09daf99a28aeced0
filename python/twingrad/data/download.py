"""Files from the network, each held against its published checksum."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import reading, replacing

Progress = Callable[[int, int], None]

TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class Source:
    """A file in the network.

    Args:
        title: what it is.
        url: where it is.
        size: how many bytes it has.
        sha256: of its bytes.
        option: the command's option that takes any file in its place.
        without_network: what to do where it cannot be had.
    """

    title: str
    url: str
    size: int
    sha256: str
    option: str
    without_network: str


def download(source: Source, file: Path, progress: Progress = lambda done, total: None) -> Path:
    """`file`, downloaded unless it is there.

    Args:
        source: where to get it.
        file: where to put it; its folder must be there.
        progress: called with the bytes received so far and the bytes of the whole.

    Raises InputError where the file is there with other contents, cannot be had, comes with other contents, or cannot
    be written.
    """
    if file.exists():
        _check(source, file)
        return file
    sha = hashlib.sha256()
    with replacing(file) as temporary, temporary.open("wb") as output:
        done = 0
        for piece in _received(source):
            sha.update(piece)
            output.write(piece)
            done += len(piece)
            progress(done, source.size)
            if done > source.size:
                break
        if sha.hexdigest() != source.sha256:
            expected = f"{source.size} bytes of SHA-256 {source.sha256}"
            found = f"{done} bytes of SHA-256 {sha.hexdigest()}"
            raise InputError(source.url, expected=expected, found=found, hint=source.without_network)
    return file


def _check(source: Source, file: Path) -> None:
    with reading(file), file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != source.sha256:
        hint = f"Remove the file to download it again, or use `{source.option}` to train on it as it is."
        expected = f"{source.title}, SHA-256 {source.sha256}"
        raise InputError(str(file), expected=expected, found=f"SHA-256 {found}", hint=hint)


def _received(source: Source) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(source.url, timeout=TIMEOUT_SECONDS) as reply:
            while piece := reply.read(CHUNK_BYTES):
                yield piece
    except urllib.error.HTTPError as error:
        error.close()
        raise _no_download(source, f"the answer {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _no_download(source, f"no answer ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _no_download(source, f"no whole answer ({str(error) or type(error).__name__})") from None


def _no_download(source: Source, found: str) -> InputError:
    return InputError(source.url, expected=source.title, found=found, hint=source.without_network)
