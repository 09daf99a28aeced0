"""Tables as CSV: numbers as they were saved, in seconds and bytes, under the same names in every language."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from .document import Table, Value


def csv_text(table: Table) -> str:
    """The table as the text of a CSV file (RFC 4180, with \\n at the end of lines)."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(csv_head(table))
    for row in table.rows:
        cells = table.cells(row)
        writer.writerow([value for column, cell in cells for value in _values(cell.value, len(column.form.ends))])
    return file.getvalue()


def csv_head(table: Table) -> list[str]:
    """The names of the columns; a range has one for each of its ends."""
    return [name for column in table.columns for name in _names(column.key, column.form.ends)]


def _names(key: str, ends: tuple[str, ...]) -> list[str]:
    return [f"{key}_{end}" for end in ends] if ends else [key]


def _values(value: Value, ends: int) -> Iterator[str | int | float | None]:
    if isinstance(value, tuple):
        yield from value
    elif ends:
        yield from [None] * ends
    else:
        yield value
