"""The arrays of the layers that are timed by themselves, by name and shape. Nothing here computes.

A linear weight is (out, in), a convolution's (out, in, height, width), as in the models' files. The cotangent is what
the gradient of a layer's output is multiplied with; the cross-entropy, being a number, needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..specs.arrays import ArraySpec, float64, ids_below, statistic
from ..specs.gpt import MLP_WIDTHS

Sizes = Mapping[str, int]
Specs = dict[str, ArraySpec]

KERNEL = 3
"""Height and width of the convolution's kernel; stride and padding are 1."""


@dataclass(frozen=True)
class LayerSpec:
    """One layer as files see it; every table of arrays is a function of the layer's sizes."""

    sizes: tuple[str, ...]
    params: Callable[[Sizes], Specs]
    inputs: Callable[[Sizes], Specs]
    targets: Callable[[Sizes], Specs]


def _linear(outputs: int, inputs: int, prefix: str = "") -> Specs:
    return {f"{prefix}weight": float64(outputs, inputs), f"{prefix}bias": float64(outputs)}


def _rows(width: str) -> Callable[[Sizes], ArraySpec]:
    return lambda sizes: float64(sizes["batch"], sizes[width])


def _images(channels: str) -> Callable[[Sizes], ArraySpec]:
    return lambda sizes: float64(sizes["batch"], sizes[channels], sizes["size"], sizes["size"])


def _texts(sizes: Sizes) -> ArraySpec:
    return float64(sizes["batch"], sizes["context"], sizes["width"])


def _layer(
    sizes: str, params: Callable[[Sizes], Specs], x: Callable[[Sizes], ArraySpec], y: Callable[[Sizes], ArraySpec]
) -> LayerSpec:
    return LayerSpec(tuple(sizes.split()), params, lambda s: {"x": x(s)}, lambda s: {"cotangent": y(s)})


def _attention(sizes: Sizes) -> Specs:
    C = sizes["width"]
    return _linear(3 * C, C, "c_attn.") | _linear(C, C, "c_proj.")


def _gelu_mlp(sizes: Sizes) -> Specs:
    C = sizes["width"]
    return _linear(MLP_WIDTHS * C, C, "c_fc.") | _linear(C, MLP_WIDTHS * C, "c_proj.")


def _norm(sizes: Sizes) -> Specs:
    return {"weight": float64(sizes["width"]), "bias": float64(sizes["width"])}


def _batch_norm(sizes: Sizes) -> Specs:
    C = sizes["channels"]
    statistics = {"running_mean": statistic(C), "running_var": statistic(C, positive=True)}
    return {"weight": float64(C), "bias": float64(C)} | statistics


def _matrices(sizes: Sizes) -> Specs:
    return {f"w.{number}": float64(MLP_WIDTHS * sizes["width"], sizes["width"]) for number in range(sizes["arrays"])}


LAYERS: dict[str, LayerSpec] = {
    "linear": _layer(
        "inputs outputs batch", lambda s: _linear(s["outputs"], s["inputs"]), _rows("inputs"), _rows("outputs")
    ),
    "layer-norm": _layer("width batch", _norm, _rows("width"), _rows("width")),
    "attention": _layer("width heads context batch", _attention, _texts, _texts),
    "gelu-mlp": _layer("width batch", _gelu_mlp, _rows("width"), _rows("width")),
    "convolution": _layer(
        "inputs outputs size batch",
        lambda s: {"weight": float64(s["outputs"], s["inputs"], KERNEL, KERNEL)},
        _images("inputs"),
        _images("outputs"),
    ),
    "batch-norm": _layer("channels size batch", _batch_norm, _images("channels"), _images("channels")),
    "cross-entropy": LayerSpec(
        ("classes", "batch"),
        lambda s: {},
        lambda s: {"x": float64(s["batch"], s["classes"])},
        lambda s: {"labels": ids_below(s["classes"], s["batch"])},
    ),
    "adamw": LayerSpec(("width", "arrays"), _matrices, _matrices, lambda s: {}),
}
