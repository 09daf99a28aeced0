"""JSON files of other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import reading


def read_text(file: Path) -> str:
    """A whole file in UTF-8; raises InputError where it cannot be read or is none."""
    with reading(file):
        data = file.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(str(file), expected="UTF-8 text", found=f"other bytes at byte {error.start}") from None


def read_json_object(file: Path) -> dict[str, Any]:
    """The JSON object that a file holds; raises InputError."""
    text = read_text(file)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(str(file), expected="a JSON object", found=f"{text[:60]!r} ({error})") from None
    if not isinstance(value, dict):
        raise InputError(str(file), expected="a JSON object", found=repr(value)[:60])
    return value
