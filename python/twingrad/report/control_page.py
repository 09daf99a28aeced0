"""The section on trained control networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..format import Training
from ..sides import side, sides
from . import figures
from .document import COUNT, ERROR, Column, Form, Paragraph, Part, Picture, Row, Section, Table
from .language import Code, Language, Pieces
from .parts import made_with, relative_difference
from .training_rows import training_note

EARLY = 1000
"""The iteration whose accuracy the table of trainings quotes beside the last one's."""
FIRST = 100
"""Iterations over which two trainings are held against each other: later, rounding errors have grown."""
OBJECTIVE, ACCURACY = Form(".3e"), Form(".3f")


@dataclass(frozen=True)
class ControlRun:
    """One training on one side or more, and the figures of it."""

    folder: Path
    trainings: Sequence[Training]
    files: Sequence[Path]


def control_runs(parent: Path) -> list[ControlRun]:
    """The trainings of control networks in the folders PARENT/NAME, by name; their figures are drawn anew there."""
    names = [f"{name}.h5" for name in sides()]
    folders = sorted(parent.iterdir()) if parent.is_dir() else []
    found = []
    for folder in folders:
        if any((folder / name).exists() for name in names):
            trainings = figures.read_trainings(folder)
            found.append(ControlRun(folder, trainings, figures.draw(folder, trainings)))
    return found


def control_section(runs: Sequence[ControlRun], language: Language) -> Section:
    """The section: all trainings in one table, how far the sides are apart, then the figures of each."""
    note = training_note({run.folder: run.trainings for run in runs}, "twingrad train control", language)
    parts: list[Part] = [_table(runs, language, note)]
    if differences := [row for run in runs for row in _differences(run, language)]:
        parts.append(_difference_table(differences, language, note))
    parts += [_run(place, run, language) for place, run in enumerate(runs, 1)]
    title = language("control.title")
    return Section(title, parts, "trainings", short=title)


def _table(runs: Sequence[ControlRun], language: Language, note: Pieces) -> Table:
    early, last = language("control.early", n=EARLY), language("control.last")
    objective, train, test = (language(f"control.{name}") for name in ("objective", "train", "test"))
    columns = [
        *(Column(name, language(f"control.{name}")) for name in ("dataset", "network", "method", "side")),
        *(Column("iterations", language("control.iterations"), COUNT), Column("status", language("control.status"))),
        *(Column("objective_train", train, OBJECTIVE, objective), Column("objective_test", test, OBJECTIVE, objective)),
        *(
            Column(f"accuracy_train_{EARLY}", train, ACCURACY, early),
            Column(f"accuracy_test_{EARLY}", test, ACCURACY, early),
        ),
        *(Column("accuracy_train", train, ACCURACY, last), Column("accuracy_test", test, ACCURACY, last)),
    ]
    rows = [_row(training, language) for run in runs for training in run.trainings]
    return Table("control", language("control.caption"), columns, rows, note)


def _row(training: Training, language: Language) -> Row:
    settings, history = figures.settings_of(training), training.history
    early = np.flatnonzero(history["evaluated"] == EARLY)
    everywhere = np.arange(len(history["evaluated"]))
    return (
        *(settings.dataset, settings.network, settings.method, side(training.side).title),
        *(training.iteration, language(f"status.{training.status}")),
        *(float(history["objective"][-1]), _last(history["objective_test"])),
        *(_last(history[name][where]) for where in (early, everywhere) for name in ("accuracy_train", "accuracy_test")),
    )


def _last(values: Any) -> float | None:
    return float(values[-1]) if len(values) else None


def _difference_table(rows: Sequence[Row], language: Language, note: Pieces) -> Table:
    columns = [
        *(Column(name, language(f"control.{name}")) for name in ("training", "sides")),
        *(
            Column("iterations", language("control.iterations")),
            Column("difference", language("control.difference"), ERROR),
        ),
    ]
    return Table("control-differences", language("control.differences", first=FIRST), columns, rows, note)


def _differences(run: ControlRun, language: Language) -> Iterator[Row]:
    """How far the sides' objectives are apart in the first iterations, where rounding has not grown yet."""
    if figures.settings_of(run.trainings[0]).dtype != "float64":
        return
    for left, right in combinations(run.trainings, 2):
        last = min(FIRST, left.iteration, right.iteration)
        a, b = left.history["objective"][: last + 1], right.history["objective"][: last + 1]
        names = language.joined(side(one.side).title for one in (left, right))
        title = figures.run_title(run.trainings[0], language)
        yield title, names, language("control.up_to", last=last), relative_difference(a, b)


def _run(place: int, run: ControlRun, language: Language) -> Section:
    title = figures.run_title(run.trainings[0], language)
    about = language.pieces("control.folder", folder=Code(f"training/{run.folder.name}"))
    for training in run.trainings:
        about += (" ", *_made(training, language))
    pictures = [_picture(file, title, run.trainings, language) for file in run.files]
    return Section(title, [Paragraph(about, soft=True), *pictures], f"training-{place}")


def _made(training: Training, language: Language) -> Pieces:
    return language.pieces(
        "control.made",
        side=side(training.side).title,
        made=made_with(training.versions),
        status=language(f"status.{training.status}"),
        iterations=training.iteration,
    )


def _picture(file: Path, title: str, trainings: Sequence[Training], language: Language) -> Picture:
    names = language.joined(side(training.side).title for training in trainings)
    what, caption = language(f"alt.{file.stem}"), language(f"caption.{file.stem}")
    return Picture(file, caption, language("alt.by", what=what, title=title, sides=names))
