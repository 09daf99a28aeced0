"""A side as a worker process: requests go in, progress and results come out, failures are told apart.

The protocol is described in `docs/protocol.md`.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from .. import paths
from ..errors import InputError, Interrupted, SideError
from .locate_julia import HOW_TO_GET, find_julia
from .table import Side, side

PROTOCOL = 1
START_SECONDS = 900.0
"""How long a worker may take to say hello. Long, since Julia may have packages to precompile."""
SILENCE_SECONDS = 300.0
"""How long a worker may be silent at a request before it counts as hung."""
STDERR_LINES = 40

KINDS = ("progress", "result", "error")
PR_SET_PDEATHSIG = 1
_LAUNCHER = ThreadPoolExecutor(1, "twingrad-launcher")
"""Starts all workers: the kernel ends a worker with the thread that started it, and this one lives to the end."""

Message = dict[str, Any]


def leave_with_harness() -> None:
    """Have the kernel kill this process, a worker, when the harness dies, even in the middle of a computation.

    For a worker to call before its hello, so that no request can have come before. On Linux alone: elsewhere the end of
    its input, or of its output, tells a worker, when it reads or writes next.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def command_of(of: Side, mutated: str = "") -> list[str]:
    """The command line that starts the side's worker, `mutated` by the planted mistake of that name if there is one.

    Raises InputError where what it needs is missing.
    """
    names = {"python": sys.executable, "root": str(paths.root())}
    if "julia" in of.needs:
        julia = find_julia()
        if julia is None:
            expected = f"Julia, which the side '{of.name}' needs"
            raise InputError("julia", expected=expected, found="none that can be used", hint=HOW_TO_GET)
        names |= {"julia": julia.executable, "julia_project": julia.project}
    parts = [*of.mutated, mutated] if mutated else of.command
    return [part.format(**names) for part in parts]


def is_available(name: str) -> bool:
    """Whether what the side needs is on this machine."""
    return "julia" not in side(name).needs or find_julia() is not None


class Worker:
    """A side's worker process, started at the first request and again after it died at one.

    A worker that cannot even start is not tried again: every further request fails at once with the same message.

    Args:
        name: the side's name.
        threads: threads for the side's linear algebra.
        silence_seconds: how long it may say nothing at a request.
        command: replaces the command line of the table of sides.
        without: environment variables that the process does not inherit.

    Raises from `request`: InputError for bad input, SideError when the side fails.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int = 1,
        silence_seconds: float = SILENCE_SECONDS,
        start_seconds: float = START_SECONDS,
        command: list[str] | None = None,
        without: Collection[str] = (),
    ) -> None:
        self.name, self.threads, self.without = name, threads, without
        self.silence_seconds, self.start_seconds = silence_seconds, start_seconds
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self._messages: queue.Queue[str | None] = queue.Queue()
        self._stderr: collections.deque[str] = collections.deque(maxlen=STDERR_LINES)
        self._readers: list[threading.Thread] = []
        self._number = 0
        self._hello: Message = {}
        self._cannot_start: SideError | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def versions(self) -> Mapping[str, Any]:
        """What computes on this side: language, framework, BLAS, processor, threads. Starts the worker."""
        self._start()
        versions: Mapping[str, Any] = self._hello["versions"]
        return versions

    @property
    def process_id(self) -> int | None:
        """The number of the process; None where none is running."""
        return None if self._process is None else self._process.pid

    def request(
        self, verb: str, arguments: Mapping[str, Any], on_progress: Callable[[Message], None] = lambda _: None
    ) -> Message:
        """Send one request and wait for its result; progress messages go to `on_progress`."""
        self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._number += 1
        try:
            line = json.dumps({"id": self._number, "verb": verb, "arguments": dict(arguments)})
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failed(f"died before the request '{verb}'") from None
        try:
            while True:
                message = self._receive(self.silence_seconds, f"the request '{verb}'")
                if message.get("id") != self._number:
                    raise self._failed(f"answered request {message.get('id')!r} instead of {self._number}")
                kind = next((kind for kind in KINDS if isinstance(message.get(kind), dict)), None)
                if kind is None:
                    raise self._failed(f"sent a message without {', '.join(KINDS)}: {_start_of(str(message))}")
                content: Message = message[kind]
                if kind == "result":
                    return content
                if kind == "error":
                    raise _as_exception(self.name, content)
                on_progress(content)
        except KeyboardInterrupt:
            self.close(at_once=True)
            raise Interrupted from None

    def close(self, at_once: bool = False) -> None:
        """End the process: closing its input asks it to leave; it is killed if it does not."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin:
                process.stdin.close()
        if not at_once:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        if process.poll() is None:
            process.kill()
        process.wait()
        for reader in self._readers:
            reader.join(timeout=10)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        if self._cannot_start is not None:
            raise self._cannot_start
        self.close(at_once=True)
        try:
            self._launch()
        except SideError as error:
            self._cannot_start = error
            raise

    def _launch(self) -> None:
        command = self._command or command_of(side(self.name))
        threads = {f"{name}_NUM_THREADS": str(self.threads) for name in ("OMP", "OPENBLAS", "MKL", "JULIA")}
        inherited = {name: value for name, value in os.environ.items() if name not in self.without}
        environment = inherited | threads | {"TWINGRAD_ROOT": str(paths.root())}
        self._messages, self._stderr = queue.Queue(), collections.deque(maxlen=STDERR_LINES)
        try:
            self._process = process = _LAUNCHER.submit(
                subprocess.Popen,
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=environment,
                start_new_session=True,
            ).result()
        except OSError as error:
            raise SideError(f"side {self.name}: cannot start {command[0]}: {error.strerror}") from None
        self._readers = [
            threading.Thread(target=_read_lines, args=(process.stdout, self._messages.put), daemon=True),
            threading.Thread(target=_read_lines, args=(process.stderr, self._stderr.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        hello = self._receive(self.start_seconds, "its start")
        said = hello.get("hello")
        if not isinstance(said, dict) or said.get("protocol") != PROTOCOL or not isinstance(said.get("versions"), dict):
            raise self._failed(f"expected a hello of protocol {PROTOCOL} with versions, found {_start_of(str(hello))}")
        self._hello = said

    def _receive(self, seconds: float, occasion: str) -> Message:
        try:
            line = self._messages.get(timeout=seconds)
        except queue.Empty:
            raise self._failed(f"hung: nothing for {seconds:g} s during {occasion}") from None
        if line is None:
            assert self._process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
            raise self._failed(f"{_end(self._process.returncode)} during {occasion}")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise self._failed(f"sent a line that is no JSON object during {occasion}: {_start_of(line.strip())!r}")
        return message

    def _failed(self, what: str) -> SideError:
        """The exception for a broken worker, which is killed; its last lines on stderr are part of the message."""
        self.close(at_once=True)
        last = "".join(f"\n  | {line.rstrip()}" for line in self._stderr if line)
        return SideError(f"side {self.name}: the worker {what}" + (f"; its stderr ended with{last}" if last else ""))


def _read_lines(stream: Any, put: Callable[[str | None], None]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            put(line)
    put(None)


def _start_of(text: str) -> str:
    return text[:200]


def _end(status: int | None) -> str:
    """How a process ended, in words."""
    if status is None:
        return "closed its output"
    if status >= 0:
        return f"died with exit status {status}"
    reason = ", as where memory ran out," if status == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-status).name}{reason}"


def _as_exception(name: str, error: Mapping[str, Any]) -> Exception:
    if error.get("kind") == "input":
        fields = {key: str(error.get(key, "")) for key in ("expected", "found", "hint")}
        return InputError(str(error.get("where", name)), **fields)
    return SideError(f"side {name}: {error.get('message', 'no message')}")
