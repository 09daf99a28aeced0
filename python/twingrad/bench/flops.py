"""Floating-point operations of one call, by formula: 2 m n k for a product of (m, k) and (k, n), nothing else.

What is elementwise (activations, norms, softmax, optimizer) is not counted, as is usual. A gradient costs three times
a forward pass: each product has two more, for its two factors (Kaplan et al., "Scaling laws for neural language
models", 2020, section 2.1). A transformer's count is that of Chowdhery et al., "PaLM", JMLR 24(240), 2023, appendix B:
attention is counted as if it were not causal. A convolution is a product of its kernels and the patches of the image
(Chellapilla et al., 2006). All of that holds for both sides alike, whatever they do inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from ..specs.gpt import MLP_WIDTHS
from ..specs.resnet import ResNetConfig, block_plans, block_shape
from .layer_specs import KERNEL

Sizes = Mapping[str, int]
Config = Mapping[str, Any]

STAGES = {"euler": 1, "improved-euler": 2, "kutta3": 3, "kutta4": 4}
FORWARD_PASSES = {"forward": 1, "gradient": 3, "costate": 3, "backpropagation": 3, "step": 3}
"""What a quantity costs, in forward passes."""
MEMORY_BOUND = ("layer-norm", "batch-norm", "cross-entropy", "adamw")
"""The layers without a product."""


def product(m: int, k: int, n: int) -> int:
    """Operations of (m, k) by (k, n)."""
    return 2 * m * k * n


def gpt_forward(config: Config, B: int, T: int, past: int = 0) -> int:
    """Logits of T new tokens in each of B texts, which look at `past` earlier ones and at each other."""
    C, rows = config["width"], B * T
    block = product(rows, C, 3 * C) + product(rows, C, C) + 2 * product(rows, C, MLP_WIDTHS * C)
    if config["splitting"] == "strang":
        block += 2 * product(rows, C, MLP_WIDTHS * C)
    attention = 2 * product(rows, C, past + T)
    return int(config["layers"] * (block + attention) + product(rows, C, config["vocab"]))


def _gpt(config: Config, sizes: Sizes) -> int:
    return gpt_forward(config, sizes["B"], sizes["T"])


def _control_net(config: Config, sizes: Sizes) -> int:
    """Each stage of each layer multiplies every state by K; the classifier reads the last ones."""
    d, samples = sizes["d"], sizes["samples"]
    return sizes["N"] * STAGES[config["method"]] * product(samples, d, d) + product(samples, d, 1)


def _mlp(config: Config, sizes: Sizes) -> int:
    return sum(product(sizes["samples"], inputs, outputs) for inputs, outputs in pairwise(config["sizes"]))


def _convolution(images: int, side: tuple[int, int], inputs: int, outputs: int, kernel: int) -> int:
    return product(images * side[0] * side[1], inputs * kernel * kernel, outputs)


def _resnet(config: Config, sizes: Sizes) -> int:
    settings = ResNetConfig(**config)
    n, width, height_width = sizes["N"], settings.first_width, (sizes["H"], sizes["W"])
    if not settings.is_cifar:
        height_width = _halved(height_width)
    total = _convolution(n, height_width, settings.in_channels, width, 3 if settings.is_cifar else 7)
    if not settings.is_cifar:
        height_width = _halved(height_width)
    for plan in block_plans(settings):
        widths, kernels, strides = block_shape(plan, settings)
        for (inputs, outputs), kernel, stride in zip(pairwise(widths), kernels, strides, strict=True):
            height_width = _halved(height_width) if stride == 2 else height_width
            total += _convolution(n, height_width, inputs, outputs, kernel)
        if plan.reshapes and settings.residual and not settings.is_cifar:
            total += _convolution(n, height_width, plan.inputs, plan.outputs, 1)
    return total + product(n, plan.outputs, settings.classes)


def _halved(height_width: tuple[int, int]) -> tuple[int, int]:
    height, width = height_width
    return -(-height // 2), -(-width // 2)


def _attention(config: Config, _: Sizes) -> int:
    C, T = config["width"], config["context"]
    return product(config["batch"] * T, C, 4 * C) + 2 * product(config["batch"] * T, C, T)


FORWARD: dict[str, Callable[[Config, Sizes], int]] = {
    "control_net": _control_net,
    "gpt": _gpt,
    "mlp": _mlp,
    "resnet": _resnet,
    "linear": lambda config, _: product(config["batch"], config["inputs"], config["outputs"]),
    "attention": _attention,
    "gelu-mlp": lambda config, _: 2 * product(config["batch"], config["width"], MLP_WIDTHS * config["width"]),
    "convolution": lambda config, _: _convolution(
        config["batch"], (config["size"],) * 2, config["inputs"], config["outputs"], KERNEL
    ),
    "matmul": lambda config, _: product(*(config["size"],) * 3),
}
"""Operations of a forward pass by subject."""


def flops_of(subject: str, quantity: str, config: Config, sizes: Sizes) -> float | None:
    """Operations of one call of a workload; for "tokens", of one token on average. None where there is no product."""
    if subject in MEMORY_BOUND:
        return None
    if quantity == "tokens":
        return _per_token(config, sizes["T"])
    passes = FORWARD_PASSES[quantity]
    if subject == "control_net" and quantity == "step":
        passes += 1  # the objective at the new parameters
    return float(passes * FORWARD[subject](config, sizes))


def _per_token(config: Config, prompt: int) -> float:
    """The mean over the tokens that fill the context: the first reads the prompt, each other one the token before."""
    count = config["context"] - prompt
    rest = sum(gpt_forward(config, 1, 1, past) for past in range(prompt, config["context"] - 1))
    return float((gpt_forward(config, 1, prompt) + rest) / count)
