"""Settings and arrays of `mlp`."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from .arrays import ArraySpec, ModelConfig, ModelSpec, float64, ids_below

Activation = Literal["sigmoid", "relu"]
Loss = Literal["mse", "cross-entropy"]


class MLPConfig(ModelConfig):
    """Settings of `mlp`: `sizes` are the numbers of units, from the inputs to the outputs."""

    sizes: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2)]
    activation: Activation
    loss: Loss

    @property
    def classes(self) -> int:
        """How many labels there are: one for each output, and two where there is but one output."""
        return max(2, self.sizes[-1])


def _params(config: MLPConfig) -> dict[str, ArraySpec]:
    """A linear weight is (out, in)."""
    params = {}
    for layer, (inputs, outputs) in enumerate(pairwise(config.sizes)):
        params[f"layers.{layer}.weight"] = float64(outputs, inputs)
        params[f"layers.{layer}.bias"] = float64(outputs)
    return params


MLP = ModelSpec(
    name="mlp",
    config=MLPConfig,
    params=_params,
    inputs=lambda config: {"x": float64("samples", config.sizes[0])},
    targets=lambda config: {"labels": ids_below(config.classes, "samples")},
    outputs=lambda config: {"scores": float64("samples", config.sizes[-1])},
    manual_gradient=True,
)
