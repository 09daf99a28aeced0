"""Where the shared files are: in the repository, or in the copy of them that an installed package carries."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .errors import InputError

PACKAGE = Path(__file__).resolve().parent
CARRIED = PACKAGE / "checkout"
"""The files of the repository that a wheel carries, laid out as they are there (pyproject.toml); none in a checkout."""
PYTHON_SOURCES = "python/twingrad/"


def root() -> Path:
    """The folder that holds `shared_fixtures/` and `julia/`.

    TWINGRAD_ROOT where it is set; otherwise the files that this package carries, if it was installed from a wheel, or
    the checkout that it lies in. Raises InputError where there are none.
    """
    named = os.environ.get("TWINGRAD_ROOT")
    folder = Path(named).resolve() if named else CARRIED if CARRIED.is_dir() else PACKAGE.parents[1]
    if not (folder / "shared_fixtures" / "FORMAT.md").is_file():
        raise InputError(
            "TWINGRAD_ROOT" if named else "twingrad",
            expected="a checkout of TwinGrad with shared_fixtures/FORMAT.md",
            found=str(folder),
            hint="Install a wheel of TwinGrad, or 'pip install -e .' from the checkout, or set TWINGRAD_ROOT to it.",
        )
    return folder


def is_checkout() -> bool:
    """Whether the files are those of a checkout, that is, may be written: not the copy that a wheel carries."""
    return root() != CARRIED


def checkout() -> Path:
    """The checkout's folder; raises InputError where there is only what a wheel carries."""
    if not is_checkout():
        raise InputError(
            "TWINGRAD_ROOT",
            expected="a checkout of TwinGrad, whose files this command writes",
            found=f"an installed package, {CARRIED}",
            hint="Set it to a clone of the repository, or name another folder where the command takes one.",
        )
    return root()


def files_like(patterns: Iterable[str]) -> dict[str, Path]:
    """The files under `root()` that are like one of the patterns, by their path in the repository, in its order.

    Python's own sources, `python/twingrad/`, are the installed package where a wheel carries the rest.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        is_carried = pattern.startswith(PYTHON_SOURCES) and not is_checkout()
        start, prefix = (PACKAGE, PYTHON_SOURCES) if is_carried else (root(), "")
        for file in start.glob(pattern.removeprefix(prefix)):
            found[prefix + file.relative_to(start).as_posix()] = file
    return dict(sorted(found.items(), key=lambda entry: entry[0].encode()))


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
