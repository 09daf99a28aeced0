"""Trained models on data they were not trained on: evaluate."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from .app import Device, SideName, Threads, TimeLimit, app, console
from .text import CheckpointPlace, DType, Last


@app.command()
def evaluate(
    checkpoint: CheckpointPlace,
    text: Annotated[Path | None, typer.Option(help="The text for a GPT; its last tenth counts.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with images for a classifier. Default: TwinGrad's own digits.")
    ] = None,
    side: SideName = "torch",
    last: Last = False,
    dtype: DType = "float32",
    device: Device = "cpu",
    threads: Threads = 1,
    time_limit: TimeLimit = 1800.0,
) -> None:
    """The loss of a trained GPT on the validation part of a text, or of a classifier on all test images."""
    from ..format import find_checkpoint, read_checkpoint
    from ..sides import side as find_side

    find_side(side)
    file = find_checkpoint(checkpoint, side, "last" if last else "best")
    is_gpt = read_checkpoint(file).model == "gpt"
    if is_gpt and text is None:
        raise InputError("--text", expected=f"a text for the GPT in {file}", found="none")
    if (other := data if is_gpt else text) is not None:
        option, kind = ("--data", "a GPT") if is_gpt else ("--text", "a classifier")
        raise InputError(option, expected=f"nothing: {file} holds {kind}", found=repr(str(other)))
    place = text if is_gpt else data
    arguments = {
        **{"checkpoint": str(file.resolve()), "dtype": dtype, "device": device},
        "text" if is_gpt else "data": None if place is None else str(place.resolve()),
    }
    verb = "evaluate" if is_gpt else "classify"
    done = _ask(side, verb, arguments, threads, time_limit)
    if is_gpt:
        console().print(f"{file}: {side}, validation loss {done['loss']!r}", soft_wrap=True)
    else:
        result = f"test loss {done['loss']!r}, accuracy {done['accuracy']:.4f} of {len(done['labels']):,} images"
        console().print(f"{file}: {side}, {result}", soft_wrap=True)


def _ask(side: str, verb: str, arguments: Mapping[str, Any], threads: int, time_limit: float) -> dict[str, Any]:
    """The reply to a request that keeps data in a folder for as long as it takes."""
    from ..sides import Worker

    with (
        tempfile.TemporaryDirectory(prefix="twingrad-") as folder,
        Worker(side, threads=threads, silence_seconds=time_limit) as worker,
    ):
        reply: dict[str, Any] = worker.request(verb, {**arguments, "folder": folder})
    return reply
