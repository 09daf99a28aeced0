"""The section on audits: planted mistakes, false alarms and broken files, OUT/audit/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..audit.saved import Alarm, Alarms, BrokenFiles, Defects, Outcome, Planted, read
from .document import (
    BOUND,
    CODE,
    COUNT,
    ERROR,
    LONG,
    Cell,
    Column,
    Fold,
    Paragraph,
    Part,
    Problems,
    Row,
    Section,
    Table,
)
from .language import Language, Pieces
from .parts import made_by, provenance, side_title

FOLDER = "audit"


@dataclass(frozen=True)
class AuditRun:
    """What was found by the audits of a folder."""

    defects: Defects | None
    alarms: Alarms | None
    broken: BrokenFiles | None


def audit_run(out: Path) -> AuditRun | None:
    """The audits saved in OUT/audit; None where there is none. Raises InputError where a file is damaged."""
    names = ("defects", "false-alarms", "broken-files")
    defects, alarms, broken = (out / FOLDER / f"{name}.json" for name in names)
    if not any(file.exists() for file in (defects, alarms, broken)):
        return None
    return AuditRun(
        read(Defects, defects) if defects.exists() else None,
        read(Alarms, alarms) if alarms.exists() else None,
        read(BrokenFiles, broken) if broken.exists() else None,
    )


def audit_section(run: AuditRun, language: Language) -> Section:
    """The section on what the comparison catches and on its false alarms."""
    parts: list[Part] = []
    if run.defects:
        parts += _defects(run.defects, language)
    if run.alarms:
        parts += _alarms(run.alarms, language)
    if run.broken:
        parts += _broken_files(run.broken, language)
    title = language("audit.title")
    return Section(title, parts, "audit", short=title)


def _note(found: Defects | Alarms | BrokenFiles, language: Language) -> Pieces:
    processors = dict.fromkeys(str(versions.get("processor", "")) for versions in found.sides.values())
    made = [made_by(side_title(name), versions, language) for name, versions in found.sides.items()]
    return provenance(language, [*filter(None, processors)], made, found.created, [found.command])


def _defects(found: Defects, language: Language) -> list[Part]:
    sides = list(dict.fromkeys(one.side for one in found.planted))
    columns = [Column("topic", language("audit.topic"))]
    for name in sides:
        columns += [
            Column(f"{name}_caught", language("audit.caught"), COUNT, group=side_title(name)),
            Column(f"{name}_planted", language("audit.planted"), COUNT, group=side_title(name)),
            Column(f"{name}_margin", language("audit.margin"), BOUND, group=side_title(name)),
        ]
    topics = [*dict.fromkeys(one.topic for one in found.planted), ""]
    rows: list[Row] = [
        (
            topic or language("audit.all"),
            *(cell for name in sides for cell in _score([one for one in found.planted if _is_in(one, name, topic)])),
        )
        for topic in topics
    ]
    parts: list[Part] = [Paragraph(language.pieces("audit.explained"))]
    problems = [
        f"{side_title(one.side)}, {one.name}: {one.status} {one.message}" for one in found.planted if not one.sound
    ]
    problems += [f"{side_title(name)}: {text}" for name, several in found.controls.items() for text in several]
    parts += [Problems(problems)] if problems else []
    parts += [
        Paragraph((language("experiments.not_run", side=side_title(name), reason=reason),))
        for name, reason in found.not_run.items()
    ]
    note = _note(found, language)
    parts.append(Table("audit-defects", language("audit.caption"), columns, rows, note))
    counts = language.count("count.mistake", len(found.planted))
    parts.append(Fold(language("audit.mistakes"), counts, [_mistakes(found, language, note)]))
    return parts


def _is_in(one: Planted, side: str, topic: str) -> bool:
    return one.side == side and topic in ("", one.topic)


def _score(several: Sequence[Planted]) -> tuple[Cell, int | None, float | None]:
    """How many were caught as they should be, how many planted, and the smallest error in bounds."""
    if not several:
        return Cell(None), None, None
    caught = sum(one.sound for one in several)
    return Cell(caught, fails=caught < len(several)), len(several), min(one.margin for one in several)


def _mistakes(found: Defects, language: Language, note: Pieces) -> Table:
    names = ("side", "mistake", "assertion", "array", "error", "bound", "margin")
    forms = {"mistake": LONG, "array": CODE, "error": ERROR, "bound": BOUND, "margin": BOUND}
    columns = [Column(name, language(f"audit.{name}"), forms.get(name, LONG)) for name in names]
    rows: list[Row] = [
        (
            *(side_title(one.side), one.mistake, language(f"kinds.{one.check}"), one.array),
            *(Cell(one.error, fails=not one.sound), one.bound, one.margin),
        )
        for one in found.planted
    ]
    return Table("audit-mistakes", language("audit.mistakes_caption"), columns, rows, note)


def _alarms(found: Alarms, language: Language) -> list[Part]:
    heads = {kind: language(f"audit.{kind.replace(' ', '_')}") for kind in Alarms.KINDS}
    columns = [Column("model", language("audit.model"))]
    columns += [Column(name, language(f"audit.{name}"), COUNT) for name in ("cases", "checks", "failed", "unstable")]
    columns += [
        Column(kind.replace(" ", "_"), head, ERROR, group=language("audit.worst")) for kind, head in heads.items()
    ]
    rows: list[Row] = [_alarm_row(model, several) for model, several in found.of_models().items()]
    rows.append((language("audit.bound"), None, None, None, None, *(found.bounds.get(kind) for kind in Alarms.KINDS)))
    parts: list[Part] = [Paragraph(language.pieces("audit.alarms_explained", seed=found.seed))]
    problems = [f"{one.name}: {text}" for one in found.cases for text in one.failures]
    parts += [Problems(problems)] if problems else []
    parts.append(Paragraph(language.pieces("audit.unstable_explained"), soft=True))
    parts.append(Table("audit-false-alarms", language("audit.alarms_caption"), columns, rows, _note(found, language)))
    return parts


def _alarm_row(model: str, several: Sequence[Alarm]) -> Row:
    failed, unstable = (sum(len(getattr(one, name)) for one in several) for name in ("failures", "unstable"))
    worst = [max((one.worst[kind] for one in several if kind in one.worst), default=None) for kind in Alarms.KINDS]
    return (model, len(several), sum(one.checks for one in several), Cell(failed, fails=failed > 0), unstable, *worst)


def _broken_files(found: BrokenFiles, language: Language) -> list[Part]:
    outcomes = (*BrokenFiles.SOUND, "wrong")
    columns = [Column("kind", language("audit.kind"))]
    for name in found.counts:
        columns += [
            Column(f"{name}_{outcome}", language(f"audit.{outcome}"), COUNT, group=side_title(name))
            for outcome in outcomes
        ]
    kinds = [*dict.fromkeys(kind for several in found.counts.values() for kind in several), ""]
    rows: list[Row] = [
        (kind or language("audit.all"), *(cell for several in found.counts.values() for cell in _fates(several, kind)))
        for kind in kinds
    ]
    parts: list[Part] = [Paragraph(language.pieces("audit.broken_explained", files=found.files, seed=found.seed))]
    problems = [
        f"{side_title(one.side)}, {one.number}, {one.kind}, {one.way}: {one.outcome}: {one.message.splitlines()[0]}"
        for one in found.unsound
    ]
    parts += [Problems(problems)] if problems else []
    parts.append(Table("audit-broken-files", language("audit.broken_caption"), columns, rows, _note(found, language)))
    return parts


def _fates(kinds: Mapping[str, Mapping[Outcome, int]], kind: str) -> list[Cell]:
    """How many files of a kind, or of all, came to each outcome; empty where the side does not read the kind."""
    chosen = [counts for name, counts in kinds.items() if kind in ("", name)]
    if not chosen:
        return [Cell(None)] * (len(BrokenFiles.SOUND) + 1)
    sound = [sum(counts.get(outcome, 0) for counts in chosen) for outcome in BrokenFiles.SOUND]
    wrong = sum(sum(counts.values()) for counts in chosen) - sum(sound)
    return [*(Cell(number) for number in sound), Cell(wrong, fails=wrong > 0)]
