"""What the sections on trainings that leave checkpoints have in common: columns and rows of tables, and notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..format import Checkpoint, Training
from ..sides import side, sides
from ..training.command_file import command_of
from .curves import CHECKPOINT, Kind, unlike_conditions
from .document import COUNT, DURATION, ERROR, TEXT, Cell, Column, Form, Paragraph, Row, ranges
from .language import Code, Language, Pieces
from .parts import made_by, made_with, provenance, relative_difference

FIRST = (10, 100)
"""Steps over which two trainings are held against each other: later, rounding errors have grown."""
SPEED = Form(",.0f")


def training_note(folders: Mapping[Path, Sequence[Training | Checkpoint]], command: str, language: Language) -> Pieces:
    """The note below tables of the trainings in some folders; `command` is named where none was left there."""
    trainings = [training for several in folders.values() for training in several]
    commands = [
        typed for folder, several in folders.items() for one in several if (typed := command_of(folder, one.side))
    ]
    processors = dict.fromkeys(str(training.versions.get("processor", "")) for training in trainings)
    made = dict.fromkeys(made_by(side(one.side).title, one.versions, language) for one in trainings)
    return provenance(
        language, [*filter(None, processors)], [*made], max(one.created for one in trainings), commands or [command]
    )


def side_columns(kind: Kind, columns: Sequence[Column], language: Language) -> list[Column]:
    """The columns of the table of sides, those of this kind of training among them."""
    unit = language(f"trained.{kind.unit}_per_second")
    return [
        Column("side", language("trained.side")),
        *(
            Column("iterations", language("trained.iterations"), COUNT),
            Column("status", language("trained.status"), TEXT),
        ),
        *columns,
        Column(f"{kind.unit}_per_second", unit, SPEED),
        Column(
            f"{kind.unit}_per_second",
            language("trained.quartiles"),
            ranges(SPEED, ("lower_quartile", "upper_quartile")),
        ),
        Column("seconds", language("trained.time"), DURATION),
    ]


def side_row(training: Checkpoint, kind: Kind, numbers: Row, language: Language) -> Row:
    """The row of a training: how many steps were taken, `numbers`, how fast and for how long."""
    speed: float | None = None
    spread: tuple[float, float] | None = None
    if training.iteration:
        low, speed, high = (float(one) for one in np.quantile(kind.per_second(training), (0.25, 0.5, 0.75)))
        spread = low, high
    total = kind.settings_of(training).iterations
    return (
        side(training.side).title,
        Cell(training.iteration, remark=language.pieces("trained.of", n=total)),
        language(f"status.{training.status}"),
        *numbers,
        *(speed, spread, float(training.history["seconds"].sum())),
    )


def about(folder: str, sizes: str, trainings: Sequence[Checkpoint], language: Language) -> Paragraph:
    """Where a training lies, its sizes, and what made it where."""
    pieces = language.pieces("trained.folder", folder=Code(f"training/{folder}"), sizes=sizes)
    for training in trainings:
        values = {"side": side(training.side).title, "made": made_with(training.versions)}
        pieces += (" ", *language.pieces("trained.made", **values, where=_made_on(training, language)))
    return Paragraph(pieces, soft=True)


def _made_on(training: Checkpoint, language: Language) -> str:
    versions = training.versions
    conditions = [str(versions[key]) for key in ("processor", "device") if key in versions]
    conditions += [language("trained.threads", n=versions["threads"])] if "threads" in versions else []
    return ", ".join(conditions) or language("trained.unknown")


def last_number(training: Checkpoint, name: str) -> float | None:
    """The last number of that name in the history; None before the first evaluation."""
    values = training.history[name]
    return float(values[-1]) if len(values) else None


def pair_title(left: Checkpoint, right: Checkpoint, language: Language) -> str:
    """The names of two sides."""
    return language.joined(side(one.side).title for one in (left, right))


def difference_columns(language: Language) -> list[Column]:
    """The first columns of the table of differences: the sides, and their losses over the steps of `FIRST`."""
    first = [Column(f"loss_{n}", language("trained.first_steps", n=n), ERROR) for n in FIRST]
    return [Column("sides", language("trained.sides")), *first]


def first_differences(left: Checkpoint, right: Checkpoint, language: Language) -> list[Cell]:
    """The largest relative difference of two sides' losses over the steps of `FIRST`."""
    a, b = left.history["loss"], right.history["loss"]
    cells = []
    for first in FIRST:
        steps = min(first, len(a), len(b))
        fewer = f"({language.count('count.step', steps)})" if 0 < steps < first else ""
        cells.append(Cell(relative_difference(a[:steps], b[:steps]) if steps else None, remark=fewer))
    return cells


def notes(trainings: Sequence[Checkpoint], language: Language) -> Iterator[str]:
    """What the reader must know: sides that are missing, speeds that are not to be compared."""
    there = [training.side for training in trainings]
    for name in sides():
        if name not in there:
            yield language("trained.missing", side=side(name).title, file=f"{name}/{CHECKPOINT}")
    for key, texts in unlike_conditions(trainings).items():
        each = "; ".join(f"{side(name).title}: {text}" for name, text in zip(there, texts, strict=True))
        yield language("trained.unlike", what=language(f"conditions.{key}"), each=each)
