"""A report as one HTML file that needs no other one."""

from __future__ import annotations

import base64
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from .document import (
    Cell,
    Column,
    Document,
    Fold,
    Form,
    Listings,
    Paragraph,
    Part,
    Picture,
    Problems,
    Section,
    Table,
    shown,
)
from .language import Code, Language, Number, Pieces

TEMPLATE = "page.html.jinja"
LONG_TEXT = 20
"""A longer text in a table may take several lines."""
KINDS: dict[type[Part], str] = {
    Paragraph: "paragraph",
    Table: "table",
    Picture: "picture",
    Listings: "listings",
    Problems: "problems",
    Fold: "fold",
    Section: "section",
}


def html(document: Document) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    language = document.language
    environment.filters["pieces"] = lambda pieces: inline(pieces, language)
    environment.filters["cell"] = lambda entry: _cell(entry[0], entry[1], language)
    environment.filters["cell_class"] = lambda entry: _attribute(_cell_class(*entry))
    environment.filters["head_class"] = lambda column: _attribute(_head_class(column.form))
    environment.filters["kind"] = lambda part: KINDS[type(part)]
    environment.filters["data"] = _data
    return environment.get_template(TEMPLATE).render(document=document, text=language)


def inline(pieces: str | Pieces, language: Language) -> Markup:
    """Pieces with the mark-up of HTML."""
    if isinstance(pieces, str):
        return escape(pieces)
    found = Markup()
    for piece in pieces:
        match piece:
            case Number(text):
                found += escape(language.number(text))
            case Code(text):
                found += Markup("<code>{}</code>").format(text)
            case str():
                found += escape(piece)
    return found


def _cell(column: Column, cell: Cell, language: Language) -> Markup:
    text = inline(shown(column, cell, language), language)
    return Markup("✗ {}").format(text) if cell.fails else text


def _attribute(classes: str) -> Markup:
    return Markup(' class="{}"').format(classes) if classes else Markup()


def _cell_class(column: Column, cell: Cell) -> str:
    classes = []
    if column.form.numeric:
        classes.append("number")
    elif column.form.wraps and isinstance(cell.value, str) and len(cell.value) > LONG_TEXT:
        classes.append("long" if len(cell.value) > 3 * LONG_TEXT else "text")
    return " ".join(classes + ["fails"] * cell.fails)


def _head_class(form: Form) -> str:
    return "number short" if form.numeric else "text" if form.wraps else ""


def _data(picture: Picture) -> str:
    """The picture itself, as the source of an image."""
    return f"data:image/png;base64,{base64.b64encode(picture.file.read_bytes()).decode()}"
