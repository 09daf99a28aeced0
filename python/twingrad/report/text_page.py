"""The section of the page on trainings on text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest
from pathlib import Path

import numpy as np

from ..files import reading
from ..format import Checkpoint
from ..sides import side
from . import text_figures
from .curves import check_trainings, parameters
from .parts import Picture, count, error_text, picture
from .text_figures import TEXT
from .training_rows import DifferenceRow, SideRow, first_differences, last_number, notes, pair_title, side_row

SAMPLE = "sample.txt"
SAMPLE_LENGTH = 1500
CAPTION = (
    "Loss in nats per token, norm of the gradients, learning rate and tokens per second over the iterations. Where two "
    "sides coincide, the thin dashed line of the second lies on the wide pale line of the first."
)


@dataclass(frozen=True)
class _Sample:
    title: str
    text: str
    note: str


@dataclass(frozen=True)
class TextRun:
    """One training on text, on one side or more, as the page shows it."""

    name: str
    title: str
    sizes: str
    notes: list[str]
    rows: list[SideRow]
    differences: list[DifferenceRow]
    picture: Picture
    samples: list[_Sample]
    sample_notes: list[str]


def text_run(folder: Path, trainings: Sequence[Checkpoint]) -> TextRun:
    """The trainings of a folder, as `curves.read_checkpoints` gives them; their figure is drawn anew there.

    Raises InputError where they are not on text or not of the same training, or the figure cannot be written.
    """
    check_trainings(folder, trainings, TEXT)
    title, sizes = text_figures.run_title(trainings[0]), text_figures.run_sizes(trainings[0])
    names = " and ".join(side(training.side).title for training in trainings)
    samples = [sample for training in trainings if (sample := _sample(folder, training))]
    file = text_figures.draw(folder, trainings)
    return TextRun(
        name=folder.name,
        title=title,
        sizes=sizes,
        notes=list(notes(trainings)),
        rows=[_row(training) for training in trainings],
        differences=[_difference(left, right) for left, right in combinations(trainings, 2)],
        picture=picture(file, CAPTION, f"Losses, gradients and speed of a mini-GPT on {title}, by {names}."),
        samples=samples,
        sample_notes=list(_sample_notes(trainings, samples)),
    )


def _row(training: Checkpoint) -> SideRow:
    history = training.history
    best = [f"{history['loss_validation'][k]:.4f} at {history['evaluated'][k]:,}" for k in _best(training)]
    losses = [last_number(training, name) for name in ("loss_train", "loss_validation")]
    return side_row(training, TEXT, [*losses, "".join(best)], f"{parameters(training):,}")


def _best(training: Checkpoint) -> list[int]:
    """The evaluation with the smallest validation loss; none before the first one."""
    validation = training.history["loss_validation"]
    return [int(np.argmin(validation))] if len(validation) else []


def _difference(left: Checkpoint, right: Checkpoint) -> DifferenceRow:
    best = [float(training.history["loss_validation"][k]) for training in (left, right) for k in _best(training)]
    last = error_text(abs(best[0] - best[1])) if len(best) == 2 else ""
    return DifferenceRow(pair_title(left, right), [*first_differences(left, right), last])


def _sample(folder: Path, training: Checkpoint) -> _Sample | None:
    """The beginning of a text that the model wrote; None where there is no file."""
    file = folder / training.side / SAMPLE
    if not file.exists():
        return None
    with reading(file), file.open("rb") as opened:
        begun = opened.read(4 * SAMPLE_LENGTH + 4)  # no character of UTF-8 is longer than four bytes
    decoded = begun.decode("utf-8", "replace").replace("\r\n", "\n")
    text = "".join(_visible(character) for character in decoded).strip("\n")
    note = f"The first {SAMPLE_LENGTH:,} characters." if len(text) > SAMPLE_LENGTH else ""
    return _Sample(side(training.side).title, text[:SAMPLE_LENGTH], note)


def _visible(character: str) -> str:
    """The character, or the one that stands for a control character, which HTML has no place for."""
    is_control = unicodedata.category(character) == "Cc" and character not in "\n\t"
    return "\N{REPLACEMENT CHARACTER}" if is_control else character


def _sample_notes(trainings: Sequence[Checkpoint], samples: Sequence[_Sample]) -> Iterator[str]:
    """How far two texts go together, and which are missing."""
    if len(samples) == 2:
        a, b = (sample.text for sample in samples)
        same = next((place for place, (x, y) in enumerate(zip_longest(a, b)) if x != y), None)
        if same is None:
            yield "Both texts are the same, as far as they are shown."
        elif same:
            yield f"The first {count(same, 'character')} of both texts are the same."
    shown = [sample.title for sample in samples]
    missing = [training.side for training in trainings if side(training.side).title not in shown]
    if missing:
        titles = " and ".join(side(name).title for name in missing)
        files = " and ".join(f"{name}/{SAMPLE}" for name in missing)
        yield f"There is no text by {titles}: {files}, which 'twingrad generate' can fill, would be shown here."
