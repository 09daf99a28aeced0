"""HDF5 files as plain data: attributes and arrays, strictly read, atomically written, with digests.

What the files hold is described in `shared_fixtures/FORMAT.md`; the same file on the Julia side is
`julia/src/format/hdf5.jl`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import mmap
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import InputError
from ..files import reading, replacing
from ..specs import Array, Arrays

FORMAT_VERSION = 1
NAME = re.compile(r"[A-Za-z0-9_.\-]+")
DTYPES = {"float64": "<f8", "float32": "<f4", "int64": "<i8"}
MOST_PACKED = 1032
"""How many bytes a byte of a file can stand for at most: those of gzip's best packing."""
MOST_DIGITS = 20
"""Digits and sign of the longest integer of 64 bits."""
HEAP = b"GCOL\x01\0\0\0"
"""How a heap of text of variable length begins ("Global Heap" in the HDF5 File Format Specification)."""
HEAP_HEAD = struct.Struct("<8sQ")
HEAP_OBJECT = struct.Struct("<HHIQ")

Attribute = str | int | float
Attributes = dict[str, Attribute]


@dataclass(frozen=True)
class Contents:
    """What a file holds: root attributes, attributes of groups by path, arrays by path (no leading slash)."""

    path: Path
    attributes: Attributes
    group_attributes: dict[str, Attributes]
    arrays: Arrays

    def text(self, name: str) -> str:
        """A root attribute that must be text."""
        value = self._attribute(name, "text")
        if not isinstance(value, str):
            raise InputError(f"{self.path}, attribute {name}", expected="text", found=repr(value)[:60])
        return value

    def integer(self, name: str) -> int:
        """A root attribute that must be an integer."""
        value = self._attribute(name, "an integer")
        if not isinstance(value, int):
            raise InputError(f"{self.path}, attribute {name}", expected="an integer", found=repr(value)[:60])
        return value

    def number(self, name: str) -> float:
        """A root attribute that must be a floating-point number."""
        value = self._attribute(name, "a number")
        if not isinstance(value, float):
            raise InputError(f"{self.path}, attribute {name}", expected="a number", found=repr(value)[:60])
        return value

    def json_object(self, name: str) -> dict[str, Any]:
        """A root attribute that must be the text of a JSON object."""
        where = f"{self.path}, attribute {name}"
        text = self.text(name)
        value = parse_json(text, where)
        if not isinstance(value, dict):
            raise InputError(where, expected="a JSON object", found=repr(text[:60]))
        return value

    def _attribute(self, name: str, kind: str) -> Attribute:
        if name not in self.attributes:
            raise InputError(f"{self.path}, attribute {name}", expected=kind, found="no such attribute")
        return self.attributes[name]

    def below(self, group: str) -> Arrays:
        """The arrays under a group, by their path inside it."""
        prefix = group + "/"
        return {path[len(prefix) :]: array for path, array in self.arrays.items() if path.startswith(prefix)}

    def check_names(self, *, required: Iterable[str], optional: Iterable[str], groups: Iterable[str]) -> None:
        """Refuse missing and extra attributes, and arrays outside `groups` (or exactly named there)."""
        required, groups = list(required), list(groups)
        for name in required:
            self._attribute(name, "this attribute")
        for name in self.attributes.keys() - {*required, *optional}:
            found = "an extra attribute"
            raise InputError(f"{self.path}, attribute {name}", expected=f"only {', '.join(required)}", found=found)
        for path in self.arrays:
            if path not in groups and not any(path.startswith(group + "/") for group in groups):
                expected = f"only {', '.join('/' + group for group in groups)}"
                raise InputError(f"{self.path}, /{path}", expected=expected, found="an extra entry")


def read(path: Path, format_name: str) -> Contents:
    """Read a whole file of the given format, version 1; raises InputError naming file and entry."""
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), expected=f"a file of format {format_name}", found="no such file")
    contents = Contents(path, {}, {}, {})
    check_heaps(path)
    try:
        with h5py.File(path, "r") as file:
            contents.attributes.update(_read_attributes(file, str(path)))
            _check_format(contents, format_name)
            _read_group(file, "", contents)
    except InputError:
        raise
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError, ValueError ... on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            str(path), expected="a whole HDF5 file", found=f"a damaged or foreign one ({reason})"
        ) from None
    return contents


def format_of(path: Path) -> str:
    """What a file says of its format, without reading the rest; empty where it says nothing, or cannot be read."""
    try:
        with h5py.File(path, "r") as file:
            value = file.attrs.get("format", "")
    except OSError:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _check_format(contents: Contents, format_name: str) -> None:
    if (found := contents.text("format")) != format_name:
        raise InputError(f"{contents.path}, attribute format", expected=repr(format_name), found=repr(found))
    if (version := contents.integer("format_version")) != FORMAT_VERSION:
        where = f"{contents.path}, attribute format_version"
        raise InputError(where, expected=str(FORMAT_VERSION), found=str(version))


def _read_group(group: Any, prefix: str, contents: Contents) -> None:
    for name in group:
        path = prefix + name
        place = f"{contents.path}, /{path}"
        if NAME.fullmatch(name) is None or name in (".", ".."):
            raise InputError(place, expected="a name of A-Z a-z 0-9 _ . -", found=repr(name))
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InputError(place, expected="data stored in the file", found="a link")
        item = group[name]
        if isinstance(item, h5py.Group):
            if h5py.h5o.get_info(item.id).rc > 1:
                raise InputError(place, expected="groups of one name each", found="a group with several")
            contents.group_attributes[path] = _read_attributes(item, place)
            _read_group(item, path + "/", contents)
        else:
            contents.arrays[path] = _read_array(item, place)


def _read_array(item: Any, place: str) -> Array:
    if not isinstance(item, h5py.Dataset) or item.shape is None or item.external or item.is_virtual:
        raise InputError(place, expected="an array stored in the file", found=type(item).__name__)
    if item.dtype.newbyteorder("<") not in [np.dtype(code) for code in DTYPES.values()]:
        raise InputError(place, expected=f"dtype {', '.join(DTYPES)}", found=f"dtype {item.dtype}")
    if item.dtype.byteorder == ">":
        raise InputError(place, expected="little-endian numbers", found="big-endian ones")
    if item.nbytes > MOST_PACKED * Path(item.file.filename).stat().st_size:
        raise InputError(
            place, expected="numbers stored in the file", found=f"a shape {item.shape} that it cannot hold"
        )
    array = np.asarray(item[()])
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(place, expected="finite numbers", found=f"{array[index]} at index {index}")
    return array


def _read_attributes(item: Any, place: str) -> Attributes:
    attributes: Attributes = {}
    for name, value in item.attrs.items():
        where = f"{place}, attribute {name}"
        if NAME.fullmatch(name) is None:
            raise InputError(f"{place}, attribute {name!r}", expected="a name of A-Z a-z 0-9 _ . -", found="another")
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bytes):
            value = value.decode("utf-8", "surrogateescape")
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise InputError(where, expected="text or a number", found=type(value).__name__)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise InputError(where, expected="an integer of 64 bits", found=str(value))
        if isinstance(value, str) and not _is_unicode(value):
            raise InputError(where, expected="UTF-8 text", found="other bytes")
        attributes[name] = value
    return attributes


def _is_unicode(text: str) -> bool:
    """Whether the text can be written in UTF-8: it holds no half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_json(text: str, where: str) -> Any:
    """What a JSON text says; raises InputError, naming `where`, where it is none.

    Also refused is what the two languages would not read alike: NaN and infinities, integers of more than 64 bits,
    halves of characters, lists in lists without end.
    """
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InputError(where, expected="a JSON object", found=f"{text[:60]!r} ({error})") from None
    return value


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= MOST_DIGITS else None
    if value is None or not -(2**63) <= value < 2**63:
        raise ValueError(f"{digits[:MOST_DIGITS]} has more than 64 bits")
    return value


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits[:MOST_DIGITS]} is not finite")
    return value


def check_heaps(path: Path) -> None:
    """Refuse a file whose heaps of text of variable length are damaged; raises InputError.

    They alone carry no checksum in a file of HDF5 1.8 or later, and some versions of the HDF5 library never return from
    a heap whose sizes are wrong. Files written by TwinGrad have none; those of other programs, and older ones, may.
    """
    with reading(path), path.open("rb") as file:
        if path.stat().st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            place = data.find(HEAP)
            while place >= 0:
                if not _is_heap(data, place):
                    found = f"a damaged or foreign one (the heap at byte {place})"
                    raise InputError(str(path), expected="a whole HDF5 file", found=found)
                place = data.find(HEAP, place + len(HEAP))


def _is_heap(data: mmap.mmap, start: int) -> bool:
    """Whether the sizes in a heap fit: a head (signature, version, size), then objects, each behind its own head."""
    if start + HEAP_HEAD.size > len(data):
        return False
    _, size = HEAP_HEAD.unpack_from(data, start)
    place, end = start + HEAP_HEAD.size, start + size
    if end > len(data) or place > end:
        return False
    while place + HEAP_OBJECT.size <= end:
        number, _, _, length = HEAP_OBJECT.unpack_from(data, place)
        whole = HEAP_OBJECT.size + -(-length // 8) * 8 if number else length  # object 0 is what is free, head included
        if not HEAP_OBJECT.size <= whole <= end - place:
            return False
        place += whole
    return True


def write(
    path: Path,
    attributes: Mapping[str, Attribute],
    arrays: Mapping[str, Array],
    group_attributes: Mapping[str, Mapping[str, Attribute]] | None = None,
) -> None:
    """Write a file under a temporary name beside `path`, then rename it: `path` is never half written.

    It is made in memory first: where the HDF5 library meets a full disk itself, Python crashes at its end. All that
    describes the arrays is under HDF5's own checksums: the format of HDF5 1.8, and text of fixed length.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=("v108", "v108")) as file:
        for name, value in attributes.items():
            _write_attribute(file, name, value)
        for group, values in (group_attributes or {}).items():
            for name, value in values.items():
                _write_attribute(file.require_group(group), name, value)
        for name, array in arrays.items():
            file[name] = np.asarray(array, dtype=DTYPES[str(array.dtype)])
    with replacing(path) as temporary, temporary.open("wb") as output:
        output.write(memory.getbuffer())


def _write_attribute(item: Any, name: str, value: Attribute) -> None:
    if not isinstance(value, str):
        item.attrs[name] = value
        return
    data = value.encode()
    item.attrs.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", max(len(data), 1)))


def read_sealed(path: Path, format_name: str, covered: Iterable[str], groups: Iterable[str]) -> Contents:
    """Read a file whose digest covers format, version, the `covered` attributes, and everything in `groups`.

    A recording's digest covers the cases' digests too (FORMAT.md, "Digests").
    """
    contents, names = read(path, format_name), ("format", "format_version", *covered)
    contents.check_names(required=(*names, "digest"), optional=(), groups=groups)
    values = [(name, contents.attributes[name]) for name in names]
    check_digest(contents, "digest", digest(values, contents.arrays, _tail(contents.group_attributes)))
    return contents


def write_sealed(
    path: Path,
    format_name: str,
    covered: Mapping[str, Attribute],
    arrays: Arrays,
    group_attributes: Mapping[str, Mapping[str, Attribute]] | None = None,
) -> None:
    """Write a file with such a digest."""
    attributes = {"format": format_name, "format_version": FORMAT_VERSION, **covered}
    attributes["digest"] = digest(attributes.items(), arrays, _tail(group_attributes or {}))
    write(path, attributes, arrays, group_attributes)


def case_digests(group_attributes: Mapping[str, Mapping[str, Attribute]]) -> dict[str, str]:
    """The digests of the cases in a recording, by the cases' names."""
    return {
        path.removeprefix("cases/"): str(attributes.get("case_digest", ""))
        for path, attributes in group_attributes.items()
        if path.startswith("cases/") and path.count("/") == 1
    }


def _tail(group_attributes: Mapping[str, Mapping[str, Attribute]]) -> str:
    digests = case_digests(group_attributes)
    return "".join(f"{case}={digests[case]}\n" for case in sorted(digests, key=str.encode))


def digest(attributes: Iterable[tuple[str, Attribute]], arrays: Mapping[str, Array], tail: str = "") -> str:
    """The SHA-256 that FORMAT.md defines over attributes (in the order given), arrays and a tail."""
    sha = hashlib.sha256()
    for name, value in attributes:
        text = struct.pack(">d", value).hex() if isinstance(value, float) else str(value)
        sha.update(f"{name}={text}\n".encode())
    for path in sorted(arrays, key=str.encode):
        array = arrays[path]
        dims = ",".join(str(dim) for dim in array.shape)
        sha.update(f"/{path}\0{array.dtype}\0{dims}\0".encode())
        sha.update(np.ascontiguousarray(array, dtype=DTYPES[str(array.dtype)]).tobytes())
    sha.update(tail.encode())
    return sha.hexdigest()


def check_digest(contents: Contents, name: str, expected: str) -> None:
    """Refuse a file whose digest attribute `name` is not the computed value `expected`."""
    if (found := contents.text(name)) != expected:
        raise InputError(
            f"{contents.path}, attribute {name}",
            expected=expected,
            found=found,
            hint="The contents were changed after the digest was made.",
        )
