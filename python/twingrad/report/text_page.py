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
from ..sides import side, sides
from . import text_figures
from .parts import Picture, count, error_text, made_with, picture, relative_difference
from .text_figures import CHECKPOINT

FIRST = (10, 100)
"""Steps over which two trainings are held against each other: later, rounding errors have grown."""
SAMPLE = "sample.txt"
SAMPLE_LENGTH = 1500
CAPTION = (
    "Loss in nats per token, norm of the gradients, learning rate and tokens per second over the iterations. Where two "
    "sides coincide, the thin dashed line of the second lies on the wide pale line of the first."
)


@dataclass(frozen=True)
class _Row:
    """The training of one side."""

    title: str
    numbers: list[str]
    made_with: str
    made_on: str


@dataclass(frozen=True)
class _Difference:
    """How far two sides are apart: in the losses of the first steps, and in the best validation losses."""

    sides: str
    numbers: list[str]


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
    rows: list[_Row]
    differences: list[_Difference]
    picture: Picture
    samples: list[_Sample]
    sample_notes: list[str]


def text_runs(parent: Path) -> list[TextRun]:
    """The trainings on text in the folders PARENT/NAME that hold SIDE/last.h5, by name.

    The figure of each is drawn anew in its folder. Raises InputError where a file is damaged or cannot be written.
    """
    folders = sorted(parent.iterdir()) if parent.is_dir() else []
    return [_run(folder) for folder in folders if any((folder / name / CHECKPOINT).exists() for name in sides())]


def _run(folder: Path) -> TextRun:
    trainings = text_figures.read_text_trainings(folder)
    title, sizes = text_figures.run_title(trainings[0]), text_figures.run_sizes(trainings[0])
    names = " and ".join(side(training.side).title for training in trainings)
    samples = [sample for training in trainings if (sample := _sample(folder, training))]
    file = text_figures.draw(folder, trainings)
    return TextRun(
        name=folder.name,
        title=title,
        sizes=sizes,
        notes=list(_notes(trainings)),
        rows=[_row(training) for training in trainings],
        differences=[_difference(left, right) for left, right in combinations(trainings, 2)],
        picture=picture(file, CAPTION, f"Losses, gradients and speed of a mini-GPT on {title}, by {names}."),
        samples=samples,
        sample_notes=list(_sample_notes(trainings, samples)),
    )


def _row(training: Checkpoint) -> _Row:
    history, versions = training.history, training.versions
    settings = text_figures.settings_of(training)
    best = [f"{history['loss_validation'][k]:.4f} at {history['evaluated'][k]:,}" for k in _best(training)]
    speed, spread = "", ""
    if training.iteration:
        low, middle, high = np.quantile(text_figures.tokens_per_second(training), (0.25, 0.5, 0.75))
        speed, spread = f"{middle:,.0f}", f"{low:,.0f} – {high:,.0f}"
    conditions = [str(versions[key]) for key in ("processor", "device") if key in versions]
    conditions += [f"threads: {versions['threads']}"] if "threads" in versions else []
    return _Row(
        title=side(training.side).title,
        numbers=[
            f"{training.iteration:,} of {settings.iterations:,}",
            training.status,
            *(f"{history[name][-1]:.4f}" if len(history[name]) else "" for name in ("loss_train", "loss_validation")),
            "".join(best),
            speed,
            spread,
            _duration(float(history["seconds"].sum())),
            f"{text_figures.parameters(training):,}",
        ],
        made_with=made_with(versions),
        made_on=", ".join(conditions) or "unknown",
    )


def _best(training: Checkpoint) -> list[int]:
    """The evaluation with the smallest validation loss; none before the first one."""
    validation = training.history["loss_validation"]
    return [int(np.argmin(validation))] if len(validation) else []


def _duration(seconds: float) -> str:
    if seconds < 60.0:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60.0)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _difference(left: Checkpoint, right: Checkpoint) -> _Difference:
    a, b = left.history["loss"], right.history["loss"]
    numbers = []
    for first in FIRST:
        steps = min(first, len(a), len(b))
        fewer = f" ({count(steps, 'step')})" if steps < first else ""
        numbers.append(f"{error_text(relative_difference(a[:steps], b[:steps]))}{fewer}" if steps else "")
    best = [float(training.history["loss_validation"][k]) for training in (left, right) for k in _best(training)]
    numbers.append(error_text(abs(best[0] - best[1])) if len(best) == 2 else "")
    return _Difference(f"{side(left.side).title} and {side(right.side).title}", numbers)


def _notes(trainings: Sequence[Checkpoint]) -> Iterator[str]:
    """What the reader must know: sides that are missing, speeds that are not to be compared."""
    there = [training.side for training in trainings]
    for name in sides():
        if name not in there:
            yield f"{side(name).title} has not trained here: there is no {name}/{CHECKPOINT}."
    for key, texts in text_figures.unlike_conditions(trainings).items():
        each = "; ".join(f"{side(name).title}: {text}" for name, text in zip(there, texts, strict=True))
        yield f"The speeds are not to be compared: the {key} differed ({each})."


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
