"""The languages of a report: the texts of `texts.toml`, and how numbers are written among them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

from ..errors import InputError, one_of

LANGUAGES = ("en", "fr")
TEXTS = Path(__file__).with_name("texts.toml")
UNBROKEN = "\N{NO-BREAK SPACE}"
THIN = "\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True)
class Number:
    """A number as Python writes it: "1,234.5", "1.2e-15"."""

    text: str


@dataclass(frozen=True)
class Code:
    """A name of a program: a file, an array, a command."""

    text: str


Piece = str | Number | Code
Pieces = tuple[Piece, ...]
Given = str | int | float | Number | Code | Pieces


class Language:
    """The texts of one language, by key: `language("verdict.agree", checks=12)`.

    A text has places {name} for values; where it depends on a number it is a list of two, for one and for several.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._texts = _texts(name)

    def __call__(self, key: str, **values: Given) -> str:
        """The text with its values, as a plain line."""
        return self.plain(self.pieces(key, **values))

    def pieces(self, key: str, **values: Given) -> Pieces:
        """The text with its values, whose numbers and names of programs remain what they are."""
        text = self._texts[key]
        assert isinstance(text, str)
        return self._filled(text, values)

    def known(self, section: str, name: str) -> str:
        """What is called `name` in a section of the texts; the name itself where there is none."""
        return str(self._texts.get(f"{section}.{name}", name))

    def count(self, key: str, number: int) -> str:
        """So many things: "1 case", "2 cases"."""
        one, several = self._texts[key]
        return self.plain(self._filled(one if number == 1 else several, {"n": number}))

    def plain(self, pieces: Pieces) -> str:
        """Pieces as a line without any mark-up."""
        return "".join(self.number(one.text) if isinstance(one, Number) else _text(one) for one in pieces)

    def number(self, text: str) -> str:
        """A number, as Python writes it, with the marks of the language."""
        return text.translate({ord(","): THIN, ord("."): ","}) if self.name == "fr" else text

    def joined(self, names: Iterable[str]) -> str:
        """ "A", "A and B", "A, B and C"."""
        *first, last = names
        return f"{', '.join(first)} {self('word.and')} {last}" if first else last

    def _filled(self, text: str, values: Mapping[str, Given]) -> Pieces:
        found: list[Piece] = []
        for before, name, _, _ in Formatter().parse(text):
            found += [before] if before else []
            if name is not None:
                found += _as_pieces(values[name])
        return tuple(found)


def find_language(name: str) -> Language:
    """The language called "en" or "fr"; raises InputError for another one."""
    if name not in LANGUAGES:
        raise InputError("--lang", expected=one_of(LANGUAGES), found=repr(name))
    return Language(name)


def _as_pieces(value: Given) -> Pieces:
    match value:
        case tuple():
            return value
        case int():
            return (Number(f"{value:,d}"),)
        case float():
            return (Number(f"{value:g}"),)
        case _:
            return (value,)


def _text(piece: str | Code) -> str:
    return piece if isinstance(piece, str) else piece.text


@cache
def _texts(name: str) -> Mapping[str, Any]:
    """By key "table.entry" the texts of a language, with unbroken spaces where French wants them."""
    found = {}
    for section, entries in tomllib.loads(TEXTS.read_text("utf-8")).items():
        for key, languages in entries.items():
            text = languages[name]
            found[f"{section}.{key}"] = _spaced(text) if name == "fr" else text
    return found


def _spaced(text: str | list[str]) -> str | list[str]:
    if isinstance(text, list):
        return [str(_spaced(one)) for one in text]
    for mark in ":;!?%»":
        text = text.replace(f" {mark}", f"{UNBROKEN}{mark}")
    return text.replace("« ", f"«{UNBROKEN}")


ENGLISH = Language("en")
"""The language of figures, unless another one is wanted."""
