"""The page: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, console


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder with comparison.json and training/, and for the page.")] = Path(
        "report"
    ),
) -> None:
    """Draw the tables and figures of saved results: OUT/index.html."""
    from ..report.page import write_page

    console().print(f"{write_page(out)}", soft_wrap=True)
