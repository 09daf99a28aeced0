"""What a report says before it is HTML, Markdown, CSV or LaTeX: sections of paragraphs, tables and pictures.

Numbers stay numbers as long as possible: a column says by its form how its numbers are written, and each renderer
writes them as its format and the language want them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .language import Code, Language, Number, Pieces

Plain = str | int | float | None
Value = Plain | tuple[Plain, ...]


@dataclass(frozen=True)
class Form:
    """How the values of a column are written.

    Args:
        spec: how Python formats a number ("" writes texts as they are).
        scale: what numbers are multiplied by: 1e3 shows seconds as milliseconds.
        suffix: what follows a number.
        digits: so many significant digits, without an exponent, in place of `spec`.
        code: whether a text is a name of a program, in letters of equal width.
        wraps: whether a text may take several lines.
        ends: for ranges, what CSV adds to the names of the column for each of their two numbers.
    """

    spec: str = ""
    scale: float = 1.0
    suffix: str = ""
    digits: int = 0
    code: bool = False
    wraps: bool = False
    ends: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers."""
        return bool(self.spec or self.digits)

    def pieces(self, value: Value, language: Language) -> Pieces:
        """What is shown of a value; nothing of None."""
        if value is None or value == "":
            return ()
        if isinstance(value, tuple):
            low, high = (self.pieces(end, language) for end in value)
            return (*low, " – ", *high)
        if isinstance(value, str):
            return (Code(value),) if self.code else (value,)
        if not math.isfinite(value):
            return (language("error.incomparable"),)
        return (Number(self._number(value)), *((self.suffix,) if self.suffix else ()))

    def _number(self, value: float) -> str:
        shown = value if self.scale == 1.0 else value * self.scale
        return significant(shown, self.digits) if self.digits else format(shown, self.spec)


def significant(number: float, digits: int) -> str:
    """The number in so many significant digits, all of its whole digits, and powers of ten only if they are many.

    >>> significant(0.012345, 3), significant(12345.6, 3), significant(1.2e-7, 3)
    ('0.0123', '12,346', '1.20e-07')
    """
    if number == 0.0:
        return "0"
    if not 1e-4 <= abs(number) < 1e7:
        return format(number, f".{digits - 1}e")
    rounded = float(format(number, f".{digits - 1}e"))
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return format(number, f",.{max(places, 0)}f")


class _Duration(Form):
    """Seconds in words: "1.2 s", "5 min", "1 h 02 min"."""

    def pieces(self, value: Value, language: Language) -> Pieces:
        """What is shown of a number of seconds."""
        if not isinstance(value, int | float):
            return super().pieces(value, language)
        if value < 60.0:
            return (Number(f"{value:.1f}"), " s")
        minutes = round(value / 60.0)
        if minutes < 60:
            return (f"{minutes} min",)
        return (f"{minutes // 60} h {minutes % 60:02d} min",)


class _Error(Form):
    """An error in two digits; an exact zero as "0"."""

    def _number(self, value: float) -> str:
        return format(value, ".1e") if value else "0"


TEXT = Form()
LONG = Form(wraps=True)
CODE = Form(code=True)
COUNT = Form(",d")
ERROR = _Error(".1e")
BOUND = Form(".0e")
DURATION = _Duration(".1f")
THREE = Form(digits=3)
MILLISECONDS = Form(digits=3, scale=1e3)
MEBIBYTES = Form(digits=3, scale=2.0**-20)
BILLIONS = Form(digits=3, scale=1e-9)
PERCENT = Form(".2f", scale=100.0, suffix=" %")
WHOLE_PERCENT = Form(".0f", scale=100.0, suffix=" %")


def ranges(form: Form, ends: tuple[str, str] = ("low", "high")) -> Form:
    """The form of a column whose values are (low, high)."""
    return Form(form.spec, form.scale, form.suffix, form.digits, ends=ends)


@dataclass(frozen=True)
class Cell:
    """A value with what is to be said about it: that it is out of its bounds, or a remark behind it."""

    value: Value
    fails: bool = False
    remark: str | Pieces = ""


@dataclass(frozen=True)
class Column:
    """A column: its name in CSV files with the unit of what is stored, its head, and what stands above several heads.

    The first column of a table names its rows.
    """

    key: str
    head: str
    form: Form = TEXT
    group: str = ""


Row = Sequence[Value | Cell]


@dataclass(frozen=True)
class Table:
    """A table: the name of its files, what it shows, and a note on where, by what, when and how it was measured."""

    name: str
    caption: str | Pieces
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: Pieces = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.name}: {len(row)} cells in a row of {len(self.columns)} columns")

    def cells(self, row: Row) -> list[tuple[Column, Cell]]:
        """The cells of a row with their columns."""
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        return list(zip(self.columns, cells, strict=True))

    def groups(self) -> list[tuple[str, int]]:
        """What stands above the heads, and over how many columns each; all of them empty where nothing does."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and column.group and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found


def without_empty(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[list[Column], list[Row]]:
    """The columns that have a value in some row (all where there is no row), and the rows without the others."""
    kept = [place for place in range(len(columns)) if not rows or any(_has_value(row[place]) for row in rows)]
    return [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _has_value(entry: Value | Cell) -> bool:
    return (entry.value if isinstance(entry, Cell) else entry) is not None


def shown(column: Column, cell: Cell, language: Language) -> Pieces:
    """What a cell shows; a dash where there is nothing."""
    pieces = column.form.pieces(cell.value, language) or ("–",)
    if not cell.remark:
        return pieces
    return (*pieces, " ", *((cell.remark,) if isinstance(cell.remark, str) else cell.remark))


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `soft` where it says less than the others."""

    pieces: Pieces
    soft: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture in a PNG file, with a sentence below, and with words for those who do not see it."""

    file: Path
    caption: str
    alt: str


@dataclass(frozen=True)
class Listing:
    """A text as it is, with a title above and a remark below."""

    title: str
    text: str
    remark: str = ""


@dataclass(frozen=True)
class Listings:
    """Texts beside each other."""

    items: Sequence[Listing]


@dataclass(frozen=True)
class Problems:
    """Messages about what went wrong; those that are not `serious` are to be known."""

    messages: Sequence[str]
    serious: bool = True


@dataclass(frozen=True)
class Fold:
    """Parts that are hidden behind a line until the reader opens them."""

    title: str
    summary: str
    parts: Sequence[Part]
    opened: bool = False


@dataclass(frozen=True)
class Section:
    """A section. Those at the top have an anchor and stand in the table of contents as `short`.

    `detail` says that a printed article has it in its appendix.
    """

    title: str
    parts: Sequence[Part]
    anchor: str
    short: str = ""
    detail: bool = False


Part = Paragraph | Table | Picture | Listings | Problems | Fold | Section


@dataclass(frozen=True)
class Verdict:
    """The first thing to read: its state ("agree", "disagree", "nothing", ""), a word, and sentences."""

    state: str
    word: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Document:
    """A report."""

    language: Language
    title: str
    verdict: Verdict
    sections: Sequence[Section]
    footer: Pieces


def parts_of(parts: Sequence[Part]) -> list[Part]:
    """All parts, those inside others after the one that they are in."""
    found: list[Part] = []
    for part in parts:
        found.append(part)
        if isinstance(part, Section | Fold):
            found += parts_of(part.parts)
    return found


def tables(document: Document) -> list[Table]:
    """All tables of a report, in its order; raises ValueError where two have one name."""
    found = [part for part in parts_of(document.sections) if isinstance(part, Table)]
    names: Mapping[str, Table] = {table.name: table for table in found}
    if len(names) < len(found):
        raise ValueError("two tables of one name")
    return found


def pictures(document: Document) -> list[Picture]:
    """All pictures of a report, in its order."""
    return [part for part in parts_of(document.sections) if isinstance(part, Picture)]
