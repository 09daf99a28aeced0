"""Locks by flock(2): of two commands that would write the same, the second is told who is at work.

The kernel frees a lock when its process dies, so that none is ever stale. The same file on the Julia side is
`julia/src/lock.jl`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .errors import InputError

try:
    import fcntl
except ImportError:  # a system without flock
    fcntl = None  # type: ignore[assignment]

WAIT = "Wait until it has ended."
WAIT_OR_ANOTHER_OUT = "Wait until it has ended, or choose another --out."
MOST_BYTES = 2**16
"""How much of a lock file is read."""


@contextmanager
def locked(path: Path, command: str, hint: str = WAIT_OR_ANOTHER_OUT) -> Iterator[None]:
    """Nobody else works on `path` meanwhile, of all commands of both sides that lock it before they write.

    The lock is on a file `.NAME.lock` beside `path`: JSON of `command`, `process`, `host` and `since`, removed at the
    end; what a killed command leaves of it is unlocked. Where the folder is missing or cannot be written to, or its
    file system has no locks, nothing is locked, and the writer's own error says what is wrong.

    Args:
        path: what is written, a file or a folder, which need not be there yet.
        command: who works on it, for others to read.
        hint: what others can do about it.

    Raises InputError at once where somebody else works on it, naming who.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow a link)
    file = path.with_name(f".{path.name}.lock")
    handle = None
    try:
        handle = _taken(file)
        _describe(handle, command)
    except BlockingIOError:
        raise InputError(str(path), expected="nobody else at work on it", found=_holder(file), hint=hint) from None
    except OSError:  # no locks here, or a full disk
        pass
    try:
        yield
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):
                file.unlink()
            os.close(handle)


def try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file; false where another has locked it, unless both share it.

    Raises OSError where there are no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(handle: int, file: Path) -> bool:
    """Whether the open file is the one that now has this name: another process may have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), file.lstat())
    except FileNotFoundError:
        return False


def _taken(file: Path) -> int:
    """The open lock file, locked; raises BlockingIOError where it is another's, OSError where there are no locks."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not try_lock(handle):
                raise BlockingIOError
            if is_at(handle, file):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner has removed it meanwhile


def _describe(handle: int, command: str) -> None:
    holder = {
        "command": command,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    os.ftruncate(handle, 0)
    os.write(handle, json.dumps(holder).encode() + b"\n")


def _holder(file: Path) -> str:
    """Who holds the lock, as far as its file says."""
    try:
        with file.open("rb") as opened:
            holder = json.loads(opened.read(MOST_BYTES))
        command, process, host, since = (holder[name] for name in ("command", "process", "host", "since"))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "another process"
    return f"'{command}' (process {process} on {host}, since {since})"
