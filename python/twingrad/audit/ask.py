"""Asking a worker for the result of a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..format import Result, read_result


def ask(worker: Any, case: Path, out: Path, dtype: str, steps: int) -> Result:
    """The worker's result of a case file, by way of the file `out`; raises InputError or SideError."""
    worker.request("run", {"case": str(case.resolve()), "out": str(out), "dtype": dtype, "steps": steps})
    return read_result(out)
