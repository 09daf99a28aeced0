"""Settings and documents checked by pydantic, with errors as TwinGrad tells them: expected, found."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def validate(kind: type[Model], values: Any, where: str) -> Model:
    """`values` as a model of the given kind; raises InputError naming `where` and the first wrong entry."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
    entry = ".".join(str(key) for key in first["loc"])
    place = f"{where}, {entry}" if entry else where
    context = first.get("ctx", {})
    match first["type"]:
        case "missing":
            expected, found = "this entry", "nothing"
        case "extra_forbidden":
            known = ", ".join(kind.model_fields) if len(first["loc"]) == 1 else "the documented entries"
            expected, found = f"only {known}", repr(entry)
        case "literal_error":
            several = " or " in context["expected"]
            expected, found = f"{'one of ' if several else ''}{context['expected']}", repr(first["input"])
        case "value_error":
            expected, found = "entries that go together", str(context["error"])
        case _:
            expected, found = first["msg"], repr(first["input"])[:60]
    raise InputError(place, expected=expected, found=found)
