"""The whole report of a folder: page, Markdown, CSV, LaTeX and PDF, from what is saved there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..files import make_folder, read_json, remove, replacing
from .collect import document, read_saved
from .csv_files import csv_text
from .document import tables
from .html import html
from .language import Language
from .latex import latex_files, picture_names, references, skeleton
from .markdown import markdown

WRITTEN = ".written.json"
"""The list of the files that the last report has written, so that the next one removes those it does not write."""
LATEX = "latex"
_DIGEST = re.compile(r"\A% twingrad ([0-9a-f]{16})\n")


@dataclass(frozen=True)
class Written:
    """What a report has written: its files, those of the user's that it has left alone, and what these lack."""

    files: list[Path]
    kept: list[Path]
    not_included: list[str]


def write_report(out: Path, language: Language) -> Written:
    """Write the report on what is saved in OUT, without running anything again.

    Args:
        out: holds comparison.json, bench.json, folders training/NAME and experiments/NAME, or some of these.
        language: of texts and numbers.

    Returns:
        What was written: OUT/index.html, report.md, tables/NAME.csv, and the folder latex. Files of an earlier report
        that belong to nothing any more are removed. latex/report.tex and latex/references.bib are left alone where
        somebody has changed them.

    Raises:
        InputError: there is nothing saved, a file is damaged, or `out` cannot be written to.
    """
    out = Path(out)
    of = document(read_saved(out, language), language)
    pictures = picture_names(of, out)
    texts = {"index.html": html(of), "report.md": markdown(of, out)}
    texts |= {f"tables/{table.name}.csv": csv_text(table) for table in tables(of)}
    texts |= {f"{LATEX}/{name}": text for name, text in latex_files(of).items()}
    copies = {f"{LATEX}/{name}": file.read_bytes() for file, name in pictures.items()}
    yours = {f"{LATEX}/report.tex": skeleton(of, pictures), f"{LATEX}/references.bib": references()}
    new: dict[str, bytes] = {**{name: text.encode() for name, text in texts.items()}, **copies}
    kept = [name for name, text in yours.items() if _is_changed(out / name)]
    new |= {name: _marked(text) for name, text in yours.items() if name not in kept}
    names = {*new, *yours}
    _remove_stale(out, names)
    # The list first, so that the next report knows what a killed one has written.
    _write(out / WRITTEN, json.dumps(sorted(names), indent=1).encode() + b"\n")
    for name, content in new.items():
        _write(out / name, content)
    missing = _not_included(out / LATEX / "report.tex", texts) if f"{LATEX}/report.tex" in kept else []
    return Written([out / name for name in new], [out / name for name in kept], missing)


def _write(file: Path, content: bytes) -> None:
    make_folder(file.parent)
    with replacing(file) as temporary:
        temporary.write_bytes(content)


def _marked(text: str) -> bytes:
    """The text after a line with its digest."""
    return f"% twingrad {_digest(text)}\n{text}".encode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_changed(file: Path) -> bool:
    """Whether somebody has changed a file that was written with `_marked`, or written it himself."""
    if not file.exists():
        return False
    text = file.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
    found = _DIGEST.match(text)
    return found is None or found[1] != _digest(text[found.end() :])


def _remove_stale(out: Path, names: set[str]) -> None:
    """Remove what an earlier report has written and this one does not."""
    file = out / WRITTEN
    if not file.exists():
        return
    before = read_json(file)
    folders = ("tables/", f"{LATEX}/tables/", f"{LATEX}/figures/")
    for name in before:
        if name not in names and name.startswith(folders) and ".." not in name:
            remove(out / name)


def _not_included(report: Path, texts: Mapping[str, str]) -> list[str]:
    """The tables that the user's own report.tex does not \\input."""
    text = report.read_bytes().decode("utf-8", "replace")
    names = [Path(name).stem for name in texts if name.startswith(f"{LATEX}/tables/")]
    return [name for name in names if f"tables/{name}" not in text]
