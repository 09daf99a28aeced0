"""Images: data mnist, data fashion-mnist, data cifar10, import torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..files import make_folder
from .app import at_work_on, console, data_app, import_app
from .download import show_download

Folder = Annotated[Path, typer.Option(help="Where to make a folder of the data set's name.")]


@data_app.command("mnist")
def mnist(out: Folder = Path("data")) -> None:
    """Download MNIST (12 MB) and check it."""
    _download("MNIST", "mnist", out)


@data_app.command("fashion-mnist")
def fashion_mnist(out: Folder = Path("data")) -> None:
    """Download Fashion-MNIST (31 MB) and check it."""
    _download("Fashion-MNIST", "fashion-mnist", out)


@data_app.command("cifar10")
def cifar10(out: Folder = Path("data")) -> None:
    """Download CIFAR-10 (170 MB), check it and unpack it."""
    _download("CIFAR-10", "cifar10", out)


def _download(title: str, name: str, out: Path) -> None:
    from ..data.image_corpora import download_images

    with at_work_on(make_folder(out / name)):
        show_download(title, lambda report: download_images(name, out, report))


@import_app.command("torchvision")
def import_torchvision(
    file: Annotated[Path, typer.Argument(help="A state dict of a ResNet in a safetensors file.")],
    variant: Annotated[
        str | None, typer.Option(help="resnet18, resnet34 or resnet50; told by the file where none is given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The checkpoint to write. Default: the variant's name.")] = None,
) -> None:
    """Turn ResNet weights of torchvision into a checkpoint."""
    from ..importers.torchvision import read_torchvision
    from ..specs import ResNetConfig

    checkpoint = read_torchvision(file, variant)
    assert isinstance(checkpoint.config, ResNetConfig)
    place = out or Path(f"{checkpoint.config.variant}.h5")
    make_folder(place.parent)
    checkpoint.write(place)
    console().print(f"{place}", soft_wrap=True)
