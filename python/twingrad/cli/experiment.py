"""Experiments: depth, paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..errors import InputError
from . import completion
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

PARTS = ("flow", "training")
RANDOM_FLOW = {"seed": 1, "layers": 4, "dataset": "spiral2d"}
"""What takes the place of options that are not given."""
ACCURACIES = ("accuracy_train", "accuracy_test")

Document = Mapping[str, Any]


@experiment_app.command("depth")
def depth(
    out: Annotated[Path, typer.Option(help="Folder for the measured numbers and the figure.")],
    part: Annotated[
        str, typer.Option(help="flow (orders of convergence), training (plain and residual networks), or all.")
    ] = "all",
    sides: Annotated[str, typer.Option(help="Sides, separated by commas. Default: all.")] = "",
    checkpoint: Annotated[Path | None, typer.Option(help="The flow of a trained control network, SIDE.h5.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random flow: chooses controls and points (1).")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Random flow: layers of the coarsest grid (4).")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Random flow: where points come from (spiral2d).", autocompletion=completion.dataset_names),
    ] = None,
    points: Annotated[int, typer.Option(min=1, help="Points to start from, the first of the test data.")] = 100,
    finest: Annotated[int, typer.Option(help="Steps per layer of the finest grid, a power of two.")] = 64,
    depths: Annotated[str, typer.Option(help="Networks to train: layers, of 20, 32, 44, 56, 110.")] = "20,32,44,56",
    seeds: Annotated[str, typer.Option(help="Networks to train: seeds, each trains all.")] = "1",
    data: Annotated[Path | None, typer.Option(help="Images to train on. Default: TwinGrad's own digits.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Networks to train: first channels (4).")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Networks to train: images of a step (16).")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Networks to train: steps (300).")] = None,
    threads: Threads = 1,
    time_limit: TimeLimit = 1800.0,
) -> None:
    """Depth as time: one flow with more and more layers, and networks that residual links let go deeper.

    The same command again goes on where an interrupted one stopped.
    """
    from ..files import make_folder
    from ..sides import side
    from ..sides import sides as all_sides

    parts = PARTS if choose(part, "--part", (*PARTS, "all")) == "all" else (part,)
    names = [side(name).name for name in listed(sides)] or list(all_sides())
    make_folder(out)
    ended_well = True
    with at_work_on(out / "depth"):
        if "flow" in parts:
            flow, title = _flow(checkpoint, points, {"seed": seed, "layers": layers, "dataset": dataset})
            ended_well &= _measure_orders(out, names, flow, title, finest, threads, time_limit)
        if "training" in parts:
            shared = {"width": width, "batch": batch, "iterations": iterations}
            given = {name: value for name, value in shared.items() if value is not None}
            numbers = whole_numbers("--depths", depths), whole_numbers("--seeds", seeds)
            ended_well &= _train_networks(out, names, *numbers, given, data, threads, time_limit)
    if not ended_well:
        raise typer.Exit(DISAGREEMENT)


@experiment_app.command("paper")
def paper(
    out: Annotated[Path, typer.Option(help="Folder for the trainings, the measured numbers and the figures.")],
    part: Annotated[
        str, typer.Option(help="networks (20 layers, 500 samples), methods (15 layers, 1000 samples), or all.")
    ] = "all",
    sides: Annotated[str, typer.Option("--sides", "--side", help="Sides, separated by commas. Default: all.")] = "",
    datasets: Annotated[str, typer.Option(help="Of donut1d, donut2d, squares2d, spiral2d. Default: all.")] = "",
    networks: Annotated[str, typer.Option(help="Of net, resnet, odenet, odenet-simplex. Default: all.")] = "",
    methods: Annotated[str, typer.Option(help="Of euler, improved-euler, kutta3, kutta4. Default: all.")] = "",
    seeds: Annotated[str, typer.Option(help="Each seed trains everything, on data of its own.")] = "1,2,3",
    scale: Annotated[float, typer.Option(min=0, help="Iterations, as a part of the paper's.")] = 1.0,
    freeze: Annotated[str, typer.Option(help="Parameters to leave alone; W,mu as in the authors' script.")] = "",
    threads: Threads = 1,
    time_limit: TimeLimit = 300.0,
) -> None:
    """Benning et al. 2019: four data sets, four networks and four Runge-Kutta methods, several seeds, on both sides.

    The same command again goes on where an interrupted one stopped.
    """
    from ..experiments import paper
    from ..files import make_folder
    from ..sides import side
    from ..sides import sides as all_sides

    parts = list(paper.PARTS) if choose(part, "--part", (*paper.PARTS, "all")) == "all" else [part]
    names = [side(name).name for name in listed(sides)] or list(all_sides())
    chosen = paper.runs(
        parts,
        whole_numbers("--seeds", seeds),
        datasets=listed(datasets),
        names={"networks": listed(networks), "methods": listed(methods)},
        scale=scale,
        freeze=listed(freeze),
    )
    make_folder(out)
    with at_work_on(out / "paper"):
        if not _reproduce(out, names, chosen, threads, time_limit):
            raise typer.Exit(DISAGREEMENT)


def _flow(checkpoint: Path | None, points: int, random: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The request for a flow and its title: of a trained network, or random, `RANDOM_FLOW` for what is not given."""
    from ..data.planar import DATASETS
    from ..format import read_training
    from ..report.figures import run_title
    from ..report.parts import count

    given = {name: value for name, value in random.items() if value is not None}
    if checkpoint is None:
        flow = {**RANDOM_FLOW, **given}
        choose(str(flow["dataset"]), "--dataset", DATASETS)
        title = f"random controls (seed {flow['seed']}) on {flow['dataset']}, {count(flow['layers'], 'layer')}"
        return {**flow, "points": points}, title
    if given:
        found = ", ".join(f"--{name}" for name in given)
        raise InputError("--checkpoint", expected="no options of a random flow beside it", found=found)
    title = f"trained {run_title(read_training(checkpoint))}"
    return {"checkpoint": str(checkpoint.resolve()), "points": points}, title


def _measure_orders(
    out: Path, names: Sequence[str], flow: Mapping[str, Any], title: str, finest: int, threads: int, time_limit: float
) -> bool:
    """Measure, save, print and draw the orders of convergence; whether every side ran that can, and all agree."""
    from ..experiments import orders
    from ..report.experiment_figures import draw_convergence
    from ..sides import is_available

    steps = orders.grids(finest)
    with progress_bar("solutions") as bar:
        task = bar.add_task("starting the sides")

        def show(name: str, state: Mapping[str, Any]) -> None:
            bar.update(task, description=name, completed=state["solutions"], total=state["of"])

        answers, not_run = orders.ask(names, flow, steps, threads=threads, silence_seconds=time_limit, on_progress=show)
    command = typed_command()
    measured = orders.document(answers, not_run, flow, title, command)
    _print_orders(measured)
    for file in (orders.save(measured, out / "convergence.json"), draw_convergence(measured, out)):
        console().print(f"{file}", soft_wrap=True)
    failed = [name for name in not_run if is_available(name)]
    return not failed and all(pair["agrees"] for pair in measured["agreement"])


def _print_orders(measured: Document) -> None:
    """The table of orders, then where the numbers come from and whether the sides agree."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("method\n", no_wrap=True)
    table.add_column("expected\norder", justify="right")
    answered = measured["sides"]
    for kind in ("state", "gradient"):
        for one in answered.values():
            table.add_column(f"{kind}\n{one['title']}", justify="right")
    for method, order in measured["expected"].items():
        found = [one["methods"][method][kind]["order"] for kind in ("state", "gradient") for one in answered.values()]
        table.add_row(method, str(order), *("-" if number is None else f"{number:.3f}" for number in found))
    console().print(table)
    for line in _remarks(measured):
        console().print(line, soft_wrap=True, markup=False)


def _remarks(measured: Document) -> Iterator[str]:
    from ..report.experiment_figures import flow_title
    from ..sides import side

    yield flow_title(measured)
    for one in measured["sides"].values():
        check = one["reference_check"]
        yield (
            f"{one['title']}: halving the steps of the reference changes its states by {check['state']:.1e}, "
            f"its gradient by {check['gradient']:.1e}"
        )
    for pair in measured["agreement"]:
        a, b = (side(name).title for name in pair["sides"])
        yield (
            f"{'AGREE' if pair['agrees'] else 'DISAGREE'}: {a} and {b}, states to {pair['state']:.1e}, "
            f"gradients to {pair['gradient']:.1e}, errors to {pair['errors']:.1e}"
        )
    for name, reason in measured["not_run"].items():
        yield f"NOT RUN: {side(name).title}: {reason}"


def _train_networks(
    out: Path,
    names: Sequence[str],
    depths: Sequence[int],
    seeds: Sequence[int],
    shared: Mapping[str, Any],
    data: Path | None,
    threads: int,
    time_limit: float,
) -> bool:
    """Train, save, print and draw plain and residual networks; whether every side ran that can."""
    from ..experiments import degradation
    from ..experiments.orders import save
    from ..report.degradation_figures import draw_degradation
    from ..sides import is_available

    networks = degradation.networks(depths, seeds)
    folder = out / "training"
    with progress_bar("networks") as bar:
        task = bar.add_task("starting the sides", total=len(networks) * len(names))

        def show(name: str, network: degradation.Network, state: Mapping[str, Any]) -> None:
            done = names.index(name) * len(networks) + networks.index(network)
            text = f"{name} {network.name} step {state['iteration']} loss {state['loss']:.3f}"
            bar.update(task, description=text, completed=done)

        not_run = degradation.train(
            networks, names, shared, data, folder, threads=threads, silence_seconds=time_limit, on_progress=show
        )
    measured = degradation.document(networks, names, folder, not_run, typed_command())
    _print_networks(measured)
    for file in (save(measured, out / "degradation.json"), draw_degradation(measured, out)):
        console().print(f"{file}", soft_wrap=True)
    return not [name for name in not_run if is_available(name)]


def _print_networks(measured: Document) -> None:
    """The table of the last training losses, means over the seeds."""
    from ..sides import side

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layers\n", justify="right")
    answered = measured["sides"]
    for kind in ("plain", "residual"):
        for one in answered.values():
            table.add_column(f"{kind}\n{one['title']}", justify="right")
    first = next(iter(answered.values()))["networks"]
    for depth in sorted({one["depth"] for one in first}):
        losses = [
            [net["training_loss"] for net in one["networks"] if (net["depth"], net["residual"]) == (depth, residual)]
            for residual in (False, True)
            for one in answered.values()
        ]
        table.add_row(str(depth), *(f"{sum(values) / len(values):.3f}" for values in losses))
    console().print(table)
    settings = measured["settings"]
    console().print(
        f"training loss on {measured['images']['name']}, mean of the last tenth of {settings['iterations']} steps; "
        f"width {settings['width']}, batch {settings['batch']}",
        soft_wrap=True,
    )
    for name, reason in measured["not_run"].items():
        console().print(f"NOT RUN: {side(name).title}: {reason}", soft_wrap=True)


def _reproduce(out: Path, names: Sequence[str], chosen: Sequence[Any], threads: int, time_limit: float) -> bool:
    """Train, save, print and draw the paper's experiments; whether every side ran that can."""
    from ..experiments import paper
    from ..experiments.orders import save
    from ..report.paper_figures import draw_paper
    from ..sides import is_available

    folder = out / "training"
    steps = sum(run.iterations for run in chosen)
    before = {run: sum(one.iterations for one in chosen[:place]) for place, run in enumerate(chosen)}
    with progress_bar("steps") as bar:
        task = bar.add_task("starting the sides", total=steps * len(names))

        def show(name: str, run: paper.Run, state: Mapping[str, Any]) -> None:
            done = names.index(name) * steps + before[run] + state["iteration"]
            text = f"{name} {run.folder} objective {state['objective']:.2e} accuracy {state['accuracy_test']:.3f}"
            bar.update(task, description=text, completed=done)

        not_run = paper.train(chosen, names, folder, threads=threads, silence_seconds=time_limit, on_progress=show)
    for part in dict.fromkeys(run.part for run in chosen):
        measured = paper.document(part, chosen, names, folder, not_run, typed_command())
        _print_paper(measured)
        for file in (save(measured, out / f"paper-{part}.json", indent=None), *draw_paper(measured, out)):
            console().print(f"{file}", soft_wrap=True)
    return not [name for name in not_run if is_available(name)]


def _print_paper(measured: Document) -> None:
    """The table of the last objectives and accuracies, and how far the sides are apart."""
    from ..report.paper_figures import paper_title
    from ..sides import side

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("data\n", f"{measured['varied']}\n", "side\n"):
        table.add_column(head, no_wrap=True)
    for head in ("objective\n", "accuracy,\ntraining", "accuracy,\ntest"):
        table.add_column(head, justify="right", no_wrap=True)
    by_side = [(one["title"], one["summary"]) for one in measured["sides"].values()]
    for rows in zip(*(rows for _, rows in by_side), strict=True):
        for (title, _), row in zip(by_side, rows, strict=True):
            shown = (
                _with_deviation(row["objective"], ".2e"),
                *(_with_deviation(row[what], ".3f") for what in ACCURACIES),
            )
            table.add_row(row["dataset"], row["name"], title, *shown)
    console().print(table)
    several = "means and standard deviations over the seeds" if len(measured["seeds"]) > 1 else "seed"
    seeds = ", ".join(str(seed) for seed in measured["seeds"])
    console().print(f"{paper_title(measured)}; {several} {seeds}", soft_wrap=True)
    for name, reason in measured["not_run"].items():
        console().print(f"NOT RUN: {side(name).title}: {reason}", soft_wrap=True)


def _with_deviation(found: Mapping[str, float | None], spec: str) -> str:
    deviation = found["deviation"]
    return format(found["mean"], spec) + ("" if deviation is None else f" ± {deviation:{spec}}")
