"""The planted mistakes, `compare/mutants/SIDE.toml`, as data."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .. import paths
from ..comparator import Check
from ..errors import InputError
from ..files import reading
from ..sides.table import Side
from ..validation import validate

NO_MUTANT = "none"
"""What a mutated worker is asked for that is to have no mistake in it."""


class _Entries(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Caught(_Entries):
    """The assertion that is meant to catch a mistake."""

    check: Literal["sides", "oracle", "manual", "fast", "steps"]
    array: str
    """The array's path in a result; "*" stands for any characters."""


class Mutant(_Entries):
    """A realistic mistake, and what is to catch it."""

    name: Annotated[str, Field(pattern="^[a-z0-9-]+$")]
    topic: str
    mistake: str
    """What was done wrong, for people."""
    file: str
    """Below the side's package."""
    old: Annotated[str, Field(min_length=1)]
    new: str
    cases: Annotated[list[str], Field(min_length=1)]
    caught_by: Caught
    quick: bool = False
    """Whether `twingrad audit --quick` plants it."""

    @property
    def digest(self) -> str:
        """SHA-256 over all of it but `quick`."""
        return hashlib.sha256(self.model_dump_json(exclude={"quick"}).encode()).hexdigest()


class _Table(_Entries):
    format_version: Literal[1]
    mutant: list[Mutant]


def mutants_file(side: str) -> Path:
    """The table of a side's mistakes."""
    return paths.root() / "compare" / "mutants" / f"{side}.toml"


def read_mutants(side: Side) -> list[Mutant]:
    """The mistakes to be planted on a side; none where its table of sides names no mutated worker.

    Raises InputError where the table is missing or wrong.
    """
    if not side.mutated:
        return []
    file = mutants_file(side.name)
    with reading(file):
        data = file.read_bytes()
    try:
        values = tomllib.loads(data.decode("utf-8"))
    except ValueError as error:
        raise InputError(str(file), expected="TOML", found=f"something else ({error})") from None
    found = validate(_Table, values, str(file)).mutant
    names = [mutant.name for mutant in found]
    if twice := sorted({name for name in names if names.count(name) > 1} | ({NO_MUTANT} & set(names))):
        raise InputError(str(file), expected="names of their own", found=", ".join(twice))
    return found


def is_meant(caught_by: Caught, check: Check) -> bool:
    """Whether a check is the assertion that is meant to catch the mistake."""
    head, star, tail = caught_by.array.partition("*")
    fits = check.array.startswith(head) and check.array.endswith(tail) if star else check.array == head
    return fits and check.check == caught_by.check
