"""Settings and arrays of `antisymmetric`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .arrays import ModelConfig, ModelSpec, float64, ids_below


class AntisymmetricConfig(ModelConfig):
    """Settings of `antisymmetric`: h is the step, γ the damping."""

    classes: Annotated[int, Field(ge=2)]
    h: Annotated[float, Field(gt=0.0)]
    gamma: Annotated[float, Field(ge=0.0)]


ANTISYMMETRIC = ModelSpec(
    name="antisymmetric",
    config=AntisymmetricConfig,
    params=lambda config: {
        "K": float64("N", "d", "d"),
        "b": float64("N", "d"),
        "classifier.weight": float64(config.classes, "d"),
        "classifier.bias": float64(config.classes),
    },
    inputs=lambda config: {"x": float64("samples", "d")},
    targets=lambda config: {"labels": ids_below(config.classes, "samples")},
    outputs=lambda config: {"scores": float64("samples", config.classes)},
)
