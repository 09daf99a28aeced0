"""The report's section on a part of the paper's experiments: what came out, how far the sides are apart, figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from .document import COUNT, ERROR, Column, Form, Paragraph, Part, Picture, Row, Section, Table, ranges, without_empty
from .experiment_files import Pair, Paper, Summary
from .language import Language, Pieces
from .parts import side_title

OBJECTIVE, ACCURACY, DIFFERENCE = Form(".2e"), Form(".3f"), Form("+.3f")


def paper_section(
    place: int, measured: Paper, files: Sequence[Path], not_run: Sequence[Part], note: Pieces, language: Language
) -> Section:
    """The section on one part.

    Args:
        place: the number of the experiment, which its tables have in their names.
        measured: the numbers.
        files: the figures, named as `draw_paper` names them.
        not_run: what is said of sides that did not run.
        note: what stands below the tables.
        language: of the texts.
    """
    subject, name = _subject(measured, language), f"experiment-{place}-paper"
    parts: list[Part] = [
        Paragraph(language.pieces(f"paper.{measured.part}")),
        *not_run,
        Table(name, language("paper.caption", subject=subject), *_results(measured, language), note),
    ]
    if measured.pairs:
        apart, samples = measured.apart, measured.settings.samples_test
        parts.append(Paragraph(language.pieces("paper.sides_explained", apart=apart, samples=samples)))
        caption = language("paper.sides_caption", subject=subject)
        parts.append(Table(f"{name}-sides", caption, *_differences(measured, language), note))
    parts += [_picture(file, measured, subject, language) for file in files]
    return Section(language("paper.title", what=language(f"paper.of_{measured.part}")), parts, f"experiment-{place}")


def _subject(measured: Paper, language: Language) -> str:
    settings = measured.settings
    return language(
        "paper.subject",
        shared=settings.network or settings.method or "",
        layers=language.count("count.layer", settings.layers),
        samples=settings.samples,
        dt="" if settings.dt is None else f", Δt = {language.number(f'{settings.dt:g}')}",
        seeds=", ".join(str(seed) for seed in measured.seeds),
    )


def _results(measured: Paper, language: Language) -> tuple[list[Column], list[Row]]:
    """A row for each data set, network or method, and side: means over the seeds and how far these are spread."""
    objective, train, test = (language(f"paper.{what}") for what in ("objective", "train", "test"))
    middle, deviation, extent = (language(f"paper.{what}") for what in ("mean", "deviation", "range"))
    columns = [
        Column("dataset", language("paper.dataset")),
        Column(measured.varied, language(f"paper.{measured.varied}")),
        Column("side", language("paper.side")),
        Column("iterations", language("paper.iterations"), COUNT),
        Column("objective_mean", middle, OBJECTIVE, objective),
        Column("objective_deviation", deviation, OBJECTIVE, objective),
        Column("accuracy_train_mean", middle, ACCURACY, train),
        Column("accuracy_train_deviation", deviation, ACCURACY, train),
        Column("accuracy_test_mean", middle, ACCURACY, test),
        Column("accuracy_test_deviation", deviation, ACCURACY, test),
        Column("accuracy_test", extent, ranges(ACCURACY, ("least", "greatest")), test),
    ]
    of_sides = [(one.title, one.summary) for one in measured.sides.values()]
    rows = [
        _result(title, summaries[place], several=len(measured.seeds) > 1)
        for place in range(len(of_sides[0][1]))
        for title, summaries in of_sides
    ]
    return without_empty(columns, rows)


def _result(title: str, row: Summary, *, several: bool) -> Row:
    return (
        *(row.dataset, row.name, title, int(row.iteration.least)),
        *(row.objective.mean, row.objective.deviation),
        *(row.accuracy_train.mean, row.accuracy_train.deviation),
        *(row.accuracy_test.mean, row.accuracy_test.deviation),
        (row.accuracy_test.least, row.accuracy_test.greatest) if several else None,
    )


def _differences(measured: Paper, language: Language) -> tuple[list[Column], list[Row]]:
    """A row for each data set, network or method, and pair of sides."""
    objective, accuracy = language("paper.objective_difference"), language("paper.accuracy_difference")
    columns = [
        Column("dataset", language("paper.dataset")),
        Column(measured.varied, language(f"paper.{measured.varied}")),
        Column("sides", language("paper.sides")),
        Column("first_objective", language("paper.at_the_start"), ERROR, objective),
        Column("largest_objective", language("paper.largest"), ERROR, objective),
        Column("last_objective", language("paper.at_the_end"), ERROR, objective),
        Column("parted", language("paper.parted", n=len(measured.seeds)), COUNT),
        Column("apart_at", language("paper.apart_at"), COUNT),
        Column("accuracy_mean", language("paper.mean"), DIFFERENCE, accuracy),
        Column("accuracy_largest", language("paper.largest"), ACCURACY, accuracy),
    ]
    found: dict[tuple[str, str, tuple[str, ...]], list[Pair]] = {}
    for pair in measured.pairs:
        found.setdefault((pair.dataset, pair.name, tuple(pair.sides)), []).append(pair)
    return columns, [
        (dataset, name, language.joined(side_title(side) for side in sides), *_difference(pairs))
        for (dataset, name, sides), pairs in sorted(found.items(), key=lambda entry: _place(measured, entry[0]))
    ]


def _place(measured: Paper, key: tuple[str, str, tuple[str, ...]]) -> tuple[int, int]:
    return list(measured.iterations).index(key[0]), measured.names.index(key[1])


def _difference(pairs: Sequence[Pair]) -> Row:
    apart = [pair.apart_at for pair in pairs if pair.apart_at is not None]
    accuracies = [pair.accuracy_test for pair in pairs]
    return (
        max(pair.first_objective for pair in pairs),
        max(pair.largest_objective for pair in pairs),
        max(pair.last_objective for pair in pairs),
        *(len(apart), min(apart, default=None)),
        *(mean(accuracies), max(abs(one) for one in accuracies)),
    )


def _picture(file: Path, measured: Paper, subject: str, language: Language) -> Picture:
    """A figure, named paper-PART-WHAT or paper-PART-flows-SIDE."""
    what, _, side = file.stem.removeprefix(f"paper-{measured.part}-").partition("flows-")
    titles = [measured.sides[side].title] if side else [one.title for one in measured.sides.values()]
    key = "flows" if side else what
    title = {"what": language(f"alt.paper-{key}"), "title": subject, "sides": language.joined(titles)}
    return Picture(file, language(f"caption.paper-{key}", side=titles[0]), language("alt.by", **title))
