"""What the page's sections on trainings that leave checkpoints have in common: rows of tables, and notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..format import Checkpoint
from ..sides import side, sides
from .curves import CHECKPOINT, Kind, unlike_conditions
from .parts import count, error_text, made_with, relative_difference

FIRST = (10, 100)
"""Steps over which two trainings are held against each other: later, rounding errors have grown."""


@dataclass(frozen=True)
class SideRow:
    """The training of one side; an empty text among the numbers is one that there is not."""

    title: str
    numbers: list[str]
    made_with: str
    made_on: str


@dataclass(frozen=True)
class DifferenceRow:
    """How far two sides are apart; `title` names them."""

    title: str
    numbers: list[str]


def side_row(training: Checkpoint, kind: Kind, numbers: Sequence[str], *others: str) -> SideRow:
    """The row of a training: how many steps were taken, `numbers`, how fast and for how long, `others`."""
    speed, spread = "", ""
    if training.iteration:
        low, middle, high = np.quantile(kind.per_second(training), (0.25, 0.5, 0.75))
        speed, spread = f"{middle:,.0f}", f"{low:,.0f} – {high:,.0f}"
    return SideRow(
        title=side(training.side).title,
        numbers=[
            f"{training.iteration:,} of {kind.settings_of(training).iterations:,}",
            training.status,
            *numbers,
            speed,
            spread,
            _duration(float(training.history["seconds"].sum())),
            *others,
        ],
        made_with=made_with(training.versions),
        made_on=_made_on(training),
    )


def _made_on(training: Checkpoint) -> str:
    versions = training.versions
    conditions = [str(versions[key]) for key in ("processor", "device") if key in versions]
    conditions += [f"threads: {versions['threads']}"] if "threads" in versions else []
    return ", ".join(conditions) or "unknown"


def _duration(seconds: float) -> str:
    if seconds < 60.0:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60.0)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def last_number(training: Checkpoint, name: str, form: str = ".4f") -> str:
    """The last number of that name in the history; empty before the first evaluation."""
    values = training.history[name]
    return format(float(values[-1]), form) if len(values) else ""


def pair_title(left: Checkpoint, right: Checkpoint) -> str:
    """The names of two sides."""
    return f"{side(left.side).title} and {side(right.side).title}"


def first_differences(left: Checkpoint, right: Checkpoint) -> list[str]:
    """The largest relative difference of two sides' losses over the steps of `FIRST`."""
    a, b = left.history["loss"], right.history["loss"]
    numbers = []
    for first in FIRST:
        steps = min(first, len(a), len(b))
        fewer = f" ({count(steps, 'step')})" if steps < first else ""
        numbers.append(f"{error_text(relative_difference(a[:steps], b[:steps]))}{fewer}" if steps else "")
    return numbers


def notes(trainings: Sequence[Checkpoint]) -> Iterator[str]:
    """What the reader must know: sides that are missing, speeds that are not to be compared."""
    there = [training.side for training in trainings]
    for name in sides():
        if name not in there:
            yield f"{side(name).title} has not trained here: there is no {name}/{CHECKPOINT}."
    for key, texts in unlike_conditions(trainings).items():
        each = "; ".join(f"{side(name).title}: {text}" for name, text in zip(there, texts, strict=True))
        yield f"The speeds are not to be compared: the {key} differed ({each})."
