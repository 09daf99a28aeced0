"""This machine: setup, sides, julia, doctor."""

from __future__ import annotations

import typer

from .app import Threads, app, console


@app.command()
def setup() -> None:
    """Prepare the Julia side: install its packages, and Julia itself where the network allows."""
    from ..sides.setup import set_up

    set_up(console())


@app.command("sides")
def list_sides() -> None:
    """Print the names of the sides that can run on this machine, one a line."""
    from ..sides import is_available, sides

    for name in sides():
        if is_available(name):
            print(name)  # noqa: T201


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def julia(context: typer.Context) -> None:
    """Run the Julia in use, in its project: twingrad julia -e 'using TwinGrad'."""
    import os

    from ..sides.setup import julia_command

    command = julia_command(context.args)
    os.execvp(command[0], command)


@app.command()
def doctor(threads: Threads = 1) -> None:
    """Say what is on this machine, what is missing, and what to do about it."""
    from ..doctor import examine

    examine(console(), threads)
