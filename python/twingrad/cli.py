"""The command `twingrad`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .errors import InputError, Interrupted, SideError

app = typer.Typer(
    help="The same networks in PyTorch and Flux.jl, held against each other.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
train_app = typer.Typer(help="Train a model on one side.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train_app, name="train")

DISAGREEMENT, BAD_INPUT, INTERRUPTED = 1, 2, 130

Names = Annotated[list[str] | None, typer.Argument(help="Case files, or names of cases of the checkout. Default: all.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads for each side's linear algebra.")]
TimeLimit = Annotated[float, typer.Option(min=0.1, help="Seconds a side may be silent before it counts as hung.")]


def console(*, stderr: bool = False) -> Console:
    """A console that is 80 columns wide where nobody says how wide it is."""
    wide = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return wide if wide.is_terminal else Console(stderr=stderr, highlight=False, width=80)


def progress_bar(unit: str) -> Progress:
    """A progress bar on stderr; silent where stderr is no terminal."""
    err = console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(compact=True),
    )
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"twingrad {version('twingrad')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave."),
    ] = False,
) -> None:
    pass


@app.command()
def compare(
    cases: Names = None,
    dtype: Annotated[str, typer.Option(help="Number types, separated by commas.")] = "float64,float32",
    steps: Annotated[int, typer.Option(min=0, help="Training steps to compare in float64.")] = 10,
    recorded: Annotated[str, typer.Option(help="Sides to take from their recorded results, e.g. flux.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the JSON to a file too.")] = None,
    threads: Threads = 1,
    time_limit: TimeLimit = 300.0,
) -> None:
    """Hold the sides against each other and against the oracle. Exit status 1: they disagree."""
    from . import harness
    from .report.terminal import print_comparison
    from .sides import side

    files = harness.find_cases(cases or [])
    dtypes = tuple(_choose(name, "dtype", harness.DTYPES) for name in dtype.split(","))
    only_recorded = tuple(side(name).name for name in recorded.split(",") if name)
    stale = harness.stale_recordings() if not cases else []
    with (
        harness.Sides(only_recorded, threads=threads, silence_seconds=time_limit) as running,
        progress_bar("cases") as bar,
    ):
        task = bar.add_task("starting the sides", total=len(files))

        def advance(_: str) -> None:
            bar.update(task, advance=1, description="comparing")

        result = harness.compare(files, running, dtypes, steps, advance)
    result.failures += stale
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
    side: Annotated[str, typer.Option(help="torch or flux.")],
    case: Annotated[Path, typer.Option(help="The case file.")],
    out: Annotated[Path, typer.Option(help="The result file to write.")],
    dtype: Annotated[str, typer.Option(help="float64, float32 or bfloat16.")] = "float64",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    steps: Annotated[int, typer.Option(min=0, help="Training steps to take after the gradient.")] = 0,
    threads: Threads = 1,
    time_limit: TimeLimit = 300.0,
) -> None:
    """Evaluate one case on one side: loss, outputs, gradients."""
    from .format import read_case
    from .sides import Worker
    from .sides import side as find_side

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
    from . import harness
    from .sides import sides

    with harness.Sides(threads=threads, silence_seconds=time_limit) as running, progress_bar("cases") as bar:
        task = bar.add_task("starting the sides", total=len(sides()) * len(harness.find_cases([])))
        recordings = harness.record(
            running, lambda name, _: bar.update(task, advance=1, description=f"recording {name}")
        )
    for recording in recordings:
        out = f"{recording.versions['framework']}, {recording.versions['language']}"
        console().print(f"recorded/{recording.side}.h5: {len(recording.results)} cases, {out}", soft_wrap=True)


@app.command()
def fixtures(
    names: Annotated[list[str] | None, typer.Argument(help="Names of cases. Default: all.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: shared_fixtures/cases.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; say what is wrong with the folder.")] = False,
) -> None:
    """Write the cases: weights, data, and an oracle confirmed by finite differences."""
    from . import paths
    from .fixtures import generate

    folder = out or paths.cases()
    if check:
        found = generate.problems(folder)
        for problem in found:
            console().print(problem, soft_wrap=True)
        console().print(f"{folder}: {len(found)} problems" if found else f"{folder}: in order")
        if found:
            raise typer.Exit(DISAGREEMENT)
        return
    with progress_bar("cases") as bar:
        task = bar.add_task("confirming and writing", total=len(generate.chosen(names or [])))
        written = generate.write_cases(names or [], folder, lambda *_: bar.advance(task))
    console().print(f"{folder}: {written} files written, the others were up to date")


@app.command()
def seal(file: Annotated[Path, typer.Argument(help="The case file.")]) -> None:
    """Add the digests to your own case file."""
    from .format import seal as add_digests

    case = add_digests(file)
    console().print(f"{file}: digest {case.digest}", soft_wrap=True)


@app.command()
def setup() -> None:
    """Prepare the Julia side: install its packages, and Julia itself where the network allows."""
    from .sides.setup import set_up

    set_up(console())


@app.command("sides")
def list_sides() -> None:
    """Print the names of the sides that can run on this machine, one a line."""
    from .sides import is_available, sides

    for name in sides():
        if is_available(name):
            print(name)  # noqa: T201


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def julia(context: typer.Context) -> None:
    """Run the Julia in use, in its project: twingrad julia -e 'using TwinGrad'."""
    import os

    from .sides.setup import julia_command

    command = julia_command(context.args)
    os.execvp(command[0], command)


@app.command()
def doctor(threads: Threads = 1) -> None:
    """Say what is on this machine, what is missing, and what to do about it."""
    from .doctor import examine

    examine(console(), threads)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder with comparison.json and training/, and for the page.")] = Path(
        "report"
    ),
) -> None:
    """Draw the tables and figures of saved results: OUT/index.html."""
    from .report.page import write_page

    console().print(f"{write_page(out)}", soft_wrap=True)


@train_app.command("control")
def train_control(
    out: Annotated[Path, typer.Option(help="Folder for the training file of the side and the figures.")],
    dataset: Annotated[str, typer.Option(help="donut1d, donut2d, squares2d or spiral2d.")] = "donut2d",
    network: Annotated[str, typer.Option(help="net, resnet, odenet or odenet-simplex.")] = "odenet",
    method: Annotated[str, typer.Option(help="euler, improved-euler, kutta3 or kutta4.")] = "euler",
    side: Annotated[str, typer.Option(help="torch or flux.")] = "torch",
    iterations: Annotated[int, typer.Option(min=0, help="Descent steps in all.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="Chooses data and initial parameters.")] = 1,
    layers: Annotated[int, typer.Option(min=1)] = 20,
    d: Annotated[int, typer.Option(min=2, help="Dimension of the state; the data fill the first two.")] = 2,
    samples: Annotated[int, typer.Option(min=1, help="Training samples.")] = 500,
    samples_test: Annotated[int, typer.Option(min=1, help="Test samples.")] = 500,
    freeze: Annotated[str, typer.Option(help="Parameters to leave alone, e.g. W,mu.")] = "",
    gradient: Annotated[str, typer.Option(help="manual (costate equation) or ad (automatic).")] = "manual",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    evaluate_every: Annotated[int, typer.Option(min=1, help="Iterations between evaluations on test data.")] = 10,
    figures: Annotated[bool, typer.Option(help="Draw the figures at the end.")] = True,
    threads: Threads = 1,
    time_limit: TimeLimit = 300.0,
) -> None:
    """Train a control network. The same command again goes on where an interrupted one stopped."""
    from .format import read_training
    from .report.figures import draw_training
    from .sides import Worker
    from .sides import side as find_side
    from .training.settings import control_settings

    find_side(side)
    settings = control_settings(
        {
            **{
                "dataset": dataset,
                "network": network,
                "method": method,
                "layers": layers,
                "d": d,
                "seed": seed,
            },
            **{"samples": samples, "samples_test": samples_test, "gradient": gradient, "dtype": dtype},
            **{"freeze": tuple(name for name in freeze.split(",") if name), "evaluate_every": evaluate_every},
        }
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(str(out), expected="a folder to write to", found=error.strerror or str(error)) from None
    file = out / f"{side}.h5"
    arguments = {"settings": settings.as_json(), "iterations": iterations, "out": str(file.resolve())}
    with Worker(side, threads=threads, silence_seconds=time_limit) as worker, progress_bar("steps") as bar:
        task = bar.add_task(side, total=iterations)

        def show(state: dict[str, float]) -> None:
            text = f"{side} objective {state['objective']:.3e} accuracy {state['accuracy_test']:.3f}"
            bar.update(task, completed=state["iteration"], description=text)

        worker.request("train", arguments, show)
    trained = read_training(file)
    history = trained.history
    console().print(
        f"{file}: {trained.status} after {trained.iteration} iterations, objective {history['objective'][-1]:.4e} "
        f"(test {history['objective_test'][-1]:.4e}), accuracy {history['accuracy_train'][-1]:.3f} "
        f"(test {history['accuracy_test'][-1]:.3f})",
        soft_wrap=True,
    )
    if figures:
        for picture in draw_training(out):
            console().print(f"{picture}", soft_wrap=True)


def _choose(name: str, what: str, known: Iterable[str]) -> str:
    from .errors import one_of

    if name not in known:
        raise InputError(what, expected=one_of(known), found=repr(name))
    return name


def main() -> None:
    """Run the command; errors of use are one line on stderr and exit status 2."""
    try:
        app()
    except InputError as error:
        console(stderr=True).print(f"twingrad: {error}", soft_wrap=True, markup=False)
        sys.exit(BAD_INPUT)
    except SideError as error:
        console(stderr=True).print(f"twingrad: {error}", soft_wrap=True, markup=False)
        sys.exit(BAD_INPUT)
    except Interrupted:
        console(stderr=True).print("twingrad: interrupted; the same command goes on from the last saved state")
        sys.exit(INTERRUPTED)
