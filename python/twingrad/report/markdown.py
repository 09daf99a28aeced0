"""A report as Markdown, in the dialect of GitHub and GitLab: tables in pipes, pictures by their paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from .document import Document, Fold, Listings, Paragraph, Part, Picture, Problems, Section, Table, shown
from .language import Code, Language, Number, Pieces

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def markdown(document: Document, folder: Path) -> str:
    """The report as the text of a file in `folder`, from where the pictures' paths start."""
    language = document.language
    lines = [f"# {escape(document.title)}", f"**{escape(document.verdict.word)}**"]
    lines += [escape(sentence) for sentence in document.verdict.sentences]
    for section in document.sections:
        lines += _blocks(section, 2, language, folder)
    return "\n\n".join([*lines, "---", inline(document.footer, language)]) + "\n"


def escape(text: str) -> str:
    """A text in one line whose characters mean nothing to Markdown."""
    plain = _escaped(text)
    plain = re.sub(r"^(\s*)([-+])(?=\s)", r"\1\\\2", plain)
    return re.sub(r"^(\s*\d+)([.)])(?=\s)", r"\1\\\2", plain)


def inline(pieces: str | Pieces, language: Language) -> str:
    """Pieces with the marks of Markdown."""
    if isinstance(pieces, str):
        return escape(pieces)
    return "".join(_piece(piece, language) for piece in pieces)


def _escaped(text: str) -> str:
    plain = _SPECIAL.sub(r"\\\1", " ".join(text.splitlines()))
    return plain.replace("&", "&amp;")


def _piece(piece: str | Number | Code, language: Language) -> str:
    match piece:
        case Number(text):
            return language.number(text)
        case Code(text):
            return _code(text)
        case str():
            return _escaped(piece)


def _code(text: str) -> str:
    """A text between more backticks than it has in a row."""
    text = " ".join(text.splitlines())
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    mark, space = "`" * (longest + 1), " " if text.startswith("`") or text.endswith("`") else ""
    return f"{mark}{space}{text}{space}{mark}"


def _blocks(part: Part, level: int, language: Language, folder: Path) -> Iterator[str]:
    match part:
        case Section():
            yield f"{'#' * min(level, 6)} {escape(part.title)}"
            for inner in part.parts:
                yield from _blocks(inner, level + 1, language, folder)
        case Fold():
            yield f"{'#' * min(level, 6)} {escape(part.title)}"
            yield escape(part.summary)
            for inner in part.parts:
                yield from _blocks(inner, level + 1, language, folder)
        case Paragraph():
            yield inline(part.pieces, language)
        case Table():
            yield from table_blocks(part, language)
        case Picture():
            yield f"![{escape(part.alt)}]({_path(part.file, folder)})"
            yield f"*{escape(part.caption)}*"
        case Listings():
            for item in part.items:
                yield f"**{escape(item.title)}**"
                yield _fenced(item.text)
                if item.remark:
                    yield escape(item.remark)
        case Problems():
            mark = "✗ " if part.serious else ""
            yield "\n".join(f"- {mark}{escape(message)}" for message in part.messages)


def table_blocks(table: Table, language: Language) -> Iterator[str]:
    """Caption, table and note, each a block."""
    yield f"**{inline(table.caption, language)}**"
    heads = [f"{column.group}: {column.head}" if column.group else column.head for column in table.columns]
    rules = ["---:" if column.form.numeric else ":---" for column in table.columns]
    yield "\n".join([_row([escape(head) for head in heads]), _row(rules), *_rows(table, language)])
    if table.note:
        yield inline(table.note, language)


def _rows(table: Table, language: Language) -> Iterator[str]:
    for row in table.rows:
        cells = []
        for column, cell in table.cells(row):
            text = "".join(_in_table(piece, language) for piece in shown(column, cell, language))
            cells.append(f"**✗ {text}**" if cell.fails else text)
        yield _row(cells)


def _in_table(piece: str | Number | Code, language: Language) -> str:
    """A piece where a pipe would end the cell, between backticks too."""
    written = _piece(piece, language)
    return written.replace("|", r"\|") if isinstance(piece, Code) else written


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _path(file: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(file, folder)).as_posix())


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
