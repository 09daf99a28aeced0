"""The application: options that commands share, the console, the progress bar, and how errors are told."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import InputError, Interrupted, SideError, one_of
from ..lock import WAIT_OR_ANOTHER_OUT, locked
from . import completion

app = typer.Typer(
    help="The same networks in PyTorch and Flux.jl, held against each other.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
train_app = typer.Typer(help="Train a model on one side.", no_args_is_help=True, rich_markup_mode=None)
data_app = typer.Typer(help="Get data to train on.", no_args_is_help=True, rich_markup_mode=None)
import_app = typer.Typer(help="Take weights of other programs.", no_args_is_help=True, rich_markup_mode=None)
experiment_app = typer.Typer(help="Experiments with both sides.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train_app, name="train")
app.add_typer(data_app, name="data")
app.add_typer(import_app, name="import")
app.add_typer(experiment_app, name="experiment")

DISAGREEMENT, BAD_INPUT, INTERRUPTED = 1, 2, 130
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What the system says where a disk is full or read-only, as the one of temporary files may be."""

SideName = Annotated[str, typer.Option(help="torch or flux.", autocompletion=completion.side_names)]
PathName = Annotated[
    str,
    typer.Option(
        help="fast (kernels) or reference (plain layers).",
        autocompletion=completion.one_of_these("fast", "reference"),
    ),
]
Device = Annotated[str, typer.Option(help="cpu or cuda.", autocompletion=completion.one_of_these("cpu", "cuda"))]
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


def choose(name: str, what: str, known: Iterable[str]) -> str:
    """`name` if it is one of the known ones; raises InputError, naming `what`, if not."""
    if name not in known:
        raise InputError(what, expected=one_of(known), found=repr(name))
    return name


def listed(text: str) -> list[str]:
    """The names in a text with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def whole_numbers(option: str, text: str) -> list[int]:
    """The numbers in a text with commas between them; raises InputError, naming the option, where it has others."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InputError(option, expected="numbers with commas between", found=repr(text))
    return [int(part) for part in parts]


def typed_command() -> str:
    """The command as it was typed, by the name of the program alone."""
    return shlex.join(["twingrad", *sys.argv[1:]])


def at_work_on(path: Path, hint: str = WAIT_OR_ANOTHER_OUT) -> AbstractContextManager[None]:
    """Around the work of this command on `path`: raises InputError where another command is at work on it."""
    return locked(path, typed_command(), hint)


def main() -> None:
    """Run the command; errors of use are one line on stderr and exit status 2."""
    try:
        app(prog_name="twingrad")
    except InputError as error:
        console(stderr=True).print(f"twingrad: {error}", soft_wrap=True, markup=False)
        sys.exit(BAD_INPUT)
    except SideError as error:
        console(stderr=True).print(f"twingrad: {error}", soft_wrap=True, markup=False)
        sys.exit(BAD_INPUT)
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        found = f"{error.filename or 'output'}: expected a place to write to, found {error.strerror}"
        console(stderr=True).print(f"twingrad: {found}", soft_wrap=True, markup=False)
        sys.exit(BAD_INPUT)
    except Interrupted:
        console(stderr=True).print("twingrad: interrupted; the same command goes on from the last saved state")
        sys.exit(INTERRUPTED)
