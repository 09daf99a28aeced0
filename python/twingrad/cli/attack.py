"""Adversarial examples: attack."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperCommand

from ..errors import InputError
from .app import DISAGREEMENT, Device, Threads, TimeLimit, app, at_work_on, choose, console, progress_bar, typed_command

if TYPE_CHECKING:
    from ..specs import ModelConfig

OPTION = "--epsilon"
EPSILONS = "0.01,0.02,0.05,0.1,0.2"

Document = Mapping[str, Any]


class SeveralEpsilons(TyperCommand):
    """A command for which `--epsilon 0.1 0.2` is `--epsilon 0.1 --epsilon 0.2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command line."""
        rest: list[str] = super().parse_args(ctx, list(_one_value_each(args)))
        return rest


def _one_value_each(args: Iterable[str]) -> Iterator[str]:
    values = None  # of the last option, where that is --epsilon
    for arg in args:
        if arg.startswith("--"):
            name, equals, _ = arg.partition("=")
            values = len(equals) if name == OPTION else None
        elif values is not None:
            if values > 0:
                yield OPTION
            values += 1
        yield arg


@app.command(cls=SeveralEpsilons)
def attack(
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint or training file, or a folder of 'twingrad train' mlp, resnet, control.")
    ],
    epsilon: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER...", help=f"Strengths of the attack, one or more. Default: {EPSILONS}."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with images for a classifier. Default: TwinGrad's own digits.")
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="How many of the test samples; 0 for all.")] = 0,
    sides: Annotated[str, typer.Option(help="Sides, separated by commas. Default: all that can run.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for figures and numbers. Default: 'attack' beside the checkpoint.")
    ] = None,
    examples: Annotated[int, typer.Option(min=1, max=50, help="How many images the sheet shows.")] = 6,
    shown: Annotated[
        str | None, typer.Option(help="Strength in the pictures. Default: the first to mislead on most examples.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    device: Device = "cpu",
    threads: Threads = 1,
    time_limit: TimeLimit = 1800.0,
) -> None:
    """Adversarial examples by the fast gradient sign method: how a trained classifier stands up to them.

    Strengths are in units of pixels from 0 to 1, or of the plane. Each side attacks by its own gradient.
    """
    from ..experiments import attack as attacks
    from ..files import make_folder
    from ..sides import is_available, side
    from ..sides import sides as all_sides

    names = [side(name).name for name in sides.split(",") if name] or list(all_sides())
    choose(dtype, "--dtype", ("float64", "float32"))
    chosen = None if shown is None else _number("--shown", shown)
    epsilons = sorted({0.0, *_numbers(epsilon or [EPSILONS]), *([] if chosen is None else [chosen])})
    file = _find(checkpoint, list(all_sides()))
    place = make_folder(out or (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "attack")
    with (
        at_work_on(place / "attack"),
        tempfile.TemporaryDirectory(prefix="twingrad-") as folder,
        progress_bar("samples") as bar,
    ):
        task = bar.add_task("starting the sides")

        def show(name: str, state: Mapping[str, Any]) -> None:
            bar.update(task, description=name, completed=state["samples"], total=state["of"])

        request = {
            **{"checkpoint": str(file.resolve()), "data": None if data is None else str(data.resolve())},
            **{"folder": folder, "epsilons": epsilons, "count": count, "dtype": dtype, "device": device},
        }
        answers, places, not_run = attacks.ask(
            names, request, examples, threads=threads, silence_seconds=time_limit, on_progress=show
        )
        about = {"command": typed_command(), "checkpoint": str(file)}
        about |= {"dtype": dtype, "device": device}
        subject = _Subject(file, answers[0].reply["kind"], data, Path(folder))
        measured = attacks.document(answers, places, not_run, {**about, **subject.words}, epsilons, chosen)
        written = [attacks.save(measured, place / "attack.json"), *subject.draw(measured, place)]
    _print(measured)
    for picture in written:
        console().print(f"{picture}", soft_wrap=True)
    if any(is_available(name) for name in not_run):
        raise typer.Exit(DISAGREEMENT)


def _numbers(texts: Iterable[str]) -> list[float]:
    return [_number(OPTION, part) for text in texts for part in text.split(",")]


def _number(option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0.0):
        raise InputError(option, expected="finite numbers from 0 on, as 0.01 0.02", found=repr(text))
    return abs(number)  # -0.0 is 0.0


def _find(place: Path, names: list[str]) -> Path:
    """The file that `place` means: itself, the first training file of a control network in it, or a checkpoint."""
    from ..format import find_checkpoint

    trainings = (place / f"{name}.h5" for name in names)
    return next((file for file in trainings if file.is_file()), None) or find_checkpoint(place, names[0], "last")


class _Subject:
    """What was attacked, in words and in pictures."""

    def __init__(self, file: Path, kind: str, data: Path | None, folder: Path) -> None:
        from ..data.images import Images, open_images
        from ..format import Training, read_checkpoint, read_training
        from ..report.figures import run_title, settings_of

        self._images: Images | None = None
        self._training: Training | None = None
        if kind == "images":
            self._images = open_images(data, folder)
            self.words = {"model": _described(read_checkpoint(file).config), "data": self._images.kind.name}
        else:
            self._training = read_training(file)
            dataset = settings_of(self._training).dataset
            self.words = {"model": run_title(self._training).removeprefix(f"{dataset}, "), "data": dataset}

    def draw(self, measured: Document, place: Path) -> list[Path]:
        from ..report.attack_figures import draw_attack

        return draw_attack(measured, place, images=self._images, training=self._training)


def _described(config: ModelConfig) -> str:
    """A classifier of images in words."""
    from ..specs import MLPConfig, ResNetConfig

    if isinstance(config, MLPConfig):
        return f"mlp {'-'.join(map(str, config.sizes))}"
    assert isinstance(config, ResNetConfig)
    return config.variant


def _print(measured: Document) -> None:
    """The table of accuracies, then what was attacked and what is to be said about the sides."""
    answered = list(measured["sides"].values())
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("ε\n", justify="right", no_wrap=True)
    for one in answered:
        table.add_column(f"accuracy\n{one['title']}", justify="right")
    if len(answered) > 1:
        table.add_column("classified\ndifferently", justify="right")
    for row, epsilon in enumerate(measured["epsilons"]):
        cells = [f"{epsilon:g}", *(f"{one['accuracies'][row]:.4f}" for one in answered)]
        table.add_row(*cells, *([f"{measured['classified_differently'][row]:,}"] if len(answered) > 1 else []))
    console().print(table)
    for line in _remarks(measured):
        console().print(line, soft_wrap=True, markup=False)


def _remarks(measured: Document) -> Iterator[str]:
    from ..report.attack_figures import subject
    from ..sides import side

    yield f"FGSM in {measured['dtype']}: {subject(measured)}"
    answered, signs = list(measured["sides"].values()), measured["signs"]
    for one in answered:
        if one["vanished"]:
            yield f"{one['title']}: {one['vanished']:,} samples have a gradient of exactly zero; no ε moves them"
    if len(answered) > 1:
        different, compared = (f"{signs[name]:,}" for name in ("different", "compared"))
        found = f"{different} of {compared} coordinates differ" if signs["different"] else f"equal in all {compared}"
        yield f"signs of the examples' gradients on the sides: {found}"
    for name, reason in measured["not_run"].items():
        yield f"NOT RUN: {side(name).title}: {reason}"
