"""The page: a comparison and trainings as one self-contained HTML file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
from pydantic import BaseModel, ConfigDict

from ..comparator import Check
from ..errors import InputError, one_of
from ..files import reading, replacing
from ..format import Training
from ..harness import INCOMPARABLE, Comparison, Source, by_case
from ..sides import side, sides
from ..validation import validate
from . import figures
from .curves import checkpoint_folders, read_checkpoints
from .image_page import ImageRun, image_run
from .parts import Picture, count, error_text, made_with, picture, relative_difference
from .terminal import columns
from .text_figures import TEXT
from .text_page import TextRun, text_run
from .training_rows import FIRST as FIRST_STEPS

TITLE = "TwinGrad: PyTorch and Flux.jl, held against each other"
EARLY = 1000
"""The iteration whose accuracy the table of trainings quotes beside the last one's."""
FIRST = 100
"""Iterations over which two trainings are held against each other: later, rounding errors have grown."""
KINDS = {
    "sides": "side against side",
    "oracle": "against the oracle",
    "manual": "by hand against automatic differentiation",
    "steps": "training steps, side against side",
}
VERSIONS = ("language", "framework", "blas", "processor", "device", "threads")
PICTURES = {
    "decision": (
        "Decision regions with the test samples",
        "What the network predicts in the plane, and the test samples by their true class. The black line is "
        "prediction 0.5; a ring marks a wrongly classified sample.",
    ),
    "trajectories": (
        "Trajectories of test samples through the layers",
        "The first two coordinates of the states y from the first to the last layer. In two dimensions the dashed "
        "line W y + μ = 0 parts the classes.",
    ),
    "time_steps": (
        "Time steps of the layers",
        "The time step Δt of each layer: bars now, the dashed line at the start.",
    ),
    "curves": (
        "Curves of objective, accuracy and step constant over the iterations",
        "Objective J, accuracy and step constant L. Where two sides coincide, the thin dashed line of the second "
        "lies on the wide pale line of the first.",
    ),
}
"""What the figures show, in a few words and in a sentence."""


def write_page(out: Path) -> Path:
    """Write OUT/index.html, which needs no other file.

    Args:
        out: holds `comparison.json`, as `twingrad compare --save` writes it, or folders `training/NAME` with training
            files, or both. The figures of the trainings are drawn anew in their folders.

    Returns:
        The path of the page.

    Raises:
        InputError: there is neither, a file is damaged, or `out` cannot be written to.
    """
    out = Path(out)
    file = out / "comparison.json"
    comparison = read_comparison(file) if file.exists() else None
    runs = [_run(folder) for folder in _training_folders(out / "training")]
    texts, images = _checkpoint_runs(out / "training")
    if comparison is None and not (runs or texts or images):
        raise InputError(
            str(out),
            expected="comparison.json or folders training/NAME with training files",
            found="neither",
            hint=f"'twingrad compare --save {file}' or 'twingrad train control --out {out / 'training' / 'NAME'}' "
            "writes them.",
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("page.html.jinja").render(
        title=TITLE,
        compared=None if comparison is None else _compared(comparison),
        runs=runs,
        texts=texts,
        images=images,
        early=EARLY,
        first=FIRST,
        first_steps=[f"steps 1 to {steps}" for steps in FIRST_STEPS],
        version=version("twingrad"),
    )
    page = out / "index.html"
    with replacing(page) as temporary:
        temporary.write_bytes(html.encode())
    return page


class _SourceEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    side: str
    title: str
    live: bool
    versions: dict[str, Any]
    created: str


class _CheckEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    case: str
    dtype: str
    check: str
    left: str
    right: str
    array: str
    error: float
    bound: float
    message: str
    passed: bool


class _ComparisonFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["twingrad-comparison"]
    format_version: Literal[1]
    created: str
    agrees: bool
    sources: list[_SourceEntry]
    failures: list[str]
    checks: list[_CheckEntry]


def read_comparison(file: Path) -> Comparison:
    """The comparison in a file that `twingrad compare --save` wrote.

    Raises:
        InputError: it is no JSON, of another format or version, an entry is missing, unknown or of the wrong type,
            or its verdict does not follow from its checks.
    """
    try:
        with reading(file):
            data = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(str(file), expected="JSON", found=f"something else ({error})") from None
    entries = validate(_ComparisonFile, data, str(file))
    for place, source in enumerate(entries.sources):
        if source.side not in sides():
            where = f"{file}, sources.{place}.side"
            raise InputError(where, expected=one_of(sides()), found=repr(source.side))
    comparison = _rebuilt(entries)
    passed = [check.passed for check in comparison.checks]
    if comparison.agrees != entries.agrees or passed != [check.passed for check in entries.checks]:
        raise InputError(
            f"{file}, agrees",
            expected="a verdict that follows from messages and failures",
            found="another one",
            hint="Write the file again with 'twingrad compare --save'.",
        )
    return comparison


def _rebuilt(entries: _ComparisonFile) -> Comparison:
    checks = []
    for entry in entries.checks:
        values = entry.model_dump(exclude={"passed"})
        values["error"] = float("inf") if entry.error >= INCOMPARABLE else entry.error
        checks.append(Check(**values))
    sources = [Source(**source.model_dump(exclude={"title"})) for source in entries.sources]
    return Comparison(sources, checks, entries.failures, entries.created)


@dataclass(frozen=True)
class _Cell:
    """An error in a table, and whether it is within its bound; an empty text where nothing was checked."""

    text: str
    fails: bool = False


@dataclass(frozen=True)
class _SourceRow:
    title: str
    how: str
    versions: list[str]


@dataclass(frozen=True)
class _KindRow:
    kind: str
    dtype: str
    checks: int
    failed: int
    worst: Check
    error: str


@dataclass(frozen=True)
class _Section:
    """The cases of one model."""

    model: str
    summary: str
    fails: bool
    rows: list[tuple[str, list[_Cell]]]


@dataclass(frozen=True)
class _Compared:
    """What the page says about a comparison."""

    state: str
    verdict: str
    notes: list[str]
    created: str
    sources: list[_SourceRow]
    kinds: list[_KindRow]
    sections: list[_Section]
    wrong: list[tuple[Check, str]]
    failures: list[str]


def _compared(comparison: Comparison) -> _Compared:
    wrong = [check for check in comparison.checks if not check.passed]
    state = "agree" if comparison.agrees else "disagree" if wrong or comparison.failures else "nothing"
    return _Compared(
        state=state,
        verdict=_verdict(comparison, state),
        notes=list(_notes(comparison)),
        created=_time(comparison.created),
        sources=[_source_row(source) for source in comparison.sources],
        kinds=list(_kind_rows(comparison)),
        sections=list(_sections(comparison.checks)),
        wrong=[(check, error_text(check.error)) for check in wrong],
        failures=comparison.failures,
    )


def _verdict(comparison: Comparison, state: str) -> str:
    titles = " and ".join(side(source.side).title for source in comparison.sources)
    checks, cases = len(comparison.checks), len({check.case for check in comparison.checks})
    wrong = sum(not check.passed for check in comparison.checks)
    match state:
        case "agree":
            return f"{titles} agree: all {checks} checks on {count(cases, 'case')} passed."
        case "disagree":
            failures = count(len(comparison.failures), "other failure")
            return f"{titles} do not agree: {wrong} of {checks} checks on {count(cases, 'case')} failed, {failures}."
        case _:
            return f"{titles}: nothing was compared."


def _notes(comparison: Comparison) -> Iterator[str]:
    """What the reader must know to weigh the verdict."""
    recorded = [source for source in comparison.sources if not source.live]
    for source in recorded:
        title, made = side(source.side).title, made_with(source.versions)
        missing = _unchecked_dtypes(comparison, source.side)
        unchecked = f" Its {' and '.join(missing)} calculations were not checked." if missing else ""
        yield f"Recorded {title} results of {source.created[:10]} made with {made} stood in.{unchecked}"
    if comparison.sources and not recorded:
        yield "Every side ran live."
    if comparison.checks and not any(check.check == "sides" for check in comparison.checks):
        yield "No side was held directly against another, only against the oracle or itself."


def _unchecked_dtypes(comparison: Comparison, name: str) -> list[str]:
    """The dtypes in which something was checked, but nothing of this side."""
    known = dict.fromkeys(check.dtype for check in comparison.checks)
    checked = {check.dtype for check in comparison.checks if name in (check.left, check.right)}
    return [dtype for dtype in known if dtype not in checked]


def _source_row(source: Source) -> _SourceRow:
    how = "live" if source.live else f"recorded on {source.created[:10]}"
    return _SourceRow(side(source.side).title, how, [str(source.versions.get(key, "")) for key in VERSIONS])


def _kind_rows(comparison: Comparison) -> Iterator[_KindRow]:
    for dtype in dict.fromkeys(check.dtype for check in comparison.checks):
        for kind in dict.fromkeys([*KINDS, *(check.check for check in comparison.checks)]):
            worst = comparison.worst(dtype, kind)
            if worst is not None:
                checks = [check for check in comparison.checks if (check.dtype, check.check) == (dtype, kind)]
                failed = sum(not check.passed for check in checks)
                yield _KindRow(KINDS.get(kind, kind), dtype, len(checks), failed, worst, error_text(worst.error))


def _sections(checks: Sequence[Check]) -> Iterator[_Section]:
    models: dict[str, list[tuple[str, list[Check]]]] = {}
    for case, group in by_case(list(checks)):
        models.setdefault(case.split("-", 1)[0], []).append((case, group))
    for model, cases in models.items():
        everything = [check for _, group in cases for check in group]
        failing = sum(any(not check.passed for check in group) for _, group in cases)
        summary = f"{count(len(cases), 'case')}, {count(len(everything), 'check')}"
        summary += f", {failing} failing" if failing else ", all passed"
        rows = [(case.removeprefix(f"{model}-"), [_cell(column) for column in columns(group)]) for case, group in cases]
        yield _Section(model, summary, failing > 0, rows)


def _cell(checks: Sequence[Check]) -> _Cell:
    if not checks:
        return _Cell("")
    wrong = [check for check in checks if not check.passed]
    return _Cell(error_text(max(check.error for check in wrong or checks)), bool(wrong))


@dataclass(frozen=True)
class _TrainingRow:
    title: str
    made_with: str
    iterations: int
    status: str
    objective_train: str
    objective_test: str
    early: tuple[str, str]
    last: tuple[str, str]


@dataclass(frozen=True)
class _Difference:
    """How far two sides' objectives are apart, relatively, up to an iteration."""

    sides: str
    last: int
    error: str


@dataclass(frozen=True)
class _Run:
    """One training on one side or more."""

    name: str
    title: str
    dataset: str
    network: str
    method: str
    rows: list[_TrainingRow]
    differences: list[_Difference]
    pictures: list[Picture]


def _training_folders(parent: Path) -> list[Path]:
    """The folders that hold a training file of some side, by name."""
    names = [f"{name}.h5" for name in sides()]
    folders = sorted(parent.iterdir()) if parent.is_dir() else []
    return [folder for folder in folders if any((folder / name).exists() for name in names)]


def _checkpoint_runs(parent: Path) -> tuple[list[TextRun], list[ImageRun]]:
    """The trainings on text and on images in the folders PARENT/NAME."""
    texts, images = [], []
    for folder in checkpoint_folders(parent):
        trainings = read_checkpoints(folder)
        if trainings[0].model in TEXT.models:
            texts.append(text_run(folder, trainings))
        else:
            images.append(image_run(folder, trainings))
    return texts, images


def _run(folder: Path) -> _Run:
    trainings = figures.read_trainings(folder)
    settings, title = figures.settings_of(trainings[0]), figures.run_title(trainings[0])
    return _Run(
        name=folder.name,
        title=title,
        dataset=settings.dataset,
        network=settings.network,
        method=settings.method,
        rows=[_training_row(training) for training in trainings],
        differences=list(_differences(trainings)),
        pictures=[_picture(file, title, trainings) for file in figures.draw(folder, trainings)],
    )


def _training_row(training: Training) -> _TrainingRow:
    history = training.history
    return _TrainingRow(
        title=side(training.side).title,
        made_with=made_with(training.versions),
        iterations=training.iteration,
        status=training.status,
        objective_train=f"{history['objective'][-1]:.3e}",
        objective_test=_last(history["objective_test"], ".3e"),
        early=_accuracies(training, np.flatnonzero(history["evaluated"] == EARLY)),
        last=_accuracies(training, np.arange(len(history["evaluated"]))),
    )


def _accuracies(training: Training, where: Any) -> tuple[str, str]:
    """Accuracy on training and test data at the last of these places of the history."""
    train, test = (_last(training.history[name][where], ".3f") for name in ("accuracy_train", "accuracy_test"))
    return train, test


def _last(values: Any, form: str) -> str:
    return format(float(values[-1]), form) if len(values) else ""


def _differences(trainings: Sequence[Training]) -> Iterator[_Difference]:
    """How far the sides' objectives are apart in the first iterations, where rounding has not grown yet."""
    if figures.settings_of(trainings[0]).dtype != "float64":
        return
    for left, right in combinations(trainings, 2):
        last = min(FIRST, left.iteration, right.iteration)
        a, b = left.history["objective"][: last + 1], right.history["objective"][: last + 1]
        names = f"{side(left.side).title} and {side(right.side).title}"
        yield _Difference(names, last, error_text(relative_difference(a, b)))


def _picture(file: Path, title: str, trainings: Sequence[Training]) -> Picture:
    what, caption = PICTURES[file.stem]
    names = " and ".join(side(training.side).title for training in trainings)
    return picture(file, caption, f"{what}: {title}, by {names}.")


def _time(created: str) -> str:
    """ "2025-06-01T09:30:00Z" as "2025-06-01 09:30 UTC"; another text as it is."""
    return f"{created[:10]} {created[11:16]} UTC" if created.endswith("Z") and len(created) == 20 else created
