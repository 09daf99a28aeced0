"""Ways in which a file gets broken, each a function of the file's bytes and of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Draw = np.random.Generator
Bytes = bytearray

LENGTHS = (2, 4, 8, 16, 64, 512, 4096)
NOT_UTF8 = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80")
"""No byte of UTF-8, a character written too long, a surrogate, one beyond Unicode, one cut short, one without start."""


def corrupted(data: bytes, others: Sequence[bytes], draw: Draw) -> tuple[str, bytes]:
    """The name of a way, and the bytes after it was done to them; `others` are those of other files."""
    name = str(draw.choice(list(WAYS)))
    return name, bytes(WAYS[name](bytearray(data), others, draw))


def _bits(data: Bytes, _: Sequence[bytes], draw: Draw) -> Bytes:
    for _times in range(int(draw.choice((1, 1, 1, 3)))):
        data[_place(data, draw)] ^= 1 << int(draw.integers(8))
    return data


def _several_bytes(data: Bytes, _: Sequence[bytes], draw: Draw) -> Bytes:
    for _times in range(int(draw.choice((1, 1, 1, 2, 5)))):
        data[_place(data, draw)] = int(draw.integers(256))
    return data


def _filled(data: Bytes, draw: Draw, fill: Callable[[int], bytes]) -> Bytes:
    start, stop = _range(data, draw)
    data[start:stop] = fill(stop - start)
    return data


def _truncated(data: Bytes, _: Sequence[bytes], draw: Draw) -> Bytes:
    return data[: _place(data, draw)]


def _extended(data: Bytes, _: Sequence[bytes], draw: Draw) -> Bytes:
    return data + draw.bytes(int(draw.choice(LENGTHS)))


def _cut_out(data: Bytes, _: Sequence[bytes], draw: Draw) -> Bytes:
    start, stop = _range(data, draw)
    del data[start:stop]
    return data


def _moved(data: Bytes, _: Sequence[bytes], draw: Draw) -> Bytes:
    start, stop = _range(data, draw)
    piece = data[start:stop]
    del data[start:stop]
    place = int(draw.integers(len(data) + 1))
    return data[:place] + piece + data[place:]


def _exchanged(data: Bytes, _: Sequence[bytes], draw: Draw) -> Bytes:
    start, stop = _range(data, draw)
    other = int(draw.integers(len(data) - (stop - start) + 1))
    piece, there = data[start:stop], data[other : other + stop - start]
    data[other : other + stop - start] = piece
    data[start:stop] = there
    return data


def _of_another_file(data: Bytes, others: Sequence[bytes], draw: Draw) -> Bytes:
    other = others[int(draw.integers(len(others)))]
    start, stop = _range(bytearray(other), draw)
    place = _place(data, draw)
    data[place : place + stop - start] = other[start:stop]
    return data


def _not_utf8(data: Bytes, _: Sequence[bytes], draw: Draw) -> Bytes:
    place = _place(data, draw)
    return data[:place] + NOT_UTF8[int(draw.integers(len(NOT_UTF8)))] + data[place:]


def _place(data: Bytes, draw: Draw) -> int:
    return int(draw.integers(len(data)))


def _range(data: Bytes, draw: Draw) -> tuple[int, int]:
    start = _place(data, draw)
    return start, min(len(data), start + int(draw.choice(LENGTHS)))


WAYS: dict[str, Callable[[Bytes, Sequence[bytes], Draw], Bytes]] = {
    "bits": _bits,
    "bytes": _several_bytes,
    "zeros": lambda data, _, draw: _filled(data, draw, bytes),
    "ones": lambda data, _, draw: _filled(data, draw, lambda count: count * b"\xff"),
    "noise": lambda data, _, draw: _filled(data, draw, draw.bytes),
    "truncated": _truncated,
    "extended": _extended,
    "cut out": _cut_out,
    "moved": _moved,
    "exchanged": _exchanged,
    "of another file": _of_another_file,
    "no UTF-8": _not_utf8,
}
