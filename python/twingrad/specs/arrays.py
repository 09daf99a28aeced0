"""Arrays by name, type and shape, and the check that every file goes through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ..errors import InputError

Array = NDArray[Any]
Arrays = dict[str, Array]

Wrong = tuple[str, str]
"""What was expected of an array's values, and what was found."""


@dataclass(frozen=True)
class ArraySpec:
    """One array of a model: `dims` holds numbers and the letters of sizes that the arrays share."""

    dtype: Literal["float64", "int64"]
    dims: tuple[int | str, ...]
    check: Callable[[Array], Wrong | None] | None = None
    """Returns what is wrong with the values, or None."""
    trained: bool = True
    """Whether a parameter has a gradient; running statistics have none."""


def float64(*dims: int | str) -> ArraySpec:
    """Floating-point numbers of any finite value."""
    return ArraySpec("float64", dims)


def statistic(*dims: int | str, positive: bool = False) -> ArraySpec:
    """A running statistic that the forward pass changes; `positive` for a variance."""

    def check(array: Array) -> Wrong | None:
        wrong = np.argwhere(array < 0.0) if positive else np.empty((0, 1), np.int64)
        if not wrong.size:
            return None
        index = tuple(int(i) for i in wrong[0])
        return "numbers >= 0", f"{array[index]!r} at index {index}"

    return ArraySpec("float64", dims, check, trained=False)


def ids_below(count: int, *dims: int | str) -> ArraySpec:
    """Integers 0 .. count - 1, as token or class ids are."""

    def check(array: Array) -> Wrong | None:
        outside = np.argwhere((array < 0) | (array >= count))
        if not outside.size:
            return None
        index = tuple(int(i) for i in outside[0])
        return f"ids 0 to {count - 1}", f"{array[index]} at index {index}"

    return ArraySpec("int64", dims, check)


class ModelConfig(BaseModel):
    """Settings of a model, checked. Base class of one for each model."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def check(self, groups: Mapping[str, Arrays]) -> tuple[str, str, str] | None:
        """(entry, expected, found) where arrays of "params", "inputs", "targets" contradict the settings, or None."""
        return None


@dataclass(frozen=True)
class ModelSpec:
    """One model as files see it; every table of arrays is a function of the settings."""

    name: str
    config: type[ModelConfig]
    params: Callable[[Any], dict[str, ArraySpec]]
    inputs: Callable[[Any], dict[str, ArraySpec]]
    targets: Callable[[Any], dict[str, ArraySpec]]
    outputs: Callable[[Any], dict[str, ArraySpec]]
    manual_gradient: bool = False
    """Whether the model has a hand-derived gradient beside automatic differentiation."""


def check_arrays(
    specs: Mapping[str, ArraySpec],
    arrays: Mapping[str, Array],
    where: str,
    sizes: dict[str, int],
    floating: str = "float64",
) -> None:
    """Check names, dtypes, shapes, finiteness and values of `arrays`.

    `sizes` maps the letters of shared sizes to what earlier arrays fixed them to, and is extended; `floating` is the
    dtype that stands for "float64", in files that hold another. Raises InputError naming `where` and the array.
    """
    for name in sorted(specs.keys() - arrays.keys()):
        spec = specs[name]
        raise InputError(
            f"{where}/{name}", expected=f"{spec.dtype} array {_shape_text(spec.dims)}", found="no such entry"
        )
    for name in sorted(arrays.keys() - specs.keys()):
        raise InputError(f"{where}/{name}", expected=f"only {', '.join(specs)}", found="an extra entry")
    for name, spec in specs.items():
        array, place = arrays[name], f"{where}/{name}"
        if str(array.dtype) != (dtype := floating if spec.dtype == "float64" else spec.dtype):
            raise InputError(place, expected=f"dtype {dtype}", found=f"dtype {array.dtype}")
        bound = tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.dims)
        fits = len(bound) == array.ndim
        for dim, size in zip(bound, array.shape, strict=False):
            wanted = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
            fits = fits and size == wanted and size > 0
        if not fits:
            expected = f"shape {_shape_text(spec.dims)}"
            if bound != spec.dims:
                expected += f" = {_shape_text(bound)}"
            raise InputError(place, expected=expected, found=f"shape {_shape_text(array.shape)}")
        if not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise InputError(place, expected="finite numbers", found=f"{array[index]} at index {index}")
        if spec.check is not None and (wrong := spec.check(array)) is not None:
            raise InputError(place, expected=wrong[0], found=wrong[1])


def _shape_text(dims: tuple[int | str, ...]) -> str:
    return "(" + ", ".join(str(dim) for dim in dims) + ("," if len(dims) == 1 else "") + ")"
