"""The report: page, tables, LaTeX and PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, at_work_on, console


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder with what is saved, and for the report.")] = Path("report"),
    lang: Annotated[str, typer.Option(help="Language of texts and numbers: en or fr.")] = "en",
    pdf: Annotated[bool, typer.Option(help="Make report.pdf where a LaTeX is installed.")] = True,
) -> None:
    """Write the report on what is saved in OUT, without running anything again.

    Reads comparison.json, bench*.json, training/NAME and experiments/NAME; writes index.html, report.md, tables/*.csv
    and latex/.
    """
    from ..report.language import find_language
    from ..report.pdf import write_pdf
    from ..report.write import LATEX, write_report

    with at_work_on(out / "report"):
        written = write_report(out, find_language(lang))
        tables = sum(file.suffix == ".csv" for file in written.files)
        lines = [
            f"{out / 'index.html'}",
            f"{out / 'report.md'}",
            f"{out / 'tables'}: {tables} tables",
            f"{out / LATEX}",
        ]
        lines += [f"{file} has been changed by you and is kept; remove it to get a new one" for file in written.kept]
        if written.not_included:
            lines.append(f"it does not input {', '.join(f'tables/{name}' for name in written.not_included)}")
        if pdf:
            file = out / "report.pdf"
            lines.append(write_pdf(out / LATEX, file) or f"{file}")
    for line in lines:
        console().print(line, soft_wrap=True, markup=False)
