"""The section on trainings on images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ..format import Checkpoint
from ..sides import side
from . import image_figures
from .classified import CLASSIFIED, Classified, read_classified, weights_digest
from .curves import CHECKPOINT, check_trainings, source_of
from .document import COUNT, PERCENT, Cell, Column, Form, Paragraph, Part, Picture, Row, Section, Table
from .image_figures import IMAGES
from .language import Language
from .training_rows import (
    about,
    difference_columns,
    first_differences,
    last_number,
    notes,
    pair_title,
    side_columns,
    side_row,
    training_note,
)

LOSS = Form(".4f")


@dataclass(frozen=True)
class ImageRun:
    """One training on images, on one side or more, what the sides classified, and the figures of it."""

    folder: Path
    trainings: Sequence[Checkpoint]
    classified: Mapping[str, Classified]
    files: Sequence[Path]


def image_run(folder: Path, trainings: Sequence[Checkpoint]) -> ImageRun:
    """The trainings of a folder, as `curves.read_checkpoints` gives them; their figures are drawn anew there.

    Raises InputError where they are not on images or not of the same training, where what was classified is damaged,
    or a figure cannot be written.
    """
    check_trainings(folder, trainings, IMAGES)
    classified = read_classified(folder)
    files = [image_figures.draw(folder, trainings), *image_figures.draw_classified(folder, classified)]
    return ImageRun(folder, trainings, classified, files)


def image_section(runs: Sequence[ImageRun], language: Language) -> Section:
    """The section on all trainings on images."""
    title = language("images.title")
    explained = Paragraph(language.pieces("images.explained"))
    found = [_run(place, run, language) for place, run in enumerate(runs, 1)]
    return Section(title, [explained, *found], "images", short=title)


def _run(place: int, run: ImageRun, language: Language) -> Section:
    first = run.trainings[0]
    title, sizes = image_figures.run_title(first, language), image_figures.run_sizes(first, language)
    note = training_note({run.folder: run.trainings}, f"twingrad train {first.model}", language)
    parts: list[Part] = [about(run.folder.name, sizes, run.trainings, language)]
    parts += [Paragraph((text,)) for text in [*notes(run.trainings, language), *_classified_notes(run, language)]]
    rows = [_row(training, run.classified.get(training.side), language) for training in run.trainings]
    parts.append(Table(f"images-{place}", language("trained.caption", title=title), _columns(language), rows, note))
    if differences := [_difference(*pair, run.classified, language) for pair in combinations(run.trainings, 2)]:
        caption = language("trained.differences", title=title)
        parts.append(Table(f"images-{place}-differences", caption, _difference_columns(language), differences, note))
    parts += [_picture(file, title, run.trainings, language) for file in run.files]
    return Section(title, parts, f"image-{place}")


def _columns(language: Language) -> list[Column]:
    losses = [Column(name, language(f"images.{name}"), LOSS) for name in ("loss_train", "loss_test")]
    names = ("accuracy_train", "accuracy_test", "accuracy_everything")
    accuracies = [Column(name, language(f"images.{name}"), PERCENT) for name in names]
    return side_columns(IMAGES, [*losses, *accuracies], language)


def _row(training: Checkpoint, found: Classified | None, language: Language) -> Row:
    names = ("loss_train", "loss_test", "accuracy_train", "accuracy_test")
    everything = Cell(None)
    if found:
        everything = Cell(found.accuracy, remark=language.pieces("trained.of", n=len(found.labels)))
    return side_row(training, IMAGES, [*(last_number(training, name) for name in names), everything], language)


def _difference_columns(language: Language) -> list[Column]:
    accuracy = Column("accuracy_test", language("images.accuracy_test"), PERCENT)
    return [*difference_columns(language), accuracy, Column("predictions", language("images.differently"), COUNT)]


def _difference(left: Checkpoint, right: Checkpoint, classified: Mapping[str, Classified], language: Language) -> Row:
    pair = [classified[training.side] for training in (left, right) if training.side in classified]
    predictions = Cell(None)
    if len(pair) == 2:
        remark = language.pieces("trained.of", n=len(pair[0].labels))
        predictions = Cell(image_figures.differing_predictions(pair), remark=remark)
    losses = first_differences(left, right, language)
    return (pair_title(left, right, language), *losses, _accuracy_difference(left, right), predictions)


def _accuracy_difference(left: Checkpoint, right: Checkpoint) -> float | None:
    """How far the accuracies on test images are apart at the last evaluation; None where it is not the same one."""
    a, b = ({"at": one.history["evaluated"][-1:], "is": one.history["accuracy_test"][-1:]} for one in (left, right))
    if not len(a["at"]) or list(a["at"]) != list(b["at"]):
        return None
    return abs(float(a["is"][0] - b["is"][0]))


def _classified_notes(run: ImageRun, language: Language) -> Iterator[str]:
    """What the reader must know of what was classified: that it is missing, or by which weights, or of which images."""
    for training in run.trainings:
        title = side(training.side).title
        if training.side not in run.classified:
            yield language("images.not_classified", side=title, file=f"{training.side}/{CLASSIFIED}")
            continue
        found = run.classified[training.side]
        if found.checkpoint.weights_digest != weights_digest(training):
            yield language(
                "images.other_weights",
                side=title,
                trainer=side(found.checkpoint.side).title,
                n=found.checkpoint.iteration,
                file=f"{training.side}/{CHECKPOINT}",
            )
        if found.images.digest != source_of(training, IMAGES).get("digest"):
            name = image_figures.data_set(found.images.name, language)
            yield language("images.other_images", side=title, name=name)


def _picture(file: Path, title: str, trainings: Sequence[Checkpoint], language: Language) -> Picture:
    kind, _, only = file.stem.partition("-")
    kind = "image_curves" if kind == "curves" else kind
    names = language.joined(side(training.side).title for training in trainings if only in ("", training.side))
    alt = language("alt.by", what=language(f"alt.{kind}"), title=title, sides=names)
    return Picture(file, language(f"caption.{kind}"), alt)
