"""Figures of classifiers of images: how they were trained, and what they make of the test images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from ..format import Checkpoint
from ..sides import side
from ..specs import Arrays, MLPConfig, ResNetConfig
from ..training.settings import CLASSIFIER_SETTINGS, ClassifierSettings, classifier_settings
from .classified import Classified
from .curves import (
    Curve,
    Evaluated,
    Kind,
    batch_size,
    check_trainings,
    draw_figure,
    logarithmic,
    parameters,
    read_checkpoints,
    source_name,
    tick_places,
    training_curves,
)
from .figures import SHADES
from .language import ENGLISH, Language
from .parts import made_with

DATA_SETS = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
MODELS = {"mlp": "MLP", "resnet": "ResNet"}
OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
LOSSES = {"cross-entropy": "nats per image", "mse": "squared error per image"}

MISTAKES = LinearSegmentedColormap.from_list("mistakes", ["#ffffff", "#fdbb84", "#8c2d04"])
RIGHT = "#dbe9f6"
"""Behind the counts of right predictions, whose number would hide the mistakes."""
COLUMNS = 8
"""Of a sheet of misclassified images."""


def draw_image_training(out: Path) -> Path:
    """Draw the trainings of `twingrad train mlp --out OUT` or `twingrad train resnet --out OUT`.

    Args:
        out: holds SIDE/last.h5 of one side or more; the figure is written here.

    Returns:
        OUT/curves.png: losses, error rates, norm of the gradients and learning rate, images per second.

    Raises:
        InputError: see `read_image_trainings`; also where `out` cannot be written to.
    """
    return draw(out, read_image_trainings(out))


def draw(folder: Path, trainings: Sequence[Checkpoint]) -> Path:
    """Draw trainings that were read before; see `draw_image_training`."""
    return draw_figure(lambda: image_curves(trainings), Path(folder) / "curves.png")


def read_image_trainings(folder: Path) -> list[Checkpoint]:
    """The trainings on images in a folder, in the order of the table of sides.

    Raises:
        InputError: there is no checkpoint, one is damaged or has no history, or they are not of the same training.
    """
    trainings = read_checkpoints(folder)
    check_trainings(folder, trainings, IMAGES)
    return trainings


def settings_of(training: Checkpoint) -> ClassifierSettings:
    """The settings of a training, checked."""
    return classifier_settings(training.model, training.settings)


def run_title(training: Checkpoint, language: Language = ENGLISH) -> str:
    """What was trained on what, in words: "ResNet-20 on CIFAR-10"."""
    name = data_set(source_name(training, IMAGES), language)
    return language("images.on", model=_model_title(training), name=name)


def data_set(name: str, language: Language = ENGLISH) -> str:
    """The name of a data set as people write it."""
    if name == "digits":
        return language("images.digits")
    return DATA_SETS.get(name, name) or language("images.nameless")


def _model_title(training: Checkpoint) -> str:
    config = training.config
    return f"ResNet-{config.variant.removeprefix('resnet')}" if isinstance(config, ResNetConfig) else "MLP"


def run_sizes(training: Checkpoint, language: Language = ENGLISH) -> str:
    """The sizes in words: "784-16-16-10, sigmoid, cross-entropy, batch 32, SGD, 13,002 parameters, float32"."""
    settings = settings_of(training)
    return ", ".join(
        [
            *_model_sizes(training, language),
            batch_size(settings, language),
            OPTIMIZERS.get(settings.optimizer) or language("images.gradient_descent"),
            *([language("images.shifts", n=settings.pad)] if settings.pad else []),
            *([language("images.mirrored")] if settings.flip else []),
            language.count("count.parameter", parameters(training)),
            settings.dtype,
        ]
    )


def _model_sizes(training: Checkpoint, language: Language) -> list[str]:
    config = training.config
    if isinstance(config, ResNetConfig):
        width = language("sizes.width", n=config.first_width)
        return [width] if config.residual else [width, language("images.plain")]
    assert isinstance(config, MLPConfig)
    return ["-".join(map(str, config.sizes)), config.activation, config.loss]


def headlines(trainings: Sequence[Checkpoint]) -> list[str]:
    """What was trained, its sizes, and what with."""
    first = trainings[0]
    versions = "; ".join(made_with(training.versions) for training in trainings)
    return [run_title(first), run_sizes(first), versions]


def image_curves(trainings: Sequence[Checkpoint]) -> Figure:
    """The figure: losses and error rates; norm of the gradients above the learning rate; images per second."""
    figure, panels = training_curves(trainings, IMAGES, headlines(trainings))
    config = trainings[0].config
    panels["loss"].set_ylabel(LOSSES[config.loss if isinstance(config, MLPConfig) else "cross-entropy"])
    logarithmic(panels["loss"])
    panels["error"].set(title="error rate\n100 % − accuracy", ylabel="percent of the images")
    _scale_errors(panels["error"], trainings)
    return figure


def error_rate(history: Arrays, part: str) -> Curve:
    """Percent of the "train" or the "test" images that are misclassified, at every evaluation."""
    rates: Curve = 100.0 * (1.0 - history[f"accuracy_{part}"])
    return rates


def _scale_errors(panel: Axes, trainings: Sequence[Checkpoint]) -> None:
    """A logarithmic axis; where an error rate is zero, the axis goes on to zero below the smallest other one."""
    rates = np.concatenate([error_rate(training.history, part) for training in trainings for part in ("train", "test")])
    positive = rates[rates > 0.0]
    if len(positive) == len(rates):
        logarithmic(panel)
    elif len(positive):
        smallest, top = float(positive.min()), 1.3 * float(positive.max())
        panel.set_yscale("symlog", linthresh=smallest, linscale=0.5)
        places = LogLocator(subs=tick_places(smallest, top)).tick_values(smallest, top)
        ticks = [tick for tick in places if 0.999 * smallest <= tick <= top]
        panel.set_yticks([0.0, *ticks], [f"{tick:g}" for tick in (0.0, *ticks)])
        panel.set_yticks([], minor=True)
        panel.set_ylim(-0.2 * smallest, top)


def draw_classified(out: Path, classified: Mapping[str, Classified]) -> list[Path]:
    """Draw what sides made of the same test images.

    Args:
        out: the folder for the figures; those of an earlier drawing that are not made now are removed.
        classified: by side, as `read_classified(out)` gives it.

    Returns:
        OUT/confusion.png; and the misclassified images, if there are any: OUT/misclassified.png where all sides predict
        the same, OUT/misclassified-SIDE.png where they do not.

    Raises InputError where `out` cannot be written to.
    """
    shown = list(classified.values())
    if not shown:
        return []
    figures: dict[str, Callable[[], Figure]] = {"confusion": partial(confusion_matrices, shown)}
    if agree(shown):
        sheets = {"misclassified": (shown[0], _titles(shown))}
    else:
        sheets = {f"misclassified-{one.side}": (one, _titles([one])) for one in shown}
    figures |= {name: partial(misclassified, one, who) for name, (one, who) in sheets.items() if one.mistakes}
    for file in Path(out).glob("misclassified*.png"):
        if file.stem not in figures:
            file.unlink()
    return [draw_figure(figure_of, Path(out) / f"{name}.png") for name, figure_of in figures.items()]


def agree(classified: Sequence[Classified]) -> bool:
    """Whether all sides predict the same class of every image."""
    return all(one.predictions == classified[0].predictions for one in classified)


def _titles(classified: Sequence[Classified]) -> str:
    return " and ".join(side(one.side).title for one in classified)


def confusion_matrices(classified: Sequence[Classified]) -> Figure:
    """How many images of each class were taken for which: a matrix per side, or one for all where they agree."""
    alike = agree(classified)
    shown = classified[:1] if alike else classified
    layout = ConstrainedLayoutEngine(compress=True, h_pad=0.1)
    figure = Figure(figsize=(6.4 * len(shown) + 0.4, 7.7), layout=layout)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    matrices = [one.confusion() for one in shown]
    most = max(int((matrix - np.diag(np.diag(matrix))).max()) for matrix in matrices)
    for panel, one, matrix in zip(panels, shown, matrices, strict=True):
        _draw_matrix(panel, matrix, one.images.classes, max(most, 1))
        who = _titles(classified) if alike else _titles([one])
        panel.set_title(f"{who}, after {one.checkpoint.iteration:,} iterations\n{accuracy_text(one)}")
    sentence = f"\n{agreement(classified)}" if len(classified) > 1 else ""
    figure.suptitle(f"{_what(classified[0])}: confusion{sentence}", parse_math=False)
    return figure


def _what(one: Classified) -> str:
    return f"{MODELS[one.checkpoint.model]} on the test images of {data_set(one.images.name)}"


def accuracy_text(one: Classified) -> str:
    """The accuracy in words: "accuracy 97.21 %, 10,000 images"."""
    return f"accuracy {percent(one.accuracy)}, {len(one.labels):,} images"


def percent(part: float) -> str:
    """A part of the images: "97.21 %"."""
    return f"{100 * part:.2f} %"


def agreement(classified: Sequence[Classified]) -> str:
    """How far the sides' predictions go together, in a sentence."""
    if agree(classified):
        return f"{_titles(classified)} predict the same class of every image"
    differing = differing_predictions(classified)
    return f"{_titles(classified)} predict different classes of {differing:,} of {len(classified[0].labels):,} images"


def differing_predictions(classified: Sequence[Classified]) -> int:
    """Of how many images the sides do not all predict the same class."""
    predictions = np.array([one.predictions for one in classified])  # (sides, n)
    return int((predictions != predictions[0]).any(axis=0).sum())


def _draw_matrix(panel: Axes, matrix: NDArray[np.int64], names: Sequence[str], most: int) -> None:
    """The counts, coloured off the diagonal alone; `most` is what has the darkest colour."""
    k = len(names)
    mistakes = np.ma.masked_array(matrix, mask=np.eye(k, dtype=bool))
    colours = MISTAKES.with_extremes(bad=RIGHT)
    panel.imshow(mistakes, cmap=colours, norm=PowerNorm(0.5, 0, most))
    for true, predicted in zip(*np.nonzero(matrix + np.eye(k)), strict=True):
        number = int(matrix[true, predicted])
        is_dark = true != predicted and number > 0.5 * most
        colour = "white" if is_dark else "black"
        panel.text(predicted, true, f"{number:,}", color=colour, ha="center", va="center", fontsize=10)
    is_long = max(map(len, names)) > 3
    panel.set_xticks(range(k), names, rotation=40 if is_long else 0, ha="right" if is_long else "center")
    panel.set_yticks(range(k), names)
    panel.set(xlabel="predicted class", ylabel="true class")
    panel.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    panel.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    panel.grid(which="minor")
    panel.tick_params(which="both", length=0)
    panel.spines[:].set_visible(False)


def misclassified(one: Classified, who: str) -> Figure:
    """The misclassified images of which the model was surest, each with true class, predicted class, confidence."""
    pictures, names = one.pictures(), one.images.classes
    is_long = max(map(len, names)) > 5
    arrow, height = ("\n→ ", 1.42) if is_long else (" → ", 1.3)  # of an image of height 1 and what is below it
    rows = -(-len(pictures) // COLUMNS)
    figure = Figure(figsize=(12.5, 1.48 * height * rows + 0.6), layout="constrained")
    panel = figure.subplots()
    for number, (place, picture) in enumerate(zip(one.mistakes, pictures, strict=True)):
        x, y = 1.06 * (number % COLUMNS), height * (number // COLUMNS)
        channels = picture.transpose(1, 2, 0)  # (H, W, C)
        pixels = channels if channels.shape[2] == 3 else channels[..., 0]
        where = (x, x + 1.0, y + 1.0, y)
        panel.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=where)
        classes = arrow.join(names[label] for label in (one.labels[place], one.predictions[place]))
        text = f"{classes}\n{confidence_text(one.confidences[place])}"
        panel.text(x + 0.5, y + 1.03, text, ha="center", va="top", fontsize=9.5, parse_math=False)
    panel.set(xlim=(0.0, 1.06 * COLUMNS - 0.06), ylim=(height * rows, 0.0))
    panel.set_axis_off()
    which = f"{one.wrong:,} in all" if one.wrong == len(pictures) else f"the {len(pictures)} surest of {one.wrong:,}"
    headline = f"{_what(one)}: misclassified by {who}, {which}"
    figure.suptitle(f"{headline}\nbelow each: true class → predicted class, confidence", parse_math=False)
    return figure


def confidence_text(confidence: float) -> str:
    """A probability in percent, never rounded up to 100."""
    return "> 99.9 %" if confidence > 0.999 else f"{100 * confidence:.1f} %"


IMAGES = Kind(
    models=tuple(CLASSIFIER_SETTINGS),
    source="images",
    settings_of=settings_of,
    unit="images",
    units_per_step=lambda training: settings_of(training).joint_batch,
    size=(12.5, 8.6),
    layout=[["loss", "error"], ["loss", "error"], ["norm", "speed"], ["rate", "speed"]],
    steps=("loss of each batch", SHADES["step constant"]),
    evaluated=(
        Evaluated("loss", lambda history: history["loss_train"], SHADES["train"], "training images"),
        Evaluated("loss", lambda history: history["loss_test"], SHADES["test"], "test images"),
        Evaluated("error", lambda history: error_rate(history, "train"), SHADES["train"]),
        Evaluated("error", lambda history: error_rate(history, "test"), SHADES["test"]),
    ),
)
