"""Training classifiers of images: train mlp, train resnet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..files import make_folder
from . import completion
from .app import (
    Device,
    PathName,
    SideName,
    Threads,
    TimeLimit,
    at_work_on,
    console,
    progress_bar,
    train_app,
    typed_command,
)
from .train import STARTED_BY_TORCHRUN, reached

Out = Annotated[Path, typer.Option(help="Folder for SIDE/last.h5, the images file and the figures.")]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder with files of MNIST, Fashion-MNIST or CIFAR-10. Default: TwinGrad's own digits."),
]
Preset = Annotated[
    str,
    typer.Option(
        help="cpu, for resnet also gpu: what the options below start from.",
        autocompletion=completion.preset_names("resnet"),
    ),
]
Whole = Annotated[int | None, typer.Option()]
Number = Annotated[float | None, typer.Option()]
OptimizerName = Annotated[str | None, typer.Option(help="gradient-descent, sgd (with momentum), adam or adamw.")]
Iterations = Annotated[int | None, typer.Option(help="Steps in all; the learning rate falls until then.")]
Until = Annotated[int | None, typer.Option(min=0, help="Stop after this many steps; go on later.")]
Warmup = Annotated[int | None, typer.Option(help="Steps in which the learning rate climbs.")]
WeightDecay = Annotated[float | None, typer.Option(help="On matrices and kernels only.")]
Clip = Annotated[float | None, typer.Option(help="Largest norm of the gradients; 0 for any.")]
Pad = Annotated[int | None, typer.Option(help="Shift training images by up to so many pixels.")]
Flip = Annotated[bool | None, typer.Option(help="Mirror every other training image, drawn at random.")]
Seed = Annotated[int, typer.Option(min=0, help="Chooses initial weights, batches and augmentation.")]
DType = Annotated[str, typer.Option(help="float32, float64, or bfloat16 (torch).")]
EvaluateEvery = Annotated[int | None, typer.Option(help="Steps between evaluations.")]
EvaluationImages = Annotated[int | None, typer.Option(help="Images of an evaluation, of each part; 0 for all.")]
Compiled = Annotated[bool, typer.Option("--compile", help="Translate the model first (torch.compile).")]
Figures = Annotated[bool, typer.Option(help="Classify all test images and draw the figures at the end.")]

Given = Mapping[str, Any]


@train_app.command("mlp")
def train_mlp(
    out: Out,
    data: Data = None,
    preset: Preset = "cpu",
    side: SideName = "torch",
    hidden: Annotated[str | None, typer.Option(help="Numbers of hidden units, as 16-16; empty for none.")] = None,
    activation: Annotated[str | None, typer.Option(help="sigmoid or relu.")] = None,
    loss: Annotated[str | None, typer.Option(help="mse or cross-entropy.")] = None,
    batch: Whole = None,
    accumulation: Whole = None,
    iterations: Iterations = None,
    until: Until = None,
    optimizer: OptimizerName = None,
    learning_rate: Number = None,
    min_learning_rate: Number = None,
    warmup: Warmup = None,
    momentum: Number = None,
    beta1: Number = None,
    beta2: Number = None,
    weight_decay: WeightDecay = None,
    clip: Clip = None,
    pad: Pad = None,
    flip: Flip = None,
    seed: Seed = 1,
    dtype: DType = "float32",
    evaluate_every: EvaluateEvery = None,
    evaluation_images: EvaluationImages = None,
    device: Device = "cpu",
    compiled: Compiled = False,
    figures: Figures = True,
    path: PathName = "fast",
    threads: Threads = 1,
    time_limit: TimeLimit = 1800.0,
) -> None:
    """Train a multilayer perceptron on images. The same command again goes on where an interrupted one stopped."""
    given = dict(locals())
    if hidden is not None:
        given["hidden"] = _parse_hidden(hidden)
    _train("mlp", given)


@train_app.command("resnet")
def train_resnet(
    out: Out,
    data: Data = None,
    preset: Preset = "cpu",
    side: SideName = "torch",
    variant: Annotated[
        str | None,
        typer.Option(help="resnet20, 32, 44, 56, 110; resnet18, 34, 50.", autocompletion=completion.variant_names),
    ] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the first stage; 0: the variant's own.")] = None,
    residual: Annotated[
        bool | None, typer.Option("--residual/--plain", help="With shortcuts, or the plain network.")
    ] = None,
    batch: Whole = None,
    accumulation: Whole = None,
    iterations: Iterations = None,
    until: Until = None,
    optimizer: OptimizerName = None,
    learning_rate: Number = None,
    min_learning_rate: Number = None,
    warmup: Warmup = None,
    momentum: Number = None,
    beta1: Number = None,
    beta2: Number = None,
    weight_decay: WeightDecay = None,
    clip: Clip = None,
    pad: Pad = None,
    flip: Flip = None,
    seed: Seed = 1,
    dtype: DType = "float32",
    evaluate_every: EvaluateEvery = None,
    evaluation_images: EvaluationImages = None,
    device: Device = "cpu",
    compiled: Compiled = False,
    figures: Figures = True,
    path: PathName = "fast",
    threads: Threads = 1,
    time_limit: TimeLimit = 1800.0,
) -> None:
    """Train a residual network on images. The same command again goes on where an interrupted one stopped."""
    _train("resnet", dict(locals()))


def _parse_hidden(text: str) -> list[int]:
    parts = text.split("-") if text else []
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InputError("--hidden", expected="numbers with hyphens between, as 16-16", found=repr(text))
    return [int(part) for part in parts]


def _train(model: str, given: Given) -> None:
    """Train `model` by a command line, whose options are `given` by name; None where one is left out."""
    from ..sides import Worker
    from ..sides import side as find_side
    from ..training.command_file import keep_command
    from ..training.settings import CLASSIFIER_SETTINGS, classifier_settings
    from ..training.settings import preset as read_preset

    if os.environ.keys() >= STARTED_BY_TORCHRUN:
        raise InputError(f"train {model}", expected="one process; torchrun trains a gpt alone", found="torchrun")
    side, out = given["side"], given["out"]
    find_side(side)
    chosen = {name: given[name] for name in CLASSIFIER_SETTINGS[model].model_fields if given[name] is not None}
    settings = classifier_settings(model, {**read_preset(model, given["preset"]), **chosen})
    data = None if given["data"] is None else str(given["data"].resolve())
    arguments = {
        **{"model": model, "settings": settings.as_json(), "data": data, "out": str(out.resolve())},
        **{name: given[name] for name in ("until", "device", "compiled", "path")},
    }
    last = settings.iterations if given["until"] is None else min(given["until"], settings.iterations)
    file, threads, silence = out / side / "last.h5", given["threads"], given["time_limit"]
    make_folder(out)
    with at_work_on(out / side):
        keep_command(out, side, typed_command())
        with Worker(side, threads=threads, silence_seconds=silence) as worker, progress_bar("steps") as bar:
            task = bar.add_task(f"{side} starting", total=last)

            def show(state: Given) -> None:
                bar.update(task, completed=state["iteration"], description=_described(side, state))

            worker.request("train-classifier", arguments, show)
            if given["figures"]:
                bar.update(task, description=f"{side} classifying the test images")
                request = {"checkpoint": str(file.resolve()), "data": data, "folder": arguments["out"]}
                dtype = "float64" if settings.dtype == "float64" else "float32"
                reply = worker.request("classify", {**request, "dtype": dtype, "device": given["device"]})
                _keep_classified(file, reply, given["data"], out, worker.versions)
        _tell(file)
        if given["figures"]:
            _draw(out)


def _keep_classified(file: Path, reply: Given, data: Path | None, out: Path, versions: Given) -> None:
    """Write what the side made of the test images beside its checkpoint."""
    from ..data.images import open_images
    from ..format import read_checkpoint
    from ..report.classified import from_reply, write_classified

    trained = read_checkpoint(file)
    write_classified(out, from_reply(reply, trained.side, trained, open_images(data, out), versions))


def _draw(out: Path) -> None:
    from ..report.classified import read_classified
    from ..report.image_figures import draw_classified, draw_image_training

    for picture in (draw_image_training(out), *draw_classified(out, read_classified(out))):
        console().print(f"{picture}", soft_wrap=True)


def _described(side: str, state: Given) -> str:
    accuracy = state["accuracy_test"]
    text = f"{side} loss {state['loss']:.3f}" + (f" test {100 * accuracy:.1f} %" if accuracy is not None else "")
    return f"{text} {state['images_per_second']:,.0f} images/s"


def _tell(file: Path) -> None:
    from ..format import read_checkpoint

    trained = read_checkpoint(file)
    history, line = trained.history, reached(file, trained, 1, "images")
    if len(history["evaluated"]):
        numbers = {name: values[-1] for name, values in history.items()}
        line += (
            f", loss {numbers['loss_train']:.4f} (test {numbers['loss_test']:.4f}), "
            f"accuracy {numbers['accuracy_train']:.4f} (test {numbers['accuracy_test']:.4f})"
        )
    console().print(line, soft_wrap=True)
