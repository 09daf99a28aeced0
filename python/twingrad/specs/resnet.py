"""Settings and arrays of `resnet`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from .arrays import Arrays, ArraySpec, ModelConfig, ModelSpec, float64, ids_below, statistic

Variant = Literal[
    "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet18", "resnet34", "resnet50"
]  # fmt: skip

IMAGENET_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
Widths = tuple[int, ...]
BOTTLENECK_WIDTHS = 4
"""A bottleneck block has this many times as many channels after its last convolution as in it."""


class ResNetConfig(ModelConfig):
    """Settings of `resnet`. He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016.

    `width` is the number of channels of the first stage; each further stage has twice as many. `mode` says what the
    batch norms do: "train" takes the statistics of the batch and updates the running ones, "eval" takes these.
    """

    variant: Variant
    in_channels: int = Field(3, ge=1)
    classes: int = Field(10, ge=1)
    width: int = Field(0, ge=0)
    residual: bool = True
    mode: Literal["train", "eval"] = "train"

    @property
    def is_cifar(self) -> bool:
        """Whether it is of the family for small images: 6n + 2 layers, three stages, shortcuts without parameters."""
        return self.variant not in IMAGENET_BLOCKS

    @property
    def first_width(self) -> int:
        """The channels of the first stage."""
        return self.width or (16 if self.is_cifar else 64)

    @property
    def has_bottlenecks(self) -> bool:
        """Whether a block has three convolutions, the outer ones of size 1."""
        return self.variant == "resnet50"

    @property
    def stages(self) -> tuple[int, ...]:
        """How many blocks each stage has."""
        if self.is_cifar:
            return ((int(self.variant.removeprefix("resnet")) - 2) // 6,) * 3
        return IMAGENET_BLOCKS[self.variant]

    @property
    def reduction(self) -> int:
        """How many pixels of an image's side one pixel of the last stage stands for."""
        return 4 if self.is_cifar else 32

    def check(self, groups: Mapping[str, Arrays]) -> tuple[str, str, str] | None:
        """A batch whose statistics exist: the variance of one number in each channel is none."""
        n, _, height, width = groups["inputs"]["images"].shape
        values = n * -(-height // self.reduction) * -(-width // self.reduction)
        if self.mode == "eval" or values > 1:
            return None
        expected = f'mode "eval", more images, or images of more than {self.reduction} pixels a side'
        return "inputs/images", expected, f"one value per channel in the last stage, of one {height} x {width} image"


@dataclass(frozen=True)
class BlockPlan:
    """One residual block: its name, its channels and its stride."""

    name: str
    inputs: int
    width: int
    outputs: int
    stride: int

    @property
    def reshapes(self) -> bool:
        """Whether the shortcut cannot be the identity."""
        return self.stride != 1 or self.inputs != self.outputs


def block_shape(plan: BlockPlan, config: ResNetConfig) -> tuple[Widths, Widths, Widths]:
    """Channels before and after, sizes and strides of the convolutions of a block."""
    if config.has_bottlenecks:
        return (plan.inputs, plan.width, plan.width, plan.outputs), (1, 3, 1), (1, plan.stride, 1)
    return (plan.inputs, plan.width, plan.outputs), (3, 3), (plan.stride, 1)


def block_plans(config: ResNetConfig) -> Iterator[BlockPlan]:
    """All blocks from the input on, by torchvision's names."""
    inputs = config.first_width
    for stage, count in enumerate(config.stages):
        width = config.first_width * 2**stage
        outputs = width * (BOTTLENECK_WIDTHS if config.has_bottlenecks else 1)
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            yield BlockPlan(f"layer{stage + 1}.{number}", inputs, width, outputs, stride)
            inputs = outputs


def _params(config: ResNetConfig) -> dict[str, ArraySpec]:
    """torchvision's names; a convolution's weight is (out, in, height, width), a linear one (out, in)."""
    params: dict[str, ArraySpec] = {}

    def conv(name: str, inputs: int, outputs: int, size: int) -> None:
        params[f"{name}.weight"] = float64(outputs, inputs, size, size)

    def norm(name: str, channels: int) -> None:
        params[f"{name}.weight"] = float64(channels)
        params[f"{name}.bias"] = float64(channels)
        params[f"{name}.running_mean"] = statistic(channels)
        params[f"{name}.running_var"] = statistic(channels, positive=True)

    conv("conv1", config.in_channels, config.first_width, 3 if config.is_cifar else 7)
    norm("bn1", config.first_width)
    last = config.first_width
    for plan in block_plans(config):
        widths, sizes, _ = block_shape(plan, config)
        for number, size in enumerate(sizes, start=1):
            conv(f"{plan.name}.conv{number}", widths[number - 1], widths[number], size)
            norm(f"{plan.name}.bn{number}", widths[number])
        if plan.reshapes and config.residual and not config.is_cifar:
            conv(f"{plan.name}.downsample.0", plan.inputs, plan.outputs, 1)
            norm(f"{plan.name}.downsample.1", plan.outputs)
        last = plan.outputs
    return params | {"fc.weight": float64(config.classes, last), "fc.bias": float64(config.classes)}


RESNET = ModelSpec(
    name="resnet",
    config=ResNetConfig,
    params=_params,
    inputs=lambda config: {"images": float64("N", config.in_channels, "H", "W")},
    targets=lambda config: {"labels": ids_below(config.classes, "N")},
    outputs=lambda config: {"logits": float64("N", config.classes)},
)
