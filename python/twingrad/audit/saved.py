"""What an audit has found, as it is saved in its folder: `defects.json`, `false-alarms.json`, `broken-files.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from ..files import read_json, replacing
from ..validation import validate

LEAST_MARGIN = 100.0
"""A mistake is caught for certain where its error is so many times its bound."""


class Entries(BaseModel):
    """Entries of a file: nothing unknown, nothing of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Status = Literal["caught", "elsewhere", "missed", "failed"]


class Planted(Entries):
    """What became of one mutant."""

    side: str
    name: str
    digest: str
    """Of the mutant; what became of another one by its name does not count."""
    topic: str
    mistake: str
    status: Status
    """Caught by the assertion that is meant to; by another one only; by none; or the worker could not answer."""
    check: str
    array: str
    case: str = ""
    error: float = 0.0
    """The largest of the meant assertion, with its array and case."""
    bound: float = 0.0
    message: str = ""
    """Why the worker failed, or which assertions caught it instead."""

    @property
    def margin(self) -> float:
        """How many times the bound the error is."""
        return self.error / self.bound if self.bound else 0.0

    @property
    def sound(self) -> bool:
        """Whether it was caught as it should be."""
        return self.status == "caught" and self.margin >= LEAST_MARGIN


class _Document(Entries):
    format_version: Literal[1] = 1
    created: str
    command: str
    sides: dict[str, dict[str, Any]] = {}
    """What each side said of itself."""
    complete: bool = False

    def write(self, file: Path) -> None:
        """Write the file as a whole, or not at all."""
        with replacing(file) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", "utf-8")


class Defects(_Document):
    """The planted mistakes."""

    format: Literal["twingrad-audit-defects"] = "twingrad-audit-defects"
    digest: str
    """Of the sides' sources and the cases; what was found with another one does not count."""
    planted: list[Planted] = []
    controls: dict[str, list[str]] = {}
    """By side, what failed in the same worker without any mistake: nothing, or the scores mean nothing."""
    not_run: dict[str, str] = {}
    """By side, why nothing was planted on it."""

    def score(self, side: str) -> tuple[int, int]:
        """(caught as they should be, planted) of a side."""
        of_side = [one for one in self.planted if one.side == side]
        return sum(one.sound for one in of_side), len(of_side)

    @property
    def sound(self) -> bool:
        """Whether everything that was planted was caught, and nothing failed where nothing was planted."""
        return bool(self.planted) and all(one.sound for one in self.planted) and not any(self.controls.values())


class Alarm(Entries):
    """A fresh random case and what the comparator said of it."""

    name: str
    model: str
    seed: int
    checks: int
    worst: dict[str, float]
    """The largest error by dtype and kind of check: "float64 sides"; unstable arrays left out."""
    failures: list[str]
    unstable: list[str]
    """Checks that failed on an array which one rounding moves by the size of the bound already: nobody's fault."""


class Alarms(_Document):
    """The search for false alarms."""

    KINDS: ClassVar[tuple[str, ...]] = (
        "float64 sides",
        "float64 manual",
        "float64 fast",
        "float64 steps",
        "float32 oracle",
    )
    """Whose worst errors are shown."""
    format: Literal["twingrad-audit-alarms"] = "twingrad-audit-alarms"
    digest: str
    """Of the sides' sources; what was found with another one does not count."""
    seed: int
    bounds: dict[str, float]
    cases: list[Alarm] = []

    def of_models(self) -> dict[str, list[Alarm]]:
        """The cases by model, in the order of their first appearance."""
        found: dict[str, list[Alarm]] = {}
        for one in self.cases:
            found.setdefault(one.model, []).append(one)
        return found

    @property
    def sound(self) -> bool:
        """Whether there were cases, and none failed."""
        return bool(self.cases) and not any(one.failures for one in self.cases)


Outcome = Literal["refused", "right", "read", "guarded", "WRONG", "failure", "crash", "hang"]
"""What became of a broken file: an InputError; the right contents; other ones, where nothing protects them, alike on
all sides; the end of a worker by a file that only its process could guard from; wrong contents; a traceback; the
worker's end; no answer in time."""


class Unsound(Entries):
    """A broken file that a side did not handle as it should."""

    number: int
    kind: str
    way: str
    """How it was broken."""
    side: str = ""
    outcome: Outcome = "WRONG"
    message: str = ""


class BrokenFiles(_Document):
    """The reading of broken files."""

    SOUND: ClassVar[tuple[Outcome, ...]] = ("refused", "right", "read", "guarded")
    format: Literal["twingrad-audit-broken-files"] = "twingrad-audit-broken-files"
    digest: str
    """Of all sources; what was found with another one does not count."""
    seed: int
    files: int = 0
    """How many were read."""
    counts: dict[str, dict[str, dict[Outcome, int]]] = {}
    """By side, kind and outcome."""
    unsound: list[Unsound] = []

    @property
    def sound(self) -> bool:
        """Whether there were files, and all were handled as they should be."""
        return self.files > 0 and not self.unsound


Document = TypeVar("Document", bound=_Document)


def read(kind: type[Document], file: Path) -> Document:
    """Read a saved audit; raises InputError naming the file, the entry, what was expected and what was found."""
    return validate(kind, read_json(file), str(file))
