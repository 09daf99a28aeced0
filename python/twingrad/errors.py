"""The one exception that users see: what was expected, what was found, what to do."""

from __future__ import annotations


class InputError(Exception):
    """Something given to TwinGrad is not usable: a file, an option, a missing program.

    Args:
        where: the file, option or program, followed by the entry inside it where there is one.
        expected: what would have been right.
        found: what was there.
        hint: what the user can do about it; may be empty.
    """

    def __init__(self, where: str, *, expected: str, found: str, hint: str = "") -> None:
        self.where, self.expected, self.found, self.hint = where, expected, found, hint
        super().__init__(where, expected, found, hint)

    def __str__(self) -> str:
        text = f"{self.where}: expected {self.expected}, found {self.found}"
        return f"{text}. {self.hint}" if self.hint else text


class SideError(Exception):
    """A side's worker failed at a request: it reported an error, died, hung or broke the protocol."""


class Interrupted(Exception):  # noqa: N818  (it is no error)
    """The user interrupted a request; the worker was stopped."""


def one_of(names: object) -> str:
    """Text for "one of these names", in the order given."""
    return "one of " + ", ".join(str(name) for name in names)  # type: ignore[attr-defined]
