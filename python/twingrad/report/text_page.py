"""The section on trainings on text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest
from pathlib import Path

import numpy as np

from ..files import reading
from ..format import Checkpoint
from ..sides import side
from . import text_figures
from .curves import check_trainings, parameters
from .document import COUNT, ERROR, Cell, Column, Form, Listing, Listings, Paragraph, Part, Picture, Row, Section, Table
from .language import Language
from .text_figures import TEXT
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

SAMPLE = "sample.txt"
SAMPLE_LENGTH = 1500
LOSS = Form(".4f")


@dataclass(frozen=True)
class TextRun:
    """One training on text, on one side or more, the beginnings of texts by side, and the figure."""

    folder: Path
    trainings: Sequence[Checkpoint]
    samples: Mapping[str, str]
    file: Path


def text_run(folder: Path, trainings: Sequence[Checkpoint]) -> TextRun:
    """The trainings of a folder, as `curves.read_checkpoints` gives them; their figure is drawn anew there.

    Raises InputError where they are not on text or not of the same training, or the figure cannot be written.
    """
    check_trainings(folder, trainings, TEXT)
    files = {training.side: folder / training.side / SAMPLE for training in trainings}
    samples = {name: _beginning(file) for name, file in files.items() if file.exists()}
    return TextRun(folder, trainings, samples, text_figures.draw(folder, trainings))


def text_section(runs: Sequence[TextRun], language: Language) -> Section:
    """The section on all trainings on text."""
    title = language("texts.title")
    parts = [Paragraph(language.pieces("texts.explained"))]
    found = [_run(place, run, language) for place, run in enumerate(runs, 1)]
    return Section(title, [*parts, *found], "texts", short=title)


def _run(place: int, run: TextRun, language: Language) -> Section:
    first, name = run.trainings[0], run.folder.name
    title, sizes = text_figures.run_title(first, language), text_figures.run_sizes(first, language)
    sides = language.joined(side(training.side).title for training in run.trainings)
    note = training_note({run.folder: run.trainings}, "twingrad train gpt", language)
    parts: list[Part] = [about(name, sizes, run.trainings, language)]
    parts += [Paragraph((text,)) for text in notes(run.trainings, language)]
    rows = [_row(training, language) for training in run.trainings]
    parts.append(Table(f"text-{place}", language("trained.caption", title=title), _columns(language), rows, note))
    if differences := [_difference(*pair, language) for pair in combinations(run.trainings, 2)]:
        caption = language("trained.differences", title=title)
        columns = [*difference_columns(language), Column("best_loss", language("texts.best_difference"), ERROR)]
        parts.append(Table(f"text-{place}-differences", caption, columns, differences, note))
    parts.append(Picture(run.file, language("caption.text"), language("alt.text", title=title, sides=sides)))
    listings = [_listing(name, text, language) for name, text in run.samples.items()]
    parts += [Listings(listings)] if listings else []
    parts += [Paragraph((text,)) for text in _sample_notes(run, language)]
    return Section(title, parts, f"text-{place}")


def _columns(language: Language) -> list[Column]:
    names = ("loss_train", "loss_validation", "best_loss")
    losses = [Column(name, language(f"texts.{name}"), LOSS) for name in names]
    parameter = Column("parameters", language("texts.parameters"), COUNT)
    return [*side_columns(TEXT, losses, language), parameter]


def _row(training: Checkpoint, language: Language) -> Row:
    history = training.history
    losses = [last_number(training, name) for name in ("loss_train", "loss_validation")]
    best = _best(training)
    at = language.pieces("texts.at", n=int(history["evaluated"][best])) if best is not None else ""
    value = float(history["loss_validation"][best]) if best is not None else None
    return (*side_row(training, TEXT, [*losses, Cell(value, remark=at)], language), parameters(training))


def _best(training: Checkpoint) -> int | None:
    """The evaluation with the smallest validation loss; None before the first one."""
    validation = training.history["loss_validation"]
    return int(np.argmin(validation)) if len(validation) else None


def _difference(left: Checkpoint, right: Checkpoint, language: Language) -> Row:
    best = [float(one.history["loss_validation"].min()) for one in (left, right) if _best(one) is not None]
    last = abs(best[0] - best[1]) if len(best) == 2 else None
    return (pair_title(left, right, language), *first_differences(left, right, language), last)


def _beginning(file: Path) -> str:
    """The beginning of a text that a model wrote, longer than what is shown of it."""
    with reading(file), file.open("rb") as opened:
        begun = opened.read(4 * SAMPLE_LENGTH + 4)  # no character of UTF-8 is longer than four bytes
    decoded = begun.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(_visible(character) for character in decoded).strip("\n")


def _listing(name: str, text: str, language: Language) -> Listing:
    remark = language("texts.first_characters", n=SAMPLE_LENGTH) if len(text) > SAMPLE_LENGTH else ""
    title = language("texts.sample", side=side(name).title)
    return Listing(title, text[:SAMPLE_LENGTH] or language("texts.nothing"), remark)


def _visible(character: str) -> str:
    """The character, or the one that stands for a control character, which HTML has no place for."""
    is_control = unicodedata.category(character) == "Cc" and character not in "\n\t"
    return "\N{REPLACEMENT CHARACTER}" if is_control else character


def _sample_notes(run: TextRun, language: Language) -> Iterator[str]:
    """How far two texts go together, and which are missing."""
    if len(run.samples) == 2:
        a, b = (text[:SAMPLE_LENGTH] for text in run.samples.values())
        same = next((place for place, (x, y) in enumerate(zip_longest(a, b)) if x != y), None)
        if same is None:
            yield language("texts.same")
        elif same:
            yield language("texts.same_beginning", characters=language.count("count.character", same))
    missing = [training.side for training in run.trainings if training.side not in run.samples]
    if missing:
        who = language.joined(side(name).title for name in missing)
        files = language.joined(f"{name}/{SAMPLE}" for name in missing)
        yield language("texts.no_sample", sides=who, files=files)
