"""What each model is made of: its settings, and the names, types and shapes of its arrays.

The same file on the Julia side is `julia/src/specs.jl`. Nothing here computes; the harness checks files with it
without loading a framework.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from .errors import InputError, one_of
from .validation import validate

Array = NDArray[Any]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class ArraySpec:
    """One array of a model: `dims` holds numbers and the letters of sizes that the arrays share."""

    dtype: Literal["float64", "int64"]
    dims: tuple[int | str, ...]
    check: Callable[[Array], str] | None = None
    """Returns what is wrong with the values, or an empty text."""


Network = Literal["net", "resnet", "odenet", "odenet-simplex"]
Method = Literal["euler", "improved-euler", "kutta3", "kutta4"]


def only_euler_for_net(network: Network, method: Method) -> None:
    """Raise ValueError for a Runge-Kutta method of a network that is no time discretisation."""
    if network == "net" and method != "euler":
        raise ValueError(f"network 'net' is no time discretisation and takes method 'euler', not '{method}'")


class ControlNetConfig(BaseModel):
    """Settings of `control_net`. Benning et al., J. Comput. Dyn. 6(2), 2019."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    network: Network
    method: Method
    scale: Literal["mean", "sum"]

    @model_validator(mode="after")
    def _fits(self) -> ControlNetConfig:
        only_euler_for_net(self.network, self.method)
        return self

    @property
    def alpha(self) -> float:
        """The factor of y_k in y_{k+1}: 0 for a plain network, 1 for a residual one."""
        return 0.0 if self.network == "net" else 1.0

    @property
    def learns_dt(self) -> bool:
        """Whether training changes the time steps."""
        return self.network in ("odenet", "odenet-simplex")

    def check(self, params: Mapping[str, Array]) -> tuple[str, str, str] | None:
        """(parameter, expected, found) where the time steps contradict the network, or None."""
        dt, tolerance = params["dt"], 1e-12
        fixed = {"net": 1.0, "resnet": 1.0 / len(dt)}.get(self.network)
        if fixed is not None and np.abs(dt - fixed).max() > tolerance:
            return "dt", f"every time step {fixed!r} (network '{self.network}')", f"{dt.tolist()}"
        if self.network == "odenet-simplex" and (dt.min() < -tolerance or abs(dt.sum() - 1) > tolerance):
            found = f"smallest {dt.min()!r}, sum {dt.sum()!r}"
            return "dt", "time steps >= 0 with sum 1 (network 'odenet-simplex')", found
        return None


def _zero_or_one(labels: Array) -> str:
    wrong = np.flatnonzero((labels != 0.0) & (labels != 1.0))
    return f"{labels.flat[wrong[0]]!r} at index {wrong[0]}" if wrong.size else ""


@dataclass(frozen=True)
class ModelSpec:
    """One model as files see it."""

    name: str
    config: type[ControlNetConfig]
    params: Callable[[ControlNetConfig], dict[str, ArraySpec]]
    inputs: dict[str, ArraySpec]
    targets: dict[str, ArraySpec]
    outputs: dict[str, ArraySpec] = field(default_factory=dict)
    manual_gradient: bool = False
    """Whether the model has a hand-derived gradient beside automatic differentiation."""


def _float64(*dims: int | str) -> ArraySpec:
    return ArraySpec("float64", dims)


MODELS: dict[str, ModelSpec] = {
    "control_net": ModelSpec(
        name="control_net",
        config=ControlNetConfig,
        params=lambda config: {
            "K": _float64("N", "d", "d"),
            "b": _float64("N", "d"),
            "W": _float64(1, "d"),
            "mu": _float64(1),
            "dt": _float64("N"),
        },
        inputs={"x": _float64("samples", "d")},
        targets={"c": ArraySpec("float64", ("samples",), _zero_or_one)},
        outputs={"prediction": _float64("samples")},
        manual_gradient=True,
    ),
}


def model_spec(name: str, where: str) -> ModelSpec:
    """The model called `name`; raises InputError, naming `where`, if there is none."""
    if name not in MODELS:
        raise InputError(where, expected=one_of(MODELS), found=repr(name))
    return MODELS[name]


def parse_config(spec: ModelSpec, text: str, where: str) -> ControlNetConfig:
    """The model's settings from JSON text; raises InputError, naming `where`."""
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(where, expected="a JSON object", found=f"{text[:60]!r} ({error})") from None
    return make_config(spec, settings, where)


def make_config(spec: ModelSpec, settings: Any, where: str) -> ControlNetConfig:
    """The model's settings from a dictionary; raises InputError, naming `where` and the setting."""
    return validate(spec.config, settings, where)


def check_arrays(
    specs: Mapping[str, ArraySpec], arrays: Mapping[str, Array], where: str, sizes: dict[str, int]
) -> None:
    """Check names, dtypes, shapes, finiteness and values of `arrays`.

    `sizes` maps the letters of shared sizes to what earlier arrays fixed them to, and is extended.
    Raises InputError naming `where` and the array.
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
        if str(array.dtype) != spec.dtype:
            raise InputError(place, expected=f"dtype {spec.dtype}", found=f"dtype {array.dtype}")
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
        if spec.check is not None and (wrong := spec.check(array)):
            raise InputError(place, expected="labels 0 or 1", found=wrong)


def _shape_text(dims: tuple[int | str, ...]) -> str:
    return "(" + ", ".join(str(dim) for dim in dims) + ("," if len(dims) == 1 else "") + ")"
