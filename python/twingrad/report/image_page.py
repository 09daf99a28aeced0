"""The section of the page on trainings on images."""

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
from .image_figures import IMAGES, percent
from .parts import Picture, picture
from .training_rows import DifferenceRow, SideRow, first_differences, last_number, notes, pair_title, side_row

CAPTIONS = {
    "curves": (
        "Losses, error rates, gradients and speed",
        "Loss of the batches and of training and test images, error rates, norm of the gradients, learning rate and "
        "images per second over the iterations. Where two sides coincide, the thin dashed line of the second lies on "
        "the wide pale line of the first.",
    ),
    "confusion": (
        "Confusion matrix of the test images",
        "How many test images of each true class (rows) were taken for which class (columns). The darker a cell off "
        "the diagonal, the more frequent the mistake.",
    ),
    "misclassified": (
        "Misclassified test images",
        "The misclassified test images of which the model was surest, with true class, predicted class and the "
        "probability that the model gave to the latter.",
    ),
}
"""What the figures show, in a few words and in a sentence, by the beginning of their names."""


@dataclass(frozen=True)
class ImageRun:
    """One training on images, on one side or more, as the page shows it."""

    name: str
    title: str
    sizes: str
    notes: list[str]
    rows: list[SideRow]
    differences: list[DifferenceRow]
    pictures: list[Picture]


def image_run(folder: Path, trainings: Sequence[Checkpoint]) -> ImageRun:
    """The trainings of a folder, as `curves.read_checkpoints` gives them; their figures are drawn anew there.

    Raises InputError where they are not on images or not of the same training, where what was classified is damaged,
    or a figure cannot be written.
    """
    check_trainings(folder, trainings, IMAGES)
    classified, title = read_classified(folder), image_figures.run_title(trainings[0])
    files = [image_figures.draw(folder, trainings), *image_figures.draw_classified(folder, classified)]
    return ImageRun(
        name=folder.name,
        title=title,
        sizes=image_figures.run_sizes(trainings[0]),
        notes=[*notes(trainings), *_classified_notes(trainings, classified)],
        rows=[_row(training, classified.get(training.side)) for training in trainings],
        differences=[_difference(left, right, classified) for left, right in combinations(trainings, 2)],
        pictures=[_picture(file, title, trainings) for file in files],
    )


def _row(training: Checkpoint, found: Classified | None) -> SideRow:
    losses = [last_number(training, name) for name in ("loss_train", "loss_test")]
    accuracies = [_last_accuracy(training, part) for part in ("train", "test")]
    everything = f"{percent(found.accuracy)} of {len(found.labels):,}" if found else ""
    return side_row(training, IMAGES, [*losses, *accuracies, everything])


def _last_accuracy(training: Checkpoint, part: str) -> str:
    values = training.history[f"accuracy_{part}"]
    return percent(float(values[-1])) if len(values) else ""


def _difference(left: Checkpoint, right: Checkpoint, classified: Mapping[str, Classified]) -> DifferenceRow:
    pair = [classified[training.side] for training in (left, right) if training.side in classified]
    predictions = f"{image_figures.differing_predictions(pair):,} of {len(pair[0].labels):,}" if len(pair) == 2 else ""
    return DifferenceRow(
        pair_title(left, right), [*first_differences(left, right), _accuracy_difference(left, right), predictions]
    )


def _accuracy_difference(left: Checkpoint, right: Checkpoint) -> str:
    """How far the accuracies on test images are apart at the last evaluation; empty where it is not the same one."""
    a, b = ({"at": one.history["evaluated"][-1:], "is": one.history["accuracy_test"][-1:]} for one in (left, right))
    if not len(a["at"]) or list(a["at"]) != list(b["at"]):
        return ""
    return percent(abs(float(a["is"][0] - b["is"][0])))


def _classified_notes(trainings: Sequence[Checkpoint], classified: Mapping[str, Classified]) -> Iterator[str]:
    """What the reader must know of what was classified: that it is missing, or by which weights, or of which images."""
    for training in trainings:
        title = side(training.side).title
        if training.side not in classified:
            yield f"{title} has not classified all test images: there is no {training.side}/{CLASSIFIED}."
            continue
        found = classified[training.side]
        if found.checkpoint.weights_digest != weights_digest(training):
            weights = f"weights of {side(found.checkpoint.side).title} after {found.checkpoint.iteration:,} iterations"
            yield f"{title} classified all test images by {weights}, which {training.side}/{CHECKPOINT} does not hold."
        if found.images.digest != source_of(training, IMAGES).get("digest"):
            name = image_figures.data_set(found.images.name)
            yield f"The test images that {title} classified, of {name}, are not those of the training."


def _picture(file: Path, title: str, trainings: Sequence[Checkpoint]) -> Picture:
    kind, _, only = file.stem.partition("-")
    what, caption = CAPTIONS[kind]
    names = " and ".join(side(training.side).title for training in trainings if only in ("", training.side))
    return picture(file, caption, f"{what}: {title}, by {names}.")
