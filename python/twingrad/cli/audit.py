"""What the comparison catches: audit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from .app import DISAGREEMENT, TimeLimit, app, at_work_on, console, progress_bar, typed_command

MakeWorker = Callable[..., Any]


@app.command()
def audit(
    quick: Annotated[bool, typer.Option("--quick", help="A few mistakes, in less than a minute.")] = False,
    false_alarms: Annotated[
        int, typer.Option(min=0, help="Instead: compare so many fresh random cases; none may fail.")
    ] = 0,
    broken_files: Annotated[
        int, typer.Option(min=0, help="Instead: break so many files; none may be read wrong or end a worker.")
    ] = 0,
    side: Annotated[str, typer.Option("--sides", help="Sides to plant mistakes on. Default: all.")] = "",
    only: Annotated[str, typer.Option(help="Mistakes whose name has this part.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="False alarms, broken files: chooses them.")] = 1,
    jobs: Annotated[int, typer.Option(min=0, help="Workers at a time. Default: as many as cores.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of what was found; an audit goes on from it.")] = Path("audit"),
    time_limit: TimeLimit = 600.0,
) -> None:
    """Plant realistic mistakes on each side and see the comparison catch them. Exit status 1: it does not."""
    from ..bench.machine import cores
    from ..files import make_folder
    from ..sides import Worker, sides
    from ..sides import side as find_side

    names = [find_side(name).name for name in side.split(",") if name] or list(sides())
    make_worker = partial(Worker, silence_seconds=time_limit)
    make_folder(out)
    with at_work_on(out / "audit"):
        if false_alarms:
            sound = _draw_cases(false_alarms, seed, out, make_worker)
        elif broken_files:
            sound = _break_files(broken_files, seed, out, make_worker)
        else:
            sound = _plant(names, quick, only, out, make_worker, jobs or cores())
    if not sound:
        raise typer.Exit(DISAGREEMENT)


def _plant(names: list[str], quick: bool, only: str, out: Path, make_worker: MakeWorker, jobs: int) -> bool:
    from ..audit import defects
    from ..audit.terminal import print_defects

    plan = defects.make_plan(names, typed_command(), quick=quick, only=only)
    with progress_bar("mistakes") as bar:
        on_mutant = _counted(bar, "planting", plan.count())
        found = defects.audit(plan, out / "defects.json", make_worker, jobs, on_mutant)
    print_defects(console(), found)
    return found.sound


def _draw_cases(count: int, seed: int, out: Path, make_worker: MakeWorker) -> bool:
    from ..audit import alarms
    from ..audit.terminal import print_false_alarms

    with progress_bar("cases") as bar:
        on_case = _counted(bar, "drawing cases", count)
        found = alarms.audit(count, seed, typed_command(), out / "false-alarms.json", make_worker, on_case)
    print_false_alarms(console(), found)
    return found.sound


def _break_files(count: int, seed: int, out: Path, make_worker: MakeWorker) -> bool:
    from ..audit import broken_files
    from ..audit.terminal import print_broken_files

    with progress_bar("files") as bar:
        on_file = _counted(bar, "breaking files", count)
        found = broken_files.audit(count, seed, typed_command(), out / "broken-files.json", make_worker, on_file)
    print_broken_files(console(), found)
    return found.sound


def _counted(bar: Progress, start: str, total: int) -> Callable[[str], None]:
    """Shows each name that it is called with, one step further on the bar."""
    task = bar.add_task(start, total=total)
    return lambda name: bar.update(task, advance=1, description=name)
