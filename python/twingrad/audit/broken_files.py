"""Broken files: every side reads them; each must be refused by an InputError, or give exactly the right contents."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import paths
from ..errors import InputError, SideError
from ..files import make_folder
from ..format.result import now
from ..sides import is_available, sides
from .corruption import corrupted
from .saved import BrokenFiles, Outcome, Unsound, read
from .sound_files import Sound, sound_files

KEPT = "broken-files"
HANG_SECONDS = 20.0
"""How long a side may take over one small file."""
START_SECONDS = 600.0
"""How long over the first one of a kind, for which Julia compiles."""
SAVED_EVERY = 100
SOURCES = ("python/twingrad/**/*.py", "julia/src/**/*.jl")

OnFile = Callable[[str], None]
Answer = tuple[Outcome, str]
"""What became of a file on a side, and the digest of what was read or the message."""


def audit(
    count: int, seed: int, command: str, out: Path, make_worker: Callable[..., Any], on_file: OnFile
) -> BrokenFiles:
    """Break `count` files and have all sides read them, going on from the file `out`; returns what it then holds.

    Args:
        count: how many broken files there are in all.
        seed: chooses how they are broken.
        command: the command that asks for it.
        out: the saved file. Beside it, in `broken-files/`, the files that were not handled as they should be.
        make_worker: makes a side's worker, as `sides.Worker` does, of its name.
        on_file: called with each file's kind when it is done, those that are there already included.

    Raises InputError where `out` cannot be read or written, SideError where a side does not read sound files alike.
    """
    found = _resumed(out, seed, command)
    make_folder(out.parent)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twingrad-audit-")))
        names = [name for name in sides() if is_available(name)]
        workers = {name: stack.enter_context(make_worker(name)) for name in names}
        pool = stack.enter_context(ThreadPoolExecutor(len(workers)))
        readers = {name: _Reader(name, worker, folder / name) for name, worker in workers.items()}
        several = sound_files(make_folder(folder / "sound"))
        expected = _expected(several, readers, pool)
        found.sides = {name: dict(worker.versions) for name, worker in workers.items()}
        for number in range(count):
            sound = several[number % len(several)]
            if number >= found.files:
                way, data = _broken(number, seed, several)
                broken = replace(sound, files={**sound.files, sound.broken: data})
                asked = {
                    name: pool.submit(reader.read, broken) for name, reader in readers.items() if reader.reads(sound)
                }
                answers = {name: future.result() for name, future in asked.items()}
                outcomes = _judged(sound, expected[sound.name], answers)
                if _add(found, Unsound(number=number, kind=sound.name, way=way), answers, outcomes):
                    place = Path(f"{number}-{Path(sound.broken).name}")
                    (make_folder(out.parent / KEPT) / place).write_bytes(data)
                if found.files % SAVED_EVERY == 0:
                    found.write(out)
            on_file(sound.name)
    found.complete = True
    found.write(out)
    return found


class _Reader:
    """A side that reads files, which are put into a folder of its own."""

    def __init__(self, name: str, worker: Any, folder: Path) -> None:
        self.name, self.worker, self.folder = name, worker, folder
        self._known: set[str] = set()

    def reads(self, sound: Sound) -> bool:
        """Whether the side reads files of this kind."""
        return sound.everywhere or self.name == "torch"

    def digests(self, several: Sequence[Sound]) -> dict[str, str]:
        """The digests of sound files by name; raises InputError or SideError where one is not read."""
        return {sound.name: self._digest(sound) for sound in several if self.reads(sound)}

    def read(self, sound: Sound) -> Answer:
        """What becomes of a file; a worker that it ended is started again."""
        try:
            return "read", self._digest(sound)
        except InputError as error:
            return "refused", str(error)
        except SideError as error:
            outcome = _fate(str(error))
            if outcome != "failure":
                self._known.clear()
            return outcome, str(error)

    def _digest(self, sound: Sound) -> str:
        shutil.rmtree(self.folder, ignore_errors=True)
        file, kept = sound.put(self.folder)
        self.worker.silence_seconds = HANG_SECONDS if sound.reader in self._known else START_SECONDS
        self._known.add(sound.reader)
        reply = self.worker.request("read", {"kind": sound.reader, "file": str(file), "folder": str(kept)})
        return str(reply["digest"])


def _fate(message: str) -> Outcome:
    """How a worker failed, by the words of `sides.Worker`."""
    if "the worker hung" in message:
        return "hang"
    return "crash" if "the worker " in message else "failure"


def _expected(several: Sequence[Sound], readers: Mapping[str, _Reader], pool: ThreadPoolExecutor) -> dict[str, str]:
    """The digests of the sound files, on which all sides must agree."""
    asked = {name: pool.submit(reader.digests, several) for name, reader in readers.items()}
    digests: dict[str, str] = {}
    for side, future in asked.items():
        for name, digest in future.result().items():
            if digests.setdefault(name, digest) != digest:
                raise SideError(
                    f"side {side}: the sound file '{name}' is read as {digest}, elsewhere as {digests[name]}"
                )
    return digests


def _broken(number: int, seed: int, several: Sequence[Sound]) -> tuple[str, bytes]:
    """The way in which file `number` is broken, and its bytes."""
    sound = several[number % len(several)]
    others = [other.files[other.broken] for other in several if other is not sound]
    return corrupted(sound.files[sound.broken], others, np.random.default_rng([seed, number]))


def _judged(sound: Sound, expected: str, answers: Mapping[str, Answer]) -> dict[str, Outcome]:
    """What each side's answer is worth. What no checksum protects may say something else, but the same on all sides."""
    outcomes: dict[str, Outcome] = {}
    alike = len({text if outcome == "read" else outcome for outcome, text in answers.values()}) == 1
    for name, (outcome, text) in answers.items():
        if outcome == "read":
            right = text == expected
            outcome = "right" if right else "read" if alike and not sound.protected else "WRONG"
        elif outcome in ("crash", "hang") and sound.guarded:
            outcome = "guarded"
        elif (
            outcome == "refused"
            and not alike
            and not sound.protected
            and "read" in {one for one, _ in answers.values()}
        ):
            outcome = "WRONG"
        outcomes[name] = outcome
    return outcomes


def _add(found: BrokenFiles, one: Unsound, answers: Mapping[str, Answer], outcomes: Mapping[str, Outcome]) -> bool:
    """Count the outcomes of a file; whether one of them is not as it should be."""
    found.files += 1
    unsound = False
    for name, outcome in outcomes.items():
        counts = found.counts.setdefault(name, {}).setdefault(one.kind, {})
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome not in BrokenFiles.SOUND:
            unsound = True
            found.unsound.append(one.model_copy(update={"side": name, "outcome": outcome, "message": answers[name][1]}))
    return unsound


def _resumed(out: Path, seed: int, command: str) -> BrokenFiles:
    """What the file holds of the same seed and sources; nothing where there is none, or another one."""
    fresh = BrokenFiles(created=now(), command=command, digest=_digest(), seed=seed)
    if out.exists():
        saved = read(BrokenFiles, out)
        if (saved.digest, saved.seed) == (fresh.digest, seed):
            return saved.model_copy(update={"command": command, "complete": False})
    return fresh


def _digest() -> str:
    """SHA-256 over all sources of both packages: any of them may have a part in reading."""
    sha = hashlib.sha256()
    for file in paths.files_like(SOURCES).values():
        sha.update(file.read_bytes())
    return sha.hexdigest()
