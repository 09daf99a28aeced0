"""`twingrad doctor`: what is on this machine, what is missing, what to do about it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

from rich.console import Console
from rich.table import Table

from . import harness, paths
from .errors import InputError, SideError
from .sides import Worker, is_available, sides
from .sides.locate_julia import HOW_TO_GET, candidates


def examine(console: Console, threads: int) -> None:
    """Print a table of what was found and a list of what to do."""
    advice: list[str] = []
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")

    table.add_row("Python", platform.python_version())
    table.add_row("juliacall", version("juliacall"))
    for variable in ("OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "JULIA_NUM_THREADS"):
        if variable in os.environ:
            table.add_row(variable, os.environ[variable])
    if "OPENBLAS_CORETYPE" in os.environ:
        advice.append("OPENBLAS_CORETYPE chooses OpenBLAS's kernels by hand; unset it before timing anything.")

    try:
        found = candidates()
        for candidate in found:
            table.add_row(f"Julia: {candidate.place}", candidate.reason)
        if all(candidate.julia is None for candidate in found):
            advice.append(f"No Julia can be used, so recorded Flux results stand in. {HOW_TO_GET}")
    except InputError as error:
        advice.append(str(error))

    for name, side in sides().items():
        table.add_section()
        _examine_side(name, side.title, table, advice, threads)

    table.add_row("cases", f"{len(paths.case_files())} in {paths.cases()}")
    stale = harness.stale_recordings()
    table.add_row("recorded results", "fresh" if not stale else "stale or damaged")
    advice += stale
    console.print(table)
    for line in advice:
        console.print(f"→ {line}", soft_wrap=True)
    if not advice:
        console.print("Everything is in order.")


def _examine_side(name: str, title: str, table: Table, advice: list[str], threads: int) -> None:
    try:
        if not is_available(name):
            table.add_row(title, "not on this machine")
            return
        with Worker(name, threads=threads) as worker:
            for key, value in worker.versions.items():
                table.add_row(f"{title}: {key}", str(value))
    except (InputError, SideError) as error:
        table.add_row(title, "does not start")
        advice.append(str(error))
