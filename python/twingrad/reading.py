"""Files as a side reads them: a digest of everything that was read, which both languages compute alike.

The same file on the Julia side is `julia/src/reading.jl`. The audit of broken files asks for it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .bench.saved import read_bench
from .data.images import open_images
from .data.text import open_corpus
from .errors import InputError, one_of
from .format import hdf5, read_case, read_checkpoint, read_recorded, read_result, read_training
from .report.classified import read_classified
from .report.comparison_file import read_comparison
from .report.experiment_files import Attack, Degradation, Flow, Orders, Paper, read_experiment

Values = Mapping[str, Any]


def read_digest(kind: str, file: Path, folder: Path) -> str:
    """SHA-256 over what is in a file of that kind.

    Args:
        kind: a name in `READERS`.
        file: the file; for images and for `classified` the folder that they are in.
        folder: where the tokens of a text and the bytes of images are kept.

    Raises InputError where the file is not as it must be, or the kind is unknown.
    """
    if kind not in READERS:
        raise InputError("kind", expected=one_of(READERS), found=repr(kind))
    return READERS[kind](file, folder)


def _case(file: Path, _: Path) -> str:
    case = read_case(file)
    return hdf5.digest(
        [("digest", case.digest)], {f"oracle/{path}": array for path, array in (case.oracle or {}).items()}
    )


def _result(file: Path, _: Path) -> str:
    found = read_result(file)
    return _digest(
        {name: getattr(found, name) for name in ("case", "case_digest", "versions", "created")}, found.arrays
    )


def _recorded(file: Path, _: Path) -> str:
    found = read_recorded(file)
    values = {name: getattr(found, name) for name in ("side", "versions", "source_digest", "created")}
    values["cases"] = {name: result.case_digest for name, result in found.results.items()}
    arrays = {f"{name}/{path}": array for name, one in found.results.items() for path, array in one.arrays.items()}
    return _digest(values, arrays)


def _training(file: Path, _: Path) -> str:
    found = read_training(file)
    names = ("side", "versions", "settings", "iteration", "step_constant", "status")
    groups = ("params", "initial", "history", "picture")
    arrays = {f"{group}/{name}": array for group in groups for name, array in getattr(found, group).items()}
    return _digest({name: getattr(found, name) for name in names}, arrays)


def _checkpoint(file: Path, _: Path) -> str:
    found = read_checkpoint(file)
    names = ("model", "data", "side", "dtype", "versions", "settings", "iteration", "status")
    groups = ("params", "first_moment", "second_moment", "history")
    arrays = {f"{group}/{name}": array for group in groups for name, array in getattr(found, group).items()}
    values = {name: getattr(found, name) for name in names}
    return _digest({**values, "config": found.config.model_dump(mode="json")}, arrays)


def _images(file: Path, folder: Path) -> str:
    found = open_images(file, folder)
    sha = hashlib.sha256(f"{found.kind.name}\n{found.images.shape}\n{found.train}\n{found.digest}\n".encode())
    sha.update(found.images.tobytes())
    sha.update(found.labels.tobytes())
    return sha.hexdigest()


def _text(tokenizer: str, file: Path, folder: Path) -> str:
    found = open_corpus(file, tokenizer, folder)
    sha = hashlib.sha256(f"{found.tokenizer.vocab}\n{found.tokens.size}\n{found.digest}\n".encode())
    sha.update(getattr(found.tokenizer, "characters", "").encode())
    sha.update(found.tokens.tobytes())
    return sha.hexdigest()


def _json(read: Callable[[Path], Any], file: Path, _: Path) -> str:
    return hashlib.sha256(repr(read(file)).encode("utf-8", "surrogatepass")).hexdigest()


def _digest(values: Values, arrays: Mapping[str, Any]) -> str:
    return hdf5.digest([("values", _as_text(dict(values)))], arrays)


def _as_text(value: Any) -> str:
    """A value of JSON as text that no other value has: entries in order, floating-point numbers by their bits."""
    match value:
        case None | bool():
            return {None: "null", False: "false", True: "true"}[value]
        case str():
            return f"{len(value.encode())}:{value}"
        case float():
            return "#" + struct.pack(">d", value).hex()
        case dict():
            entries = sorted(value.items(), key=lambda entry: entry[0].encode())
            return "{" + ",".join(f"{_as_text(name)}={_as_text(entry)}" for name, entry in entries) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_as_text, value)) + "]"
        case _:
            return str(int(value))


READERS: dict[str, Callable[[Path, Path], str]] = {
    "case": _case,
    "result": _result,
    "recorded": _recorded,
    "training": _training,
    "checkpoint": _checkpoint,
    "images": _images,
    "char": partial(_text, "char"),
    "byte": partial(_text, "byte"),
    "comparison": partial(_json, read_comparison),
    "bench": partial(_json, read_bench),
    "convergence": partial(_json, partial(read_experiment, kind=Orders)),
    "degradation": partial(_json, partial(read_experiment, kind=Degradation)),
    "attack": partial(_json, partial(read_experiment, kind=Attack)),
    "paper": partial(_json, partial(read_experiment, kind=Paper)),
    "flow": partial(_json, partial(read_experiment, kind=Flow)),
    "classified": partial(_json, read_classified),
}
