"""The comparison in a file that `twingrad compare --save` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..comparator import Check
from ..errors import InputError, one_of
from ..files import read_json
from ..harness import INCOMPARABLE, Comparison, Source
from ..sides import sides
from ..validation import validate


class _SourceEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    side: str
    title: str
    live: bool
    versions: dict[str, Any]
    created: str


class _CheckEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    case: str
    dtype: str
    check: str
    left: str
    right: str
    array: str
    error: float
    bound: float
    message: str
    passed: bool


class _ComparisonFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["twingrad-comparison"]
    format_version: Literal[1]
    created: str
    command: str
    agrees: bool
    sources: list[_SourceEntry]
    failures: list[str]
    checks: list[_CheckEntry]


def read_comparison(file: Path) -> Comparison:
    """The comparison in a file that `twingrad compare --save` wrote.

    Raises:
        InputError: it is no JSON, of another format or version, an entry is missing, unknown or of the wrong type,
            or its verdict does not follow from its checks.
    """
    entries = validate(_ComparisonFile, read_json(file), str(file))
    for place, source in enumerate(entries.sources):
        if source.side not in sides():
            where = f"{file}, sources.{place}.side"
            raise InputError(where, expected=one_of(sides()), found=repr(source.side))
    comparison = _rebuilt(entries)
    passed = [check.passed for check in comparison.checks]
    if comparison.agrees != entries.agrees or passed != [check.passed for check in entries.checks]:
        raise InputError(
            f"{file}, agrees",
            expected="a verdict that follows from messages and failures",
            found="another one",
            hint="Write the file again with 'twingrad compare --save'.",
        )
    return comparison


def _rebuilt(entries: _ComparisonFile) -> Comparison:
    checks = []
    for entry in entries.checks:
        values = entry.model_dump(exclude={"passed"})
        values["error"] = float("inf") if entry.error >= INCOMPARABLE else entry.error
        checks.append(Check(**values))
    sources = [Source(**source.model_dump(exclude={"title"})) for source in entries.sources]
    return Comparison(sources, checks, entries.failures, entries.created, entries.command)
