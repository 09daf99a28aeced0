"""The section on experiments: orders of convergence, plain and residual networks, adversarial examples, the paper, the
transformer as a flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .attack_figures import draw_attack
from .degradation_figures import draw_degradation
from .document import COUNT, Column, Form, Paragraph, Part, Picture, Row, Section, Table
from .experiment_figures import draw_convergence
from .experiment_files import Attack, Degradation, Flow, Orders, Paper, find_experiments, read_experiment
from .flow_figures import draw_flow
from .flow_page import flow_section
from .image_figures import data_set
from .language import Language, Pieces
from .paper_figures import draw_paper
from .paper_page import paper_section
from .parts import made_by, provenance, side_title

ORDER, LOSS, ACCURACY, STRENGTH = Form(".3f"), Form(".4f"), Form(".4f"), Form("g")
KINDS: tuple[Literal["state", "gradient"], ...] = ("state", "gradient")
SAVED_PICTURES = ("adversarial", "regions")
"""Pictures of an attack that are shown as they were saved: what they are drawn from is not in attack.json."""


PAPER_PARTS = ("networks", "methods")


AnyExperiment = Orders | Degradation | Attack | Paper | Flow


@dataclass(frozen=True)
class ExperimentRun:
    """An experiment's numbers and the figures of them."""

    measured: AnyExperiment
    files: Sequence[Path]


def experiment_runs(out: Path) -> list[ExperimentRun]:
    """The experiments under OUT/experiments and OUT/training; their figures are drawn anew beside their numbers."""
    found = []
    for file in find_experiments(out, "convergence"):
        orders = read_experiment(file, Orders)
        found.append(ExperimentRun(orders, [draw_convergence(orders.model_dump(), file.parent)]))
    for file in find_experiments(out, "degradation"):
        degradation = read_experiment(file, Degradation)
        found.append(ExperimentRun(degradation, [draw_degradation(degradation.model_dump(), file.parent)]))
    for file in find_experiments(out, "attack"):
        attack = read_experiment(file, Attack)
        saved = [file.with_name(f"{name}.png") for name in SAVED_PICTURES]
        drawn = draw_attack(attack.model_dump(), file.parent)
        found.append(ExperimentRun(attack, [*drawn, *(picture for picture in saved if picture.exists())]))
    for part in PAPER_PARTS:
        for file in find_experiments(out, f"paper-{part}"):
            paper = read_experiment(file, Paper)
            found.append(ExperimentRun(paper, draw_paper(paper.model_dump(), file.parent)))
    for file in find_experiments(out, "flow"):
        flow = read_experiment(file, Flow)
        found.append(ExperimentRun(flow, draw_flow(flow.model_dump(), file.parent)))
    return found


def experiment_section(runs: Sequence[ExperimentRun], language: Language) -> Section:
    """The section on all experiments."""
    title = language("experiments.title")
    return Section(title, [_run(place, run, language) for place, run in enumerate(runs, 1)], "experiments", short=title)


def _run(place: int, run: ExperimentRun, language: Language) -> Section:
    measured = run.measured
    not_run, note = _not_run(measured, language), _note(measured, language)
    match measured:
        case Paper():
            return paper_section(place, measured, run.files, not_run, note, language)
        case Flow():
            return flow_section(place, measured, run.files[0].parent, not_run, note, language)
        case Orders():
            kind, subject, table = "orders", _flow(measured, language), _orders(measured, language)
        case Degradation():
            kind, subject, table = "degradation", _training(measured, language), _degradation(measured, language)
        case Attack():
            kind, subject, table = "attack", _attacked(measured, language), _attack(measured, language)
    columns, rows = table
    titles = language.joined(one.title for one in measured.sides.values())
    name = f"experiment-{place}-{kind}"
    parts: list[Part] = [
        Paragraph(language.pieces(f"{kind}.explained")),
        *not_run,
        Table(name, language(f"{kind}.caption", subject=subject), columns, rows, note),
    ]
    for file in run.files:
        alt = language("alt.by", what=language(f"alt.{file.stem}"), title=subject, sides=titles)
        parts.append(Picture(file, language(f"caption.{file.stem}"), alt))
    return Section(language(f"{kind}.title", subject=subject), parts, f"experiment-{place}")


def _note(measured: AnyExperiment, language: Language) -> Pieces:
    answered = measured.sides.values()
    processors = dict.fromkeys(str(one.versions.get("processor", "")) for one in answered)
    made = [made_by(one.title, one.versions, language) for one in answered]
    return provenance(language, [*filter(None, processors)], made, measured.created, [measured.command])


def _not_run(measured: AnyExperiment, language: Language) -> list[Part]:
    return [
        Paragraph((language("experiments.not_run", side=side_title(name), reason=reason.splitlines()[0]),))
        for name, reason in measured.not_run.items()
    ]


def _flow(measured: Orders, language: Language) -> str:
    points = language.count("count.point", measured.flow.points)
    return language("orders.subject", title=measured.title, steps=measured.steps[-1], points=points)


def _orders(measured: Orders, language: Language) -> tuple[list[Column], list[Row]]:
    answered = measured.sides
    columns = [Column("method", language("orders.method")), Column("expected", language("orders.expected"), COUNT)]
    columns += [
        Column(f"{kind}_{name}", one.title, ORDER, group=language(f"orders.{kind}"))
        for kind in KINDS
        for name, one in answered.items()
    ]
    rows: list[Row] = [
        (method, order, *(one.methods[method][kind].order for kind in KINDS for one in answered.values()))
        for method, order in measured.expected.items()
    ]
    return columns, rows


def _training(measured: Degradation, language: Language) -> str:
    settings = measured.settings
    sizes = {"width": settings.width, "batch": settings.batch, "iterations": settings.iterations}
    return language("degradation.subject", data=data_set(measured.images.name, language), **sizes)


def _degradation(measured: Degradation, language: Language) -> tuple[list[Column], list[Row]]:
    kinds = {"plain": False, "residual": True}
    columns = [Column("layers", language("degradation.layers"), COUNT)]
    columns += [
        Column(f"{kind}_{name}", one.title, LOSS, group=language(f"degradation.{kind}"))
        for kind in kinds
        for name, one in measured.sides.items()
    ]
    depths = sorted({network.depth for one in measured.sides.values() for network in one.networks})
    rows: list[Row] = [
        (
            depth,
            *(
                _mean([net.training_loss for net in one.networks if (net.depth, net.residual) == (depth, residual)])
                for residual in kinds.values()
                for one in measured.sides.values()
            ),
        )
        for depth in depths
    ]
    return columns, rows


def _mean(losses: Sequence[float]) -> float | None:
    return sum(losses) / len(losses) if losses else None


def _attacked(measured: Attack, language: Language) -> str:
    things = language.count(f"count.{measured.kind}", len(measured.labels))
    data = data_set(measured.data, language)
    return language("attack.subject", model=measured.model, things=things, data=data, dtype=measured.dtype)


def _attack(measured: Attack, language: Language) -> tuple[list[Column], list[Row]]:
    answered = measured.sides
    group = language("attack.accuracy")
    columns = [Column("epsilon", "ε", STRENGTH)]
    columns += [Column(f"accuracy_{name}", one.title, ACCURACY, group=group) for name, one in answered.items()]
    several = len(answered) > 1
    columns += [Column("differently", language("attack.differently"), COUNT)] if several else []
    rows: list[Row] = [
        (
            epsilon,
            *(one.accuracies[place] for one in answered.values()),
            *([measured.classified_differently[place]] if several else []),
        )
        for place, epsilon in enumerate(measured.epsilons)
    ]
    return columns, rows
