"""The figure of trainings on text: a PNG file from the checkpoints of a folder, every side on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..format import Checkpoint
from ..training.settings import GPTSettings, gpt_settings
from .curves import (
    Evaluated,
    Kind,
    batch_size,
    check_trainings,
    draw_figure,
    parameters,
    read_checkpoints,
    source_name,
    training_curves,
)
from .figures import SHADES
from .language import ENGLISH, Language
from .parts import made_with


def draw_text_training(out: Path) -> Path:
    """Draw the trainings of `twingrad train gpt --out OUT`.

    Args:
        out: holds SIDE/last.h5 of one side or more; the figure is written here.

    Returns:
        OUT/curves.png: losses, norm of the gradients and learning rate, tokens per second.

    Raises:
        InputError: see `read_text_trainings`; also where `out` cannot be written to.
    """
    return draw(out, read_text_trainings(out))


def draw(folder: Path, trainings: Sequence[Checkpoint]) -> Path:
    """Draw trainings that were read before; see `draw_text_training`."""
    return draw_figure(lambda: text_curves(trainings), Path(folder) / "curves.png")


def read_text_trainings(folder: Path) -> list[Checkpoint]:
    """The trainings on text in a folder, in the order of the table of sides.

    Raises:
        InputError: there is no checkpoint, one is damaged or has no history, or they are not of the same training.
    """
    trainings = read_checkpoints(folder)
    check_trainings(folder, trainings, TEXT)
    return trainings


def settings_of(training: Checkpoint) -> GPTSettings:
    """The settings of a training, checked."""
    return gpt_settings(training.settings)


def text_name(training: Checkpoint) -> str:
    """The name of the text file, in one line of a length that fits everywhere."""
    return source_name(training, TEXT)


def run_title(training: Checkpoint, language: Language = ENGLISH) -> str:
    """What was trained on, in words: "tinyshakespeare.txt by characters"."""
    name = text_name(training) or language("texts.nameless")
    return language(f"texts.by_{settings_of(training).tokenizer}", name=name)


def run_sizes(training: Checkpoint, language: Language = ENGLISH) -> str:
    """The sizes in words: "4 layers, 4 heads, width 128, context 64, batch 12, 804,096 parameters, float32"."""
    settings = settings_of(training)
    return ", ".join(
        [
            language.count("count.layer", settings.layers),
            language.count("count.head", settings.heads),
            language("sizes.width", n=settings.width),
            language("sizes.context", n=settings.context),
            batch_size(settings, language),
            language.count("count.parameter", parameters(training)),
            settings.dtype,
        ]
    )


def text_curves(trainings: Sequence[Checkpoint]) -> Figure:
    """The figure: losses; norm of the gradients above the learning rate; tokens per second."""
    figure, panels = training_curves(trainings, TEXT, headlines(trainings))
    panels["loss"].set_ylabel("nats per token")
    return figure


def headlines(trainings: Sequence[Checkpoint]) -> list[str]:
    """What was trained, its sizes, and what with."""
    first = trainings[0]
    versions = "; ".join(made_with(training.versions) for training in trainings)
    return [f"Mini-GPT on {run_title(first)}", run_sizes(first), versions]


def _tokens_per_step(training: Checkpoint) -> int:
    settings = settings_of(training)
    return settings.joint_batch * settings.context


TEXT = Kind(
    models=("gpt",),
    source="text",
    settings_of=settings_of,
    unit="tokens",
    units_per_step=_tokens_per_step,
    size=(12.5, 5.6),
    layout=[["loss", "norm", "speed"], ["loss", "rate", "speed"]],
    steps=("training loss", SHADES["train"]),
    evaluated=(Evaluated("loss", lambda history: history["loss_validation"], SHADES["test"], "validation loss"),),
)
