"""safetensors files of other programs. They hold tensors by name and nothing that could run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import InputError, one_of
from ..specs import Array

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


@dataclass(frozen=True)
class Entry:
    """A tensor in an open safetensors file."""

    file: Path
    name: str
    handle: Any

    @property
    def place(self) -> str:
        """File and entry, for errors."""
        return f"{self.file}, {self.name}"

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape, as it lies in the file."""
        return tuple(self.handle.get_slice(self.name).get_shape())

    def read(self, shape: tuple[int, ...], transposed: bool = False) -> Array:
        """The tensor as a float32 array of `shape`, in its own memory; it lies transposed in the file where so said.

        Raises InputError where it has another shape, no floating-point numbers, or numbers float32 cannot hold.
        """
        expected = shape[::-1] if transposed else shape
        if self.shape != expected:
            raise InputError(self.place, expected=f"shape {expected}", found=f"shape {self.shape}")
        if (dtype := self.handle.get_slice(self.name).get_dtype()) not in DTYPES:
            raise InputError(self.place, expected=f"dtype {one_of(DTYPES)}", found=f"dtype {dtype}")
        tensor = self.handle.get_tensor(self.name).to(torch.float32).numpy()
        array = np.array(tensor.T if transposed else tensor, order="C")
        if not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            at = index[::-1] if transposed else index
            raise InputError(self.place, expected="finite float32 numbers", found=f"{array[index]} at index {at}")
        return array


def open_entries(file: Path, opened: ExitStack, hint: str = "") -> dict[str, Entry]:
    """The tensors of a safetensors file by name; the file stays open as long as `opened`.

    Raises InputError where there is no such file, and, with the hint, where it is no whole safetensors file.
    """
    expected = "a whole safetensors file"
    try:
        handle = opened.enter_context(safe_open(file, framework="pt"))
    except FileNotFoundError:
        raise InputError(str(file), expected=expected, found="no such file") from None
    except (OSError, SafetensorError) as error:
        found = f"a damaged or foreign one ({error})"
        raise InputError(str(file), expected=expected, found=found, hint=hint) from None
    return {name: Entry(file, name, handle) for name in sorted(handle.keys())}


def check_names(
    entries: Mapping[str, Entry],
    shapes: Mapping[str, tuple[int, ...]],
    ignored: Collection[str],
    place: Path,
    whose: str,
    hints: Mapping[str, str] | None = None,
) -> None:
    """Refuse entries that are neither in `shapes` nor ignored, and shapes without an entry.

    Args:
        entries: by their names in the model.
        shapes: of the model's arrays.
        ignored: names of entries that may be there.
        place: where the entries are from, for what is missing.
        whose: weights they should be, in the genitive.
        hints: what to say to missing entries of these names.
    """
    for name, entry in entries.items():
        if name not in shapes and name not in ignored:
            raise InputError(entry.place, expected=f"only {whose} weights", found="an extra entry")
    for name, shape in shapes.items():
        if name not in entries:
            expected, hint = f"this entry, shape {shape}", (hints or {}).get(name, "")
            raise InputError(f"{place}, {name}", expected=expected, found="nothing", hint=hint)
