"""The table of sides, `shared_fixtures/sides.toml`, and what identifies a side's sources."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import paths
from ..errors import InputError, one_of


@dataclass(frozen=True)
class Side:
    """One side: its name, its title for people, how its worker starts, which files compute its results.

    `mutated` starts a worker with a planted mistake, whose name follows; empty where the side has none. Where the side
    `replants`, that worker takes requests of the verb `plant`, which puts another mistake in the place of the first.
    """

    name: str
    title: str
    command: tuple[str, ...]
    needs: tuple[str, ...]
    sources: tuple[str, ...]
    mutated: tuple[str, ...]
    replants: bool


def sides() -> dict[str, Side]:
    """All sides by name, in the order of the table."""
    table = tomllib.loads((paths.shared_fixtures() / "sides.toml").read_text("utf-8"))
    return {name: _side(name, entry) for name, entry in table.items()}


def _side(name: str, entry: Mapping[str, Any]) -> Side:
    lists = {key: tuple(entry.get(key, ())) for key in ("command", "needs", "sources", "mutated")}
    return Side(name=name, title=entry["title"], replants=entry.get("replants", False), **lists)


def side(name: str) -> Side:
    """The side called `name`; raises InputError listing the known ones."""
    table = sides()
    if name not in table:
        raise InputError("side", expected=one_of(table), found=repr(name))
    return table[name]


def source_digest(of: Side, case_digests: Mapping[str, str]) -> str:
    """SHA-256 over the side's sources and the given cases (FORMAT.md, "Digests")."""
    sha = hashlib.sha256()
    for name, file in paths.files_like(of.sources).items():
        content = file.read_bytes().replace(b"\r\n", b"\n")
        sha.update(f"{name}={hashlib.sha256(content).hexdigest()}\n".encode())
    for name in sorted(case_digests, key=str.encode):
        sha.update(f"{name}={case_digests[name]}\n".encode())
    return sha.hexdigest()
