"""Settings and arrays of `gpt`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from .arrays import Arrays, ArraySpec, ModelConfig, ModelSpec, float64, ids_below

MLP_WIDTHS = 4
"""The hidden layer of a block's MLP is this many times as wide as the model."""


TimeSteps = Literal["fixed", "learned", "simplex"]
"""The blocks' time steps: the setting `dt`; parameters; parameters >= 0 whose sum is layers · dt."""


def gpt_contradiction(settings: Any) -> str | None:
    """What does not go together in settings with `width`, `heads`, `dt` and `time_steps`."""
    if settings.width % settings.heads:
        return f"{settings.heads} heads do not divide the width {settings.width}"
    if settings.time_steps == "simplex" and not settings.dt > 0:
        return f"time steps on a simplex need a dt above 0, which is their mean, not {settings.dt}"
    return None


class GPTConfig(ModelConfig):
    """Settings of `gpt`. Radford et al., "Language models are unsupervised multitask learners", 2019."""

    vocab: int = Field(ge=1)
    context: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    width: int = Field(ge=1)
    dt: float = 1.0
    splitting: Literal["lie", "strang"] = "lie"
    tied: bool = True
    time_steps: TimeSteps = "fixed"

    @model_validator(mode="after")
    def _fits(self) -> GPTConfig:
        if problem := gpt_contradiction(self):
            raise ValueError(problem)
        return self

    @property
    def horizon(self) -> float:
        """The time that all blocks together take; where time steps are learned freely, that at the start."""
        return self.layers * self.dt

    def check(self, groups: Mapping[str, Arrays]) -> tuple[str, str, str] | None:
        """What is wrong where there are more tokens than the context has room for."""
        length = groups["inputs"]["tokens"].shape[1]
        if length > self.context:
            return "inputs/tokens", f"at most {self.context} tokens, the context", f"{length}"
        return None


def _params(config: GPTConfig) -> dict[str, ArraySpec]:
    """nanoGPT's names; a linear weight is (out, in)."""
    C, V, hidden = config.width, config.vocab, MLP_WIDTHS * config.width
    params = {"wte.weight": float64(V, C), "wpe.weight": float64(config.context, C)}
    for layer in range(config.layers):
        block = {
            "ln_1.weight": float64(C),
            "ln_1.bias": float64(C),
            "attn.c_attn.weight": float64(3 * C, C),
            "attn.c_attn.bias": float64(3 * C),
            "attn.c_proj.weight": float64(C, C),
            "attn.c_proj.bias": float64(C),
            "ln_2.weight": float64(C),
            "ln_2.bias": float64(C),
            "mlp.c_fc.weight": float64(hidden, C),
            "mlp.c_fc.bias": float64(hidden),
            "mlp.c_proj.weight": float64(C, hidden),
            "mlp.c_proj.bias": float64(C),
        }
        params |= {f"h.{layer}.{name}": spec for name, spec in block.items()}
    params |= {"ln_f.weight": float64(C), "ln_f.bias": float64(C)}
    if not config.tied:
        params["lm_head.weight"] = float64(V, C)
    if config.time_steps != "fixed":
        params["dt"] = float64(config.layers)
    return params


GPT = ModelSpec(
    name="gpt",
    config=GPTConfig,
    params=_params,
    inputs=lambda config: {"tokens": ids_below(config.vocab, "B", "T")},
    targets=lambda config: {"targets": ids_below(config.vocab, "B", "T")},
    outputs=lambda config: {"logits": float64("B", "T", config.vocab)},
)
