"""Cases: compare, run, record, fixtures, seal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..lock import WAIT
from . import completion
from .app import (
    DISAGREEMENT,
    Device,
    SideName,
    Threads,
    TimeLimit,
    app,
    at_work_on,
    choose,
    console,
    progress_bar,
    typed_command,
)

Names = Annotated[
    list[str] | None,
    typer.Argument(
        help="Case files, or names of cases of the checkout. Default: all.", autocompletion=completion.case_names
    ),
]


@app.command()
def compare(
    cases: Names = None,
    dtype: Annotated[str, typer.Option(help="Number types, separated by commas.")] = "float64,float32",
    steps: Annotated[int, typer.Option(min=0, help="Training steps to compare in float64.")] = 10,
    recorded: Annotated[
        str,
        typer.Option(
            help="Sides to take from their recorded results, e.g. flux.", autocompletion=completion.side_names
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the JSON to a file too.")] = None,
    device: Device = "cpu",
    threads: Threads = 1,
    time_limit: TimeLimit = 300.0,
) -> None:
    """Hold the sides against each other and against the oracle. Exit status 1: they disagree."""
    from .. import harness
    from ..report.terminal import print_comparison
    from ..sides import side

    files = harness.find_cases(cases or [])
    dtypes = tuple(choose(name, "dtype", harness.DTYPES) for name in dtype.split(","))
    only_recorded = tuple(side(name).name for name in recorded.split(",") if name)
    stale = harness.stale_recordings() if not cases else []
    with (
        harness.Sides(only_recorded, threads=threads, silence_seconds=time_limit, device=device) as running,
        progress_bar("cases") as bar,
    ):
        task = bar.add_task("starting the sides", total=len(files))

        def advance(_: str) -> None:
            bar.update(task, advance=1, description="comparing")

        result = harness.compare(files, running, dtypes, steps, advance)
    result.failures += stale
    result.command = typed_command()
    if save is not None:
        harness.save(result, save)
    if as_json:
        print(json.dumps(result.as_json(), indent=1))  # noqa: T201
    else:
        print_comparison(console(), result)
    if not result.agrees:
        raise typer.Exit(DISAGREEMENT)


@app.command()
def run(
    side: SideName,
    case: Annotated[Path, typer.Option(help="The case file.")],
    out: Annotated[Path, typer.Option(help="The result file to write.")],
    dtype: Annotated[str, typer.Option(help="float64, float32 or bfloat16.")] = "float64",
    device: Device = "cpu",
    steps: Annotated[int, typer.Option(min=0, help="Training steps to take after the gradient.")] = 0,
    threads: Threads = 1,
    time_limit: TimeLimit = 300.0,
) -> None:
    """Evaluate one case on one side: loss, outputs, gradients."""
    from ..format import read_case
    from ..sides import Worker
    from ..sides import side as find_side

    find_side(side)
    read_case(case)
    arguments = {
        "case": str(case.resolve()),
        "out": str(out.resolve()),
        "dtype": dtype,
        "device": device,
        "steps": steps,
    }
    with Worker(side, threads=threads, silence_seconds=time_limit) as worker:
        done = worker.request("run", arguments)
    console().print(f"{out}: loss {done['loss']!r}", soft_wrap=True)


@app.command()
def record(threads: Threads = 1, time_limit: TimeLimit = 300.0) -> None:
    """Run every side live on every case and keep the results for machines that lack a side."""
    from .. import harness, paths
    from ..sides import sides

    paths.checkout()
    with (
        at_work_on(paths.shared_fixtures() / "recorded", WAIT),
        at_work_on(paths.cases(), WAIT),
        harness.Sides(threads=threads, silence_seconds=time_limit) as running,
        progress_bar("cases") as bar,
    ):
        task = bar.add_task("starting the sides", total=len(sides()) * len(harness.find_cases([])))
        recordings = harness.record(
            running, lambda name, _: bar.update(task, advance=1, description=f"recording {name}")
        )
    for recording in recordings:
        out = f"{recording.versions['framework']}, {recording.versions['language']}"
        console().print(f"recorded/{recording.side}.h5: {len(recording.results)} cases, {out}", soft_wrap=True)


@app.command()
def fixtures(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of cases. Default: all.", autocompletion=completion.case_names)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: shared_fixtures/cases.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; say what is wrong with the folder.")] = False,
) -> None:
    """Write the cases: weights, data, and an oracle confirmed by finite differences."""
    from .. import paths
    from ..files import make_folder
    from ..fixtures import generate

    folder = out or paths.cases()
    if check:
        found = generate.problems(folder)
        for problem in found:
            console().print(problem, soft_wrap=True)
        console().print(f"{folder}: {len(found)} problems" if found else f"{folder}: in order")
        if found:
            raise typer.Exit(DISAGREEMENT)
        return
    if out is None:
        paths.checkout()
    make_folder(folder)
    with at_work_on(folder, WAIT), progress_bar("cases") as bar:
        task = bar.add_task("confirming and writing", total=len(generate.chosen(names or [])))
        written = generate.write_cases(names or [], folder, lambda *_: bar.advance(task))
    console().print(f"{folder}: {written} files written, the others were up to date")


@app.command()
def seal(file: Annotated[Path, typer.Argument(help="The case file.")]) -> None:
    """Add the digests to your own case file."""
    from ..format import seal as add_digests

    case = add_digests(file)
    console().print(f"{file}: digest {case.digest}", soft_wrap=True)
