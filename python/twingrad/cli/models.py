"""Models: info."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..errors import InputError
from . import completion
from .app import SideName, app, console

if TYPE_CHECKING:
    from ..format import Checkpoint
    from ..info import ModelInfo, Run, Shape, Shapes
    from ..specs import ModelConfig


@app.command()
def info(
    name: Annotated[
        str,
        typer.Argument(
            help="mlp, control_net, gpt, gpt2, resnet20, ...; or a checkpoint or a folder with one.",
            autocompletion=completion.model_names,
        ),
    ],
    sizes: Annotated[str | None, typer.Option(help="Units of an mlp, as 784-16-16-10.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Of a resnet.")] = None,
    in_channels: Annotated[int | None, typer.Option(min=1, help="Of a resnet.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Channels of a resnet's first stage.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Of a gpt: cpu or gpu.", autocompletion=completion.preset_names("gpt"))
    ] = None,
    vocab: Annotated[int | None, typer.Option(min=1, help="Of a gpt.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Of a control_net.")] = None,
    d: Annotated[int | None, typer.Option(min=1, help="Dimension of the state of a control_net.")] = None,
    every: Annotated[bool, typer.Option("--all", help="A line for every array.")] = False,
    side: SideName = "torch",
    last: Annotated[bool, typer.Option("--last", help="Of a folder, take last.h5 instead of best.h5.")] = False,
) -> None:
    """The parameters of a model, layer by layer and in all."""
    from ..info import KNOWN, checkpoint_model, known_model

    options = {
        **{"sizes": None if sizes is None else _parse_sizes(sizes), "classes": classes, "in_channels": in_channels},
        **{"width": width, "preset": preset, "vocab": vocab, "layers": layers, "d": d},
    }
    if name in KNOWN or not Path(name).exists():
        found = known_model(name, options)
        _say(_title(name, found.model, found.config))
    else:
        file, checkpoint = _read(Path(name), side, last, options)
        found = checkpoint_model(checkpoint)
        _say(_title(str(file), found.model, found.config), *_described(checkpoint))
    _print_table(found, every)


def _parse_sizes(text: str) -> list[int]:
    parts = text.split("-")
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise InputError("--sizes", expected="numbers with hyphens between, as 784-16-16-10", found=repr(text))
    return [int(part) for part in parts]


def _read(place: Path, side: str, last: bool, options: Mapping[str, Any]) -> tuple[Path, Checkpoint]:
    """The checkpoint that `place` means, and its file."""
    from ..format import find_checkpoint, read_checkpoint
    from ..sides import side as find_side

    given = next((option for option, value in options.items() if value is not None), None)
    if given is not None:
        found = f"--{given.replace('_', '-')}"
        raise InputError(f"info {place}", expected="no options of a model, for a checkpoint has its own", found=found)
    find_side(side)
    file = find_checkpoint(place, side, "last" if last else "best")
    return file, read_checkpoint(file)


def _title(name: str, model: str, config: ModelConfig) -> str:
    return f"{name}: {model}, {', '.join(f'{setting} {value}' for setting, value in config)}"


def _described(checkpoint: Checkpoint) -> Iterator[str]:
    """Where a checkpoint comes from, and how good it was at its last evaluation."""
    from ..format.checkpoint import per_evaluation

    steps = f"{checkpoint.status} after {checkpoint.iteration} iterations"
    yield f"side {checkpoint.side}, {checkpoint.dtype}, {steps}, written {checkpoint.created}"
    history = checkpoint.history
    if history and len(history["evaluated"]):
        measured = [name for name in per_evaluation(checkpoint.model) if name != "evaluated"]
        values = ", ".join(f"{name.replace('_', ' ')} {history[name][-1]:.4f}" for name in measured)
        yield f"after {history['evaluated'][-1]} iterations: {values}"


def _say(*lines: str) -> None:
    for line in lines:
        console().print(line, soft_wrap=True, markup=False)


def _print_table(found: ModelInfo, every: bool) -> None:
    from ..info import count, runs

    rows = list(_array_rows(found) if every else _run_rows(runs(found.parameters)))
    rows.append(("all", "", "", f"{count(found.parameters):,}"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("array" if every else "layer", no_wrap=True)
    table.add_column("shape" if every else "arrays")
    if any(each for _, _, each, _ in rows):
        table.add_column("each", justify="right", no_wrap=True)
    else:
        rows = [(name, arrays, total) for name, arrays, _, total in rows]
    table.add_column("parameters", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    _say("")
    console().print(table)
    if found.statistics:
        _say(f"running statistics, which are not trained: {count(found.statistics):,}")


def _array_rows(found: ModelInfo) -> Iterator[tuple[str, ...]]:
    """Name, shape, nothing, parameters of each array."""
    for name, shape in found.shapes.items():
        yield name, _times(shape), "", f"{math.prod(shape):,}" if name in found.trained else "not trained"


def _run_rows(runs: Iterable[Run]) -> Iterator[tuple[str, ...]]:
    """Names, arrays, parameters of one and of all, of equal layers or blocks that follow each other."""
    for run in runs:
        name, each = run.names[0], ""
        if len(run.names) > 1:
            name, each = f"{name} to {run.names[-1].rpartition('.')[2]}", f"{run.each:,}"
        yield name, _contents(run.arrays), each, f"{run.total:,}"


def _contents(arrays: Shapes) -> str:
    """The arrays of a layer with their shapes; of a block its layers, with the shapes of what has several axes."""
    if all("." not in name for name in arrays):
        return ", ".join(f"{name} {_times(shape)}".strip() for name, shape in arrays.items())
    layers: dict[str, str] = {}
    for name, shape in arrays.items():
        layer = name.rpartition(".")[0]
        layers[layer] = f"{layer} {_times(shape)}" if len(shape) > 1 else layers.get(layer, layer)
    return ", ".join(layers.values())


def _times(shape: Shape) -> str:
    return "×".join(str(size) for size in shape)
