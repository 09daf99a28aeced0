"""Parts that the sections of a report share: versions and dates in words, differences, notes below tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..sides import sides
from ..specs import Array
from .language import Code, Language, Piece, Pieces


def made_with(versions: Mapping[str, Any]) -> str:
    """Framework and language, with their versions."""
    return ", ".join(str(versions[key]) for key in ("framework", "language") if key in versions) or "unknown versions"


def made_by(title: str, versions: Mapping[str, Any], language: Language) -> str:
    """A side, and what it was made with."""
    return language("note.made", side=title, made=made_with(versions))


def relative_difference(a: Array, b: Array) -> float:
    """The largest |a - b| / |b|; |a| where b is zero."""
    return float(np.max(np.abs(a - b) / np.where(b == 0.0, 1.0, np.abs(b))))


def count(number: int, thing: str) -> str:
    """ "1 case", "2 cases"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def side_title(name: str) -> str:
    """How people write a side; the name itself where the table of sides does not have it."""
    known = sides()
    return known[name].title if name in known else name


def slug(name: str) -> str:
    """A name for a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def unique(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that were there before."""
    found: list[str] = []
    for name in names:
        number, new = 1, name
        while new in found:
            number += 1
            new = f"{name}-{number}"
        found.append(new)
    return found


def time_text(created: str) -> str:
    """ "2025-06-01T09:30:00Z" as "2025-06-01 09:30 UTC"; another text as it is."""
    return f"{created[:10]} {created[11:16]} UTC" if created.endswith("Z") and len(created) == 20 else created


def provenance(
    language: Language, machines: Sequence[str], versions: Sequence[str], created: str, commands: Sequence[str]
) -> Pieces:
    """The note below a table: machine, versions, date, commands, as far as they are known."""
    found: list[Piece] = []
    for key, text in (
        ("note.machine", "; ".join(machines)),
        ("note.versions", "; ".join(versions)),
        ("note.date", time_text(created)),
    ):
        found += [language(key, what=text), " "] if text else []
    for number, command in enumerate(commands):
        found += [*(["; "] if number else [language("note.command"), " "]), Code(command)]
    return (*found, ".") if commands else tuple(found[:-1])
