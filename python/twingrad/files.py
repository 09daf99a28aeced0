"""Files: written so that no reader ever sees half of one, and what the system refuses told as an InputError."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; it becomes `path` at the end, and is removed if the writing fails.

    Raises InputError where the folder cannot be written to.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise _unwritable(path, error) from None
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(str(path), expected="a place to write to", found=error.strerror or str(error))
