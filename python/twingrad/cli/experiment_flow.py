"""`twingrad experiment flow`: the transformer read as a flow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from .app import (
    DISAGREEMENT,
    Threads,
    TimeLimit,
    at_work_on,
    choose,
    console,
    experiment_app,
    listed,
    progress_bar,
    typed_command,
    whole_numbers,
)
from .train import text_source

PARTS = ("trainings", "stream")
QUICK = {"width": 32, "context": 32, "batch": 8, "iterations": 120, "warmup": 20}
"""What `--quick` trains, where nothing else is said."""

Document = Mapping[str, Any]


@experiment_app.command("flow")
def flow(
    out: Annotated[Path, typer.Option(help="Folder for the trainings, the measured numbers and the figures.")],
    part: Annotated[
        str, typer.Option(help="trainings (splittings, learned time steps), stream (of trained models), or all.")
    ] = "all",
    sides: Annotated[str, typer.Option("--sides", "--side", help="Sides, separated by commas. Default: all.")] = "",
    text: Annotated[Path | None, typer.Option(help="The text. Default: the sources of Python's own library.")] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="Stream: a trained mini-GPT, or several. Default: the trainings.")
    ] = None,
    layers: Annotated[int, typer.Option(min=2, help="Trainings: blocks of Lie's splitting.")] = 5,
    seeds: Annotated[str, typer.Option(help="Trainings: seeds, each trains all.")] = "1",
    iterations: Annotated[int | None, typer.Option(min=1, help="Trainings: steps (preset cpu: 2000).")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Trainings: channels (128).")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Trainings: tokens seen at once (64).")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Trainings: texts of a step (12).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Trainings: small models and few steps.")] = False,
    windows: Annotated[int, typer.Option(min=1, help="Stream: windows of the validation part of the text.")] = 4,
    finest: Annotated[int, typer.Option(help="Stream: steps in a block of the finest grid, a power of two.")] = 64,
    threads: Threads = 1,
    time_limit: TimeLimit = 1800.0,
) -> None:
    """The mini-GPT as a discretised flow: update norms, trajectories, refinement, splittings, learned time steps.

    The same command again goes on where an interrupted one stopped.
    """
    from ..experiments import flow as experiment
    from ..experiments.orders import save
    from ..files import make_folder
    from ..report.flow_figures import draw_flow
    from ..sides import is_available, side
    from ..sides import sides as all_sides

    parts = PARTS if choose(part, "--part", (*PARTS, "all")) == "all" else (part,)
    names = [side(name).name for name in listed(sides)] or list(all_sides())
    given = {"iterations": iterations, "width": width, "context": context, "batch": batch}
    shared = {**(QUICK if quick else {}), **{name: value for name, value in given.items() if value is not None}}
    steps, chosen = experiment.grids(finest), experiment.variants(layers)
    make_folder(out)
    with at_work_on(out / "flow"):
        source, not_run = text_source(text, out), dict[str, str]()
        with progress_bar("") as bar:
            task = bar.add_task("starting the sides")

            def told(name: str, doing: str, state: Mapping[str, Any]) -> None:
                done, total = state.get("solutions", state.get("iteration")), state.get("of")
                bar.update(task, description=f"{name}: {doing}", completed=done, total=total)

            asked = experiment.Asked(names, threads, time_limit, told)
            trainings = experiment.Trainings(chosen, whole_numbers("--seeds", seeds), shared, out / "training")
            if "trainings" in parts:
                not_run |= trainings.train(source, asked)
            trained = trainings.read(names)
            models = experiment.models_of(checkpoint or [], trained, out / "training")
            answers: dict[str, list[experiment.Stream]] = {}
            if "stream" in parts:
                answers, failed = experiment.streams(models, source, out, windows, steps, asked)
                not_run |= failed
        about = {"command": typed_command(), "text": source.name, "windows": windows}
        measured = experiment.document(trained, answers, models, not_run, about)
        _print_trainings(measured)
        _print_streams(measured)
        for file in (save(measured, out / "flow.json"), *draw_flow(measured, out)):
            console().print(f"{file}", soft_wrap=True)
    agreed = all(pair["agrees"] for one in measured["streams"].values() for pair in one["agreement"])
    if not agreed or any(is_available(name) for name in not_run):
        raise typer.Exit(DISAGREEMENT)


def _print_trainings(measured: Document) -> None:
    """The table of validation losses, means over the seeds, of each variant and side."""
    if not measured["trainings"]:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("variant\n", "parameters\n", "operations\na token"):
        table.add_column(heading, justify="left" if heading.startswith("variant") else "right", no_wrap=True)
    for one in measured["sides"].values():
        table.add_column(f"validation loss\n{one['title']}", justify="right")
    for name in dict.fromkeys(one["variant"] for one in measured["trainings"]):
        runs = [one for one in measured["trainings"] if one["variant"] == name]
        losses = [[run["loss_validation"][-1] for run in runs if run["side"] == each] for each in measured["sides"]]
        cells = ("-" if not found else f"{sum(found) / len(found):.4f}" for found in losses)
        table.add_row(name, f"{runs[0]['parameters']:,}", f"{runs[0]['operations']:,}", *cells)
    console().print(table)
    seeds = sorted({one["seed"] for one in measured["trainings"]})
    steps = measured["trainings"][0]["iterations"]
    console().print(f"{measured['text']}, {steps} steps, seeds {', '.join(map(str, seeds))}", soft_wrap=True)


def _print_streams(measured: Document) -> None:
    """Of each model and scheme the order of convergence, and how far one step in a block is from the flow."""
    from ..sides import side

    for name, stream in measured["streams"].items():
        answered = stream["sides"]
        first = next(iter(answered.values()))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        console().print(f"\n{name}:")
        table.add_column("scheme\n", no_wrap=True)
        table.add_column("expected\norder", justify="right")
        for each in answered:
            table.add_column(f"order\n{side(each).title}", justify="right")
        for heading in ("error of\n1 step", f"error of\n{first['refinement']['steps'][-1]} steps", "loss of\n1 step"):
            table.add_column(heading, justify="right")
        for scheme, expected in measured["orders"].items():
            found = first["refinement"]["schemes"][scheme]
            orders = [one["refinement"]["schemes"][scheme]["order"] for one in answered.values()]
            cells = ("-" if order is None else f"{order:.2f}" for order in orders)
            errors = (f"{found['errors'][place]:.1e}" for place in (0, -1))
            table.add_row(scheme, str(expected), *cells, *errors, f"{found['losses'][0]:.3f}")
        console().print(table)
        for line in _remarks(first, stream):
            console().print(line, soft_wrap=True, markup=False)
    for name, reason in measured["not_run"].items():
        console().print(f"NOT RUN: {side(name).title}: {reason}", soft_wrap=True, markup=False)


def _remarks(first: Document, stream: Document) -> Iterator[str]:
    from ..sides import side

    refinement = first["refinement"]
    yield (
        f"loss {first['loss']:.3f} as trained, {refinement['reference_loss']:.3f} of the flow (kutta4; half its steps "
        f"change it by {refinement['reference_check']:.1e}); straightness {first['straightness'][1]:.2f}"
    )
    for pair in stream["agreement"]:
        a, b = (side(name).title for name in pair["sides"])
        yield (
            f"{'AGREE' if pair['agrees'] else 'DISAGREE'}: {a} and {b}, streams to {pair['states']:.1e}, "
            f"solutions to {pair['solutions']:.1e}, losses to {pair['losses']:.1e}"
        )
