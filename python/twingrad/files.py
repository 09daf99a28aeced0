"""Files: written so that no reader ever sees half of one, and what the system refuses told as an InputError."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError
from .lock import is_at, try_lock

PART = ".part"
"""How the names of temporary files end."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; it becomes `path` at the end, and is removed if the writing fails.

    What writers of `path` left behind that were killed is removed first. Raises InputError where the folder cannot be
    written to.
    """
    path = Path(path)
    try:
        _remove_abandoned(path)
        handle, temporary = _new_part(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _new_part(path: Path) -> tuple[int, Path]:
    """A new temporary file beside `path`, kept open and locked, and its name.

    The lock is a shared one: whoever reads the file by its final name may lock it so too, as the HDF5 library does.
    """
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        try:
            is_mine = try_lock(handle, shared=True)
        except OSError:  # a file system without locks, where nobody takes it for abandoned
            is_mine = True
        if is_mine and is_at(handle, Path(name)):
            return handle, Path(name)
        os.close(handle)  # another process has removed it before it was locked


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files that killed writers of `path` have left behind.

    It takes nothing from a writer at work, in whichever process and language: that one keeps its file locked, and the
    kernel frees the lock when it dies. So what can be locked here is nobody's.
    """
    for file in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
        with contextlib.suppress(OSError):
            handle = os.open(file, os.O_RDWR)
            try:
                if try_lock(handle):
                    file.unlink()
            finally:
                os.close(handle)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Around what reads `file`: raises InputError where the system refuses."""
    try:
        yield
    except OSError as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise InputError(str(file), expected="a readable file", found=found) from None


def read_json(file: Path, expected: str = "JSON") -> Any:
    """What the JSON in a file says; raises InputError naming what was `expected` where it cannot be read or is none."""
    with reading(file):
        data = file.read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(str(file), expected=expected, found=f"something else ({error})") from None


def make_folder(folder: Path) -> Path:
    """The folder, made if need be; raises InputError where that cannot be."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(str(folder), expected="a folder to write to", found=error.strerror or str(error)) from None
    return folder


def remove(file: Path) -> None:
    """Remove a file, if it is there; raises InputError where that cannot be."""
    try:
        Path(file).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(str(file), expected="a file to remove", found=error.strerror or str(error)) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(str(path), expected="a place to write to", found=error.strerror or str(error))
