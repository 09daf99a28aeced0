"""The programs in the tutorial's pages, and what they print.

`python tests/tutorial_pages.py` runs the Python programs and renews outputs and pictures in docs/tutorial/.

Programs stand in fenced blocks of `python` and `julia`; blocks with nothing but blank lines between them make a group.
A `text` block that ends a group is what each program of it prints; without one they print nothing.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "tutorial"
PAGES = {language: FOLDER / f"{language}.md" for language in ("en", "fr")}
PICTURES = ("flow.png", "loss.png", "attention.png")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Group:
    """Programs by language, the line that each starts in, and what they print, which stands at `place` in the page."""

    programs: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    output: str = ""
    place: tuple[int, int] | None = None


def groups(page: str) -> list[Group]:
    """The groups of a page, in order."""
    found: list[Group] = []
    end = 0
    for fence in FENCE.finditer(page):
        kind, adjacent = fence[1], not page[end : fence.start()].strip()
        end = fence.end()
        line = page.count("\n", 0, fence.start()) + 2
        if kind == "text":
            if not (found and adjacent and found[-1].place is None):
                raise ValueError(f"line {line}: an output without a program above it")
            found[-1].output, found[-1].place = fence[2], fence.span(2)
        elif kind in ("python", "julia"):
            if not (found and adjacent and found[-1].place is None and kind not in found[-1].programs):
                found.append(Group())
            found[-1].programs[kind], found[-1].lines[kind] = fence[2], line
    return found


def printed(parts: list[Group], page: Path) -> Iterator[str]:
    """What the Python program of each group prints, run in order in one namespace and in the working directory."""
    namespace: dict[str, object] = {"__name__": "tutorial"}
    for group in parts:
        out = io.StringIO()
        if "python" in group.programs:
            code = "\n" * (group.lines["python"] - 1) + group.programs["python"]
            with redirect_stdout(out):
                exec(compile(code, str(page), "exec", dont_inherit=True), namespace)
        yield out.getvalue()


def renew() -> None:
    """Write the outputs of the English page's programs into both pages, and the pictures beside them."""
    with tempfile.TemporaryDirectory() as folder:
        with chdir(folder):
            outputs = list(printed(groups(PAGES["en"].read_text("utf-8")), PAGES["en"]))
        for picture in PICTURES:
            shutil.copy(Path(folder) / picture, FOLDER / picture)
    for page in PAGES.values():
        if not page.exists():
            continue
        text = page.read_text("utf-8")
        for group, output in reversed(list(zip(groups(text), outputs, strict=True))):
            if group.place and "python" in group.programs:
                text = text[: group.place[0]] + output + text[group.place[1] :]
        page.write_text(text, "utf-8")


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    renew()
