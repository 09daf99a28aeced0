"""The sections on a comparison: where results come from, what disagrees, the worst errors by array and by case."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ..comparator import Check
from ..harness import Comparison, Source, by_case
from ..sides import side
from .document import (
    BOUND,
    CODE,
    COUNT,
    ERROR,
    LONG,
    TEXT,
    Cell,
    Column,
    Fold,
    Paragraph,
    Part,
    Problems,
    Row,
    Section,
    Table,
    Verdict,
)
from .language import Language, Pieces
from .parts import made_by, made_with, provenance, slug, unique
from .terminal import columns as columns_of

KINDS = ("sides", "oracle", "manual", "fast", "steps")
COLUMNS = ("outputs", "gradients", "manual", "fast", "steps", "float32")
"""Columns of the table case by case."""
VERSIONS = ("language", "framework", "blas", "processor", "device", "threads")


def verdict(comparison: Comparison | None, language: Language) -> Verdict:
    """What the report says first."""
    if comparison is None:
        return Verdict("", language("verdict.none"), [language("verdict.no_comparison")])
    wrong = sum(not check.passed for check in comparison.checks)
    state = "agree" if comparison.agrees else "disagree" if wrong or comparison.failures else "nothing"
    values: dict[str, str | int] = {
        "sides": language.joined(side(source.side).title for source in comparison.sources),
        "checks": len(comparison.checks),
        "cases": language.count("count.case", len({check.case for check in comparison.checks})),
        "wrong": wrong,
        "failures": language.count("count.other_failure", len(comparison.failures)),
    }
    sentence = language(f"verdict.{state}_sentence", **values)
    return Verdict(state, language(f"verdict.{state}"), [sentence, *_notes(comparison, language)])


def _notes(comparison: Comparison, language: Language) -> Iterator[str]:
    """What the reader must know to weigh the verdict."""
    recorded = [source for source in comparison.sources if not source.live]
    for source in recorded:
        title, made = side(source.side).title, made_with(source.versions)
        note = language("verdict.stood_in", side=title, date=source.created[:10], made=made)
        if missing := _unchecked_dtypes(comparison, source.side):
            note += f" {language('verdict.unchecked', dtypes=language.joined(missing))}"
        yield note
    if comparison.sources and not recorded:
        yield language("verdict.live")
    if comparison.checks and not any(check.check == "sides" for check in comparison.checks):
        yield language("verdict.not_between_sides")


def _unchecked_dtypes(comparison: Comparison, name: str) -> list[str]:
    """The dtypes in which something was checked, but nothing of this side."""
    known = dict.fromkeys(check.dtype for check in comparison.checks)
    checked = {check.dtype for check in comparison.checks if name in (check.left, check.right)}
    return [dtype for dtype in known if dtype not in checked]


def comparison_sections(comparison: Comparison, language: Language) -> list[Section]:
    """The sections on a comparison."""
    note = _provenance(comparison, language)
    found = [_section("sources", [_sources(comparison, language, note)], language)]
    if wrong := list(_disagreements(comparison, language, note)):
        found.append(_section("disagreements", wrong, language))
    models = _by_model(comparison.checks)
    parts: dict[str, list[Part]] = {
        "summary": [_summary(comparison.checks, language, note), _models_summary(models, language, note)],
        "arrays": [],
        "cases": [],
    }
    for name, (model, checks) in zip(unique([slug(model) for model in models]), models.items(), strict=True):
        parts["arrays"].append(_fold(model, checks, _arrays(name, model, checks, language, note), language))
        parts["cases"].append(_fold(model, checks, _cases(name, model, checks, language, note), language))
    for name, tables in parts.items():
        explained = Paragraph(language.pieces(f"{name}.explained"))
        found.append(_section(name, [explained, *tables], language, detail=name in ("arrays", "cases")))
    return found


def _section(name: str, parts: Sequence[Part], language: Language, *, detail: bool = False) -> Section:
    title = language(f"{name}.title")
    return Section(title, parts, name, short=title, detail=detail)


def _provenance(comparison: Comparison, language: Language) -> Pieces:
    """On which processors, with what, when and by which command."""
    processors = dict.fromkeys(str(source.versions.get("processor", "")) for source in comparison.sources)
    versions = [_made(source, language) for source in comparison.sources]
    return provenance(language, [*filter(None, processors)], versions, comparison.created, [comparison.command])


def _made(source: Source, language: Language) -> str:
    made = made_by(side(source.side).title, source.versions, language)
    return made if source.live else f"{made}, {_how(source, language)}"


def _how(source: Source, language: Language) -> str:
    return language("sources.live") if source.live else language("sources.recorded", date=source.created[:10])


def _sources(comparison: Comparison, language: Language, note: Pieces) -> Table:
    head = ("side", "results", *VERSIONS)
    forms = {"blas": LONG, "processor": LONG}
    columns = [Column(name, language(f"sources.{name}"), forms.get(name, TEXT)) for name in head]
    rows = [
        (side(source.side).title, _how(source, language), *(str(source.versions.get(key, "")) for key in VERSIONS))
        for source in comparison.sources
    ]
    return Table("sources", language("sources.caption"), columns, rows, note)


def _disagreements(comparison: Comparison, language: Language, note: Pieces) -> Iterator[Part]:
    wrong = [check for check in comparison.checks if not check.passed]
    if wrong:
        forms = {"array": CODE, "error": ERROR, "bound": BOUND, "message": LONG}
        names = ("case", "dtype", "compared", "array", "error", "bound", "message")
        columns = [Column(name, language(f"disagreements.{name}"), forms.get(name, TEXT)) for name in names]
        rows = [
            (
                *(check.case, check.dtype, language("disagreements.against", left=check.left, right=check.right)),
                *(check.array, Cell(check.error, fails=True), check.bound, check.message),
            )
            for check in wrong
        ]
        yield Table("disagreements", language("disagreements.caption"), columns, rows, note)
    if comparison.failures:
        yield Paragraph(language.pieces("disagreements.failures"))
        yield Problems(comparison.failures)


def _summary(checks: Sequence[Check], language: Language, note: Pieces) -> Table:
    """A row for each kind of check and dtype, with its worst error."""
    return Table(
        "agreement",
        language("summary.caption"),
        _summary_columns(language),
        list(_summary_rows(checks, language)),
        note,
    )


def _models_summary(models: Mapping[str, Sequence[Check]], language: Language, note: Pieces) -> Table:
    """The same for each model."""
    columns = [Column("model", language("summary.model")), *_summary_columns(language)]
    rows: list[Row] = [(model, *row) for model, checks in models.items() for row in _summary_rows(checks, language)]
    return Table("agreement-models", language("summary.models_caption"), columns, rows, note)


def _summary_columns(language: Language) -> list[Column]:
    forms = {"check": LONG, "checks": COUNT, "failed": COUNT, "error": ERROR, "bound": BOUND, "array": CODE}
    names = ("check", "dtype", "checks", "failed", "error", "bound", "case", "array")
    return [Column(name, language(f"summary.{name}"), forms.get(name, TEXT)) for name in names]


def _summary_rows(checks: Sequence[Check], language: Language) -> Iterator[Row]:
    kinds: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        kinds.setdefault((check.dtype, check.check), []).append(check)
    for (dtype, kind), of_kind in sorted(kinds.items(), key=lambda entry: _order(entry[0])):
        worst = max(of_kind, key=lambda check: check.error)
        failed = sum(not check.passed for check in of_kind)
        yield (
            *(_kind(kind, language), dtype, len(of_kind), Cell(failed, fails=failed > 0)),
            *(worst.error, worst.bound, worst.case, worst.array),
        )


def _order(kind: tuple[str, str]) -> tuple[bool, str, int, str]:
    """float64 first, then by kind of check as in `KINDS`."""
    dtype, check = kind
    return dtype != "float64", dtype, KINDS.index(check) if check in KINDS else len(KINDS), check


def _kind(kind: str, language: Language) -> str:
    return language(f"kinds.{kind}") if kind in KINDS else kind


def _by_model(checks: Sequence[Check]) -> dict[str, list[Check]]:
    models: dict[str, list[Check]] = {}
    for check in checks:
        models.setdefault(check.case.split("-", 1)[0], []).append(check)
    return models


def _fold(model: str, checks: Sequence[Check], table: Table, language: Language) -> Fold:
    """The table of a model behind a line that says how many of its cases fail."""
    cases = {check.case for check in checks}
    failing = {check.case for check in checks if not check.passed}
    state = language("cases.failing", n=len(failing)) if failing else language("cases.passed")
    counts = [language.count("count.case", len(cases)), language.count("count.check", len(checks))]
    return Fold(model, ", ".join([*counts, state]), [table], opened=bool(failing))


def _arrays(name: str, model: str, checks: Sequence[Check], language: Language, note: Pieces) -> Table:
    """The worst error of each array of a model in all its cases; layers and optimizers are one."""
    kinds = sorted({(check.dtype, check.check) for check in checks}, key=_order)
    columns = [Column("array", language("arrays.array"), CODE)]
    for dtype, kind in kinds:
        head = language(f"arrays.{kind}") if kind in KINDS else kind
        columns.append(Column(f"{dtype}_{kind}", head, ERROR, group=dtype))
    found: dict[str, dict[tuple[str, str], list[Check]]] = {}
    for check in checks:
        found.setdefault(folded(check.array), {}).setdefault((check.dtype, check.check), []).append(check)
    bounds = [min(check.bound for check in checks if (check.dtype, check.check) == kind) for kind in kinds]
    rows: list[Row] = [(language("arrays.bound"), *bounds)]
    rows += [(name, *(_worst(found[name].get(kind, [])) for kind in kinds)) for name in sorted(found)]
    return Table(f"arrays-{name}", language("arrays.caption", model=model), columns, rows, note)


def folded(array: str) -> str:
    """The name of an array without the numbers of layers and the names of optimizers: "grads/h.*.ln_1.weight"."""
    return re.sub(r"^steps/[^/]+/", "steps/*/", re.sub(r"(?<=[./])\d+(?=[./])", "*", array))


def _worst(checks: Sequence[Check]) -> Cell:
    """The largest error; of those that are out of their bounds, if any are."""
    wrong = [check for check in checks if not check.passed]
    return Cell(max((check.error for check in wrong or checks), default=None), fails=bool(wrong))


def _cases(name: str, model: str, checks: Sequence[Check], language: Language, note: Pieces) -> Table:
    columns = [Column("case", language("cases.case"))]
    columns += [Column(name, language(f"cases.{name}"), ERROR) for name in COLUMNS]
    rows: list[Row] = [
        (case.removeprefix(f"{model}-"), *(_worst(group) for group in columns_of(of_case)))
        for case, of_case in by_case(list(checks))
    ]
    return Table(f"cases-{name}", language("cases.caption", model=model), columns, rows, note)
