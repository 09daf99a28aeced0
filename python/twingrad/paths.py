"""Where the repository's shared files are."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InputError


def root() -> Path:
    """The checkout that holds `shared_fixtures/` and `julia/`: TWINGRAD_ROOT, or the one this package lies in."""
    named = os.environ.get("TWINGRAD_ROOT")
    folder = Path(named).resolve() if named else Path(__file__).resolve().parents[2]
    if not (folder / "shared_fixtures" / "FORMAT.md").is_file():
        raise InputError(
            "TWINGRAD_ROOT" if named else "twingrad",
            expected="a checkout of TwinGrad with shared_fixtures/FORMAT.md",
            found=str(folder),
            hint="Install with 'pip install -e .' from the checkout, or set TWINGRAD_ROOT to it.",
        )
    return folder


def shared_fixtures() -> Path:
    """The folder of the data that both languages meet at."""
    return root() / "shared_fixtures"


def cases() -> Path:
    """The folder of the case files."""
    return shared_fixtures() / "cases"


def recorded(side: str) -> Path:
    """The file with the last live results of a side."""
    return shared_fixtures() / "recorded" / f"{side}.h5"


def case_files() -> list[Path]:
    """All case files of the checkout, in the order of their names."""
    return sorted(cases().glob("*.h5"), key=lambda path: path.stem)
