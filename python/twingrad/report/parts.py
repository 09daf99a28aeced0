"""Parts that the sections of the page share: pictures in the file itself, numbers and versions in words."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..specs import Array


@dataclass(frozen=True)
class Picture:
    """A picture whose data are part of the page."""

    caption: str
    alt: str
    data: str


def picture(file: Path, caption: str, alt: str) -> Picture:
    """The picture in a PNG file."""
    return Picture(caption, alt, f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}")


def made_with(versions: Mapping[str, Any]) -> str:
    """Framework and language, with their versions."""
    return ", ".join(str(versions[key]) for key in ("framework", "language") if key in versions) or "unknown versions"


def relative_difference(a: Array, b: Array) -> float:
    """The largest |a - b| / |b|; |a| where b is zero."""
    return float(np.max(np.abs(a - b) / np.where(b == 0.0, 1.0, np.abs(b))))


def error_text(error: float) -> str:
    """An error in two digits."""
    if np.isinf(error):
        return "not comparable"
    return f"{error:.1e}" if error else "0"


def count(number: int, thing: str) -> str:
    """ "1 case", "2 cases"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
