"""The PDF of the LaTeX folder, where a LaTeX engine is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from ..files import replacing

SECONDS = 600.0
"""How long an engine may take; tectonic fetches packages at its first run."""
HOW_TO = "install TeX Live (latexmk) or tectonic, then say 'twingrad report' again, or give the folder to Overleaf"

_PDFLATEX = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
ENGINES: dict[str, list[list[str]]] = {
    "latexmk": [["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]],
    "tectonic": [["tectonic", "--keep-logs", "report.tex"]],
    "pdflatex": [_PDFLATEX, ["bibtex", "report"], _PDFLATEX, _PDFLATEX],
}
"""The commands that make report.pdf beside report.tex, by the program that must be installed; the first is taken."""


def write_pdf(latex: Path, file: Path) -> str:
    """Make the PDF of LATEX/report.tex.

    Args:
        latex: the folder; nothing is written to it.
        file: where the PDF goes.

    Returns:
        Why there is none, in one line; empty where there is one.
    """
    engine = next((name for name in ENGINES if shutil.which(name)), None)
    if engine is None:
        problem = f"no PDF, since no LaTeX is installed: {HOW_TO}"
    else:
        with tempfile.TemporaryDirectory(prefix="twingrad-") as folder:
            place = Path(folder) / "latex"
            shutil.copytree(latex, place)
            problem = _run(ENGINES[engine], place)
            if not problem:
                with replacing(file) as temporary:
                    shutil.copyfile(place / "report.pdf", temporary)
                return ""
        problem = f"no PDF: {engine} stopped at {latex / 'report.tex'}: {problem}"
    return f"{problem} ({file} is of an earlier report)" if file.exists() else problem


def _run(commands: list[list[str]], place: Path) -> str:
    """Run the commands in the folder; the first error, or nothing."""
    for command in commands:
        try:
            done = subprocess.run(command, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            return " ".join(str(error).split())
        if done.returncode and command[0] != "bibtex":
            return _first_error(place / "report.log", (done.stdout + done.stderr).decode("utf-8", "replace"))
    return "" if (place / "report.pdf").exists() else "it wrote no report.pdf"


def _first_error(log: Path, output: str) -> str:
    """The first line of LaTeX's log that tells an error, else the last line of what the program said."""
    lines = log.read_bytes().decode("utf-8", "replace").splitlines() if log.exists() else []
    errors = [line for line in [*lines, *output.splitlines()] if line.startswith(("! ", "error: "))]
    return errors[0] if errors else next((line for line in reversed(output.splitlines()) if line.strip()), "no message")
