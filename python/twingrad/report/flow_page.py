"""The report's section on the transformer as a flow: trainings, time steps, the stream of each model, refinement."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import mean

from .document import COUNT, ERROR, Column, Form, Paragraph, Part, Picture, Row, Section, Table, ranges, without_empty
from .experiment_files import Flow, FlowStream, FlowTraining
from .flow_figures import model_files, training_files
from .language import Language, Pieces
from .parts import side_title

LOSS, ORDER, LENGTH, COSINE, STEP = Form(".4f"), Form(".2f"), Form(digits=3), Form("+.2f"), Form(".3f")
MEDIAN = 1
"""The place of the median among quartiles."""


def flow_section(
    place: int, measured: Flow, folder: Path, not_run: Sequence[Part], note: Pieces, language: Language
) -> Section:
    """The section on one experiment.

    Args:
        place: the number of the experiment, which its tables have in their names.
        measured: the numbers.
        folder: where `draw_flow` drew the figures.
        not_run: what is said of sides that did not run.
        note: what stands below the tables.
        language: of the texts.
    """
    subject, name = measured.text, f"experiment-{place}-flow"
    parts: list[Part] = [Paragraph(language.pieces("flow.explained")), *not_run]
    if measured.trainings:
        caption = language("flow.trainings", subject=subject, steps=measured.trainings[0].iterations)
        parts.append(Table(f"{name}-trainings", caption, *_trainings(measured, language), note))
        caption = language("flow.time_steps", subject=subject)
        parts.append(Table(f"{name}-time-steps", caption, *_time_steps(measured, language), note))
        parts += [_picture(file, kind, subject, measured, language) for kind, file in training_files(folder).items()]
    for number, (title, stream) in enumerate(measured.streams.items(), 1):
        parts += _stream(f"{name}-{number}", title, stream, measured, note, language)
        for kind, file in model_files(folder, title).items():
            parts.append(_picture(file, kind, title, measured, language))
    return Section(language("flow.title", subject=subject), parts, f"experiment-{place}")


def _by_variant(measured: Flow) -> dict[str, list[FlowTraining]]:
    found: dict[str, list[FlowTraining]] = {}
    for one in measured.trainings:
        found.setdefault(one.variant, []).append(one)
    return found


def _trainings(measured: Flow, language: Language) -> tuple[list[Column], list[Row]]:
    """A row for each variant: what it costs, and its last validation losses over the seeds."""
    loss = language("flow.validation")
    columns = [
        Column("variant", language("flow.variant"), Form(code=True)),
        Column("parameters", language("flow.parameters"), COUNT),
        Column("operations", language("flow.operations"), COUNT),
    ]
    for name, one in measured.sides.items():
        columns.append(Column(f"loss_{name}", one.title, LOSS, loss))
        columns.append(Column(f"range_{name}", language("flow.range"), ranges(LOSS, ("least", "greatest")), loss))
    rows: list[Row] = []
    for variant, runs in _by_variant(measured).items():
        losses = [[run.loss_validation[-1] for run in runs if run.side == name] for name in measured.sides]
        cells = chain.from_iterable(
            (mean(found), (min(found), max(found)) if len(found) > 1 else None) if found else (None, None)
            for found in losses
        )
        rows.append((variant, runs[0].parameters, runs[0].operations, *cells))
    return without_empty(columns, rows)


def _time_steps(measured: Flow, language: Language) -> tuple[list[Column], list[Row]]:
    """A row for each block: its learned time step in each variant, mean over the seeds, by each side."""
    variants = {name: runs for name, runs in _by_variant(measured).items() if runs[0].time_steps != "fixed"}
    columns = [Column("block", language("flow.block"), COUNT)]
    columns += [
        Column(f"{variant}_{name}", one.title, STEP, variant)
        for variant in variants
        for name, one in measured.sides.items()
    ]
    blocks = max((runs[0].layers for runs in variants.values()), default=0)
    rows: list[Row] = []
    for block in range(blocks):
        steps = [
            [run.dt[block] for run in runs if run.side == name] for runs in variants.values() for name in measured.sides
        ]
        rows.append((block + 1, *(mean(found) if found else None for found in steps)))
    return columns, rows


def _stream(name: str, title: str, stream: FlowStream, measured: Flow, note: Pieces, language: Language) -> list[Part]:
    """What is said of one model: its stream, the refinement of its blocks, how far the sides are apart."""
    first = next(iter(stream.sides.values()))
    number = language.number
    remark = language.pieces(
        "flow.remark",
        model=title,
        loss=number(f"{first.loss:.3f}"),
        flow=number(f"{first.refinement.reference_loss:.3f}"),
        straightness=number(f"{first.straightness[MEDIAN]:.2f}"),
    )
    parts: list[Part] = [
        Table(f"{name}-stream", language("flow.stream", model=title), *_sublayers(stream, language), note),
        Table(
            f"{name}-refinement", language("flow.refinement", model=title), *_schemes(stream, measured, language), note
        ),
        Paragraph(remark),
    ]
    for pair in stream.agreement:
        a, b = (side_title(one) for one in pair.sides)
        errors = {kind: number(f"{getattr(pair, kind):.1e}") for kind in ("states", "solutions", "losses")}
        key = "flow.agree" if pair.agrees else "flow.disagree"
        parts.append(Paragraph(language.pieces(key, a=a, b=b, **errors)))
    return parts


def _sublayers(stream: FlowStream, language: Language) -> tuple[list[Column], list[Row]]:
    """A row for each sublayer, medians over the tokens, by the first side."""
    one = next(iter(stream.sides.values()))
    columns = [
        Column("number", language("flow.sublayer"), COUNT),
        Column("part", language("flow.part")),
        Column("norm", "‖Δx‖", LENGTH),
        Column("relative", "‖Δx‖ / ‖x‖", LENGTH),
        Column("cosine", language("flow.cosine"), COSINE),
        Column("travelled", language("flow.travelled"), LENGTH),
        Column("displaced", language("flow.displaced"), LENGTH),
    ]
    cosines = [*(row[MEDIAN] for row in one.cosines), None]
    rows: list[Row] = [
        (
            place + 1,
            language(f"flow.{part}"),
            one.norms[place][MEDIAN],
            one.relative[place][MEDIAN],
            cosines[place],
            one.travelled[place + 1][MEDIAN],
            one.displaced[place + 1][MEDIAN],
        )
        for place, part in enumerate(one.sublayers)
    ]
    return columns, rows


def _schemes(stream: FlowStream, measured: Flow, language: Language) -> tuple[list[Column], list[Row]]:
    """A row for each scheme: its order by each side; errors and losses of the coarsest and the finest grid."""
    answered = stream.sides
    first = next(iter(answered.values())).refinement
    grids = {place: language.count("count.step", first.steps[place]) for place in (0, -1)}
    error, loss = language("flow.error"), language("flow.loss")
    columns = [
        Column("scheme", language("flow.scheme"), Form(code=True)),
        Column("expected", language("flow.expected"), COUNT),
        *(Column(f"order_{name}", side_title(name), ORDER, language("flow.order")) for name in answered),
        *(Column(f"error_{first.steps[place]}", steps, ERROR, error) for place, steps in grids.items()),
        *(Column(f"loss_{first.steps[place]}", steps, STEP, loss) for place, steps in grids.items()),
    ]
    rows: list[Row] = [
        (
            scheme,
            expected,
            *(one.refinement.schemes[scheme].order for one in answered.values()),
            *(first.schemes[scheme].errors[place] for place in grids),
            *(first.schemes[scheme].losses[place] for place in grids),
        )
        for scheme, expected in measured.orders.items()
    ]
    return columns, rows


def _picture(file: Path, kind: str, subject: str, measured: Flow, language: Language) -> Picture:
    titles = language.joined(one.title for one in measured.sides.values())
    alt = language("alt.by", what=language(f"alt.flow-{kind}"), title=subject, sides=titles)
    return Picture(file, language(f"caption.flow-{kind}"), alt)
