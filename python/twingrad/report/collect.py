"""What is saved in a folder, read and checked, and the document that tells it. Nothing is run again."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ..errors import InputError
from ..harness import Comparison
from .audit_page import AuditRun, audit_run, audit_section
from .bench_page import BenchRun, bench_runs, bench_sections
from .comparison_file import read_comparison
from .comparison_page import comparison_sections, verdict
from .control_page import ControlRun, control_runs, control_section
from .curves import checkpoint_folders, read_checkpoints
from .document import Document, Section
from .experiment_page import ExperimentRun, experiment_runs, experiment_section
from .image_page import ImageRun, image_run, image_section
from .language import Code, Language, Pieces
from .parts import time_text
from .text_figures import TEXT
from .text_page import TextRun, text_run, text_section

COMPARISON = "comparison.json"


@dataclass(frozen=True)
class Saved:
    """What was found in a folder."""

    comparison: Comparison | None
    audit: AuditRun | None
    benches: list[BenchRun]
    control: list[ControlRun]
    texts: list[TextRun]
    images: list[ImageRun]
    experiments: list[ExperimentRun]


def read_saved(out: Path, language: Language) -> Saved:
    """Read what is saved in OUT, and draw its figures anew beside it, those of benchmarks in the given language.

    Raises InputError where there is nothing, a file is damaged, or a figure cannot be written.
    """
    file = out / COMPARISON
    texts, images = [], []
    comparison = read_comparison(file) if file.exists() else None
    control = control_runs(out / "training")
    for folder in checkpoint_folders(out / "training"):
        trainings = read_checkpoints(folder)
        if trainings[0].model in TEXT.models:
            texts.append(text_run(folder, trainings))
        else:
            images.append(image_run(folder, trainings))
    saved = Saved(comparison, audit_run(out), bench_runs(out, language), control, texts, images, experiment_runs(out))
    if comparison is None and not any((saved.audit, saved.benches, control, texts, images, saved.experiments)):
        raise InputError(
            str(out),
            expected="comparison.json, bench.json, folders training/NAME or experiments/NAME",
            found="neither",
            hint=f"'twingrad compare --save {file}', 'twingrad bench --out {out / 'bench.json'}' or "
            f"'twingrad train control --out {out / 'training' / 'NAME'}' writes them.",
        )
    return saved


def document(saved: Saved, language: Language) -> Document:
    """The report on what was saved."""
    sections: list[Section] = []
    if saved.comparison:
        sections += comparison_sections(saved.comparison, language)
    if saved.audit:
        sections.append(audit_section(saved.audit, language))
    sections += bench_sections(saved.benches, language)
    if saved.control:
        sections.append(control_section(saved.control, language))
    if saved.texts:
        sections.append(text_section(saved.texts, language))
    if saved.images:
        sections.append(image_section(saved.images, language))
    if saved.experiments:
        sections.append(experiment_section(saved.experiments, language))
    found = verdict(saved.comparison, language)
    return Document(language, language("page.title"), found, sections, _footer(saved, language))


def _footer(saved: Saved, language: Language) -> Pieces:
    made = language.pieces("page.made", version=version("twingrad"), command=Code("make report"))
    if saved.comparison is None:
        return made
    return (language("page.compared", date=time_text(saved.comparison.created)), " ", *made)
