"""The bounds of `shared_fixtures/bounds.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKS = ("sides", "oracle", "manual", "fast", "steps")


@dataclass(frozen=True)
class Bounds:
    """The largest error that passes, by dtype and check."""

    table: dict[str, dict[str, float]]

    def of(self, dtype: str, check: str) -> float | None:
        """The bound, or None where this check is not made in this dtype."""
        return self.table.get(dtype, {}).get(check)


def read_bounds(path: Path) -> Bounds:
    """Read the table."""
    table: dict[str, Any] = tomllib.loads(Path(path).read_text("utf-8"))
    return Bounds(table)
