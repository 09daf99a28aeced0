"""Benchmarks: what each language costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .app import Device, app, at_work_on, choose, console, progress_bar

DTYPES = ("float64", "float32", "bfloat16")


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Few workloads, in less than two minutes.")] = False,
    peers: Annotated[
        bool, typer.Option("--peers", help="Plain PyTorch, torch.compile, Flux's own layers too.")
    ] = False,
    threads: Annotated[
        str, typer.Option(help="Numbers of threads, 'all' for all cores. Default: 1,all; quick: 1.")
    ] = "",
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option(help="Number types, separated by commas.")] = "float64,float32",
    only: Annotated[
        list[str] | None, typer.Option(help="Workloads whose name has this part or is like this pattern; repeatable.")
    ] = None,
    side: Annotated[str, typer.Option("--sides", help="Sides; ratios are the first by the second.")] = "",
    rounds: Annotated[int, typer.Option(min=0, help="Rounds A B, B A, ... Default: 3; quick: 2.")] = 0,
    out: Annotated[Path, typer.Option(help="The file of all samples; a run goes on from it.")] = Path("bench.json"),
    show: Annotated[bool, typer.Option("--list", help="Show the workloads and time nothing.")] = False,
) -> None:
    """Time the same workloads on all sides in turn, and save every sample."""
    from ..bench.machine import cores
    from ..bench.run import Settings, make_plan, run
    from ..bench.terminal import print_bench, print_plan
    from ..bench.workloads import Choice, read_table
    from ..files import make_folder
    from ..sides import Worker, sides
    from ..sides import side as find_side

    profile = read_table().profiles["quick" if quick else "full"]
    dtypes = tuple(choose(name, "dtype", DTYPES) for name in dtype.split(","))
    choice = Choice(
        "quick" if quick else "full", dtypes, choose(device, "device", ("cpu", "cuda")), tuple(only or ()), peers
    )
    names = tuple(find_side(name).name for name in side.split(",") if name) or tuple(sides())
    counts = _threads(threads or profile.threads, cores())
    plan = make_plan(Settings(choice, names, counts, rounds or profile.rounds))
    if show:
        print_plan(console(), plan)
        return
    bar = progress_bar("visits")
    bar.live.auto_refresh = False  # a bar that redraws itself takes time from what is timed
    make_folder(out.parent)
    with at_work_on(out), bar:
        task = bar.add_task("starting the sides", total=plan.visits())
        result = run(plan, out, Worker, lambda label: bar.update(task, advance=1, description=label, refresh=True))
    print_bench(console(), result)
    console().print(f"{out}: all samples", soft_wrap=True)


def _threads(text: str, cores: int) -> tuple[int, ...]:
    """Numbers of threads, each once, in the order given."""
    counts = [str(cores) if part == "all" else part for part in text.split(",")]
    for count in counts:
        if not count.isdecimal() or int(count) < 1:
            raise InputError("threads", expected="numbers from 1 on, or 'all', separated by commas", found=repr(text))
    return tuple(dict.fromkeys(map(int, counts)))
