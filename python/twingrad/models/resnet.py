"""Residual networks for images. Beside it: `julia/src/models/resnet.jl`.

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016. The family for small images
(resnet20 ... resnet110) has shortcut A: where a block halves the image and doubles the channels, it takes every
second pixel and appends channels of zeros. resnet18, 34 and 50 are those of torchvision, names included.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..specs.resnet import BlockPlan, ResNetConfig, block_plans, block_shape

BATCH_NORM_EPS = 1e-5
MOMENTUM = 0.1
"""The part of the new statistics in the running ones: running <- 0.9 running + 0.1 batch, the variance unbiased."""


class BatchNorm(nn.Module):
    """Batch norm over batch and pixels, with the statistics of the batch in training and the running ones else."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.empty(channels)) for _ in range(2))
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, C, H, W)."""
        statistics = (self.running_mean, self.running_var)
        return F.batch_norm(x, *statistics, self.weight, self.bias, self.training, MOMENTUM, BATCH_NORM_EPS)


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution (cross-correlation) without bias that keeps the image's size, but for the stride."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """Two convolutions of size 3, or three of sizes 1, 3, 1, and a shortcut around them."""

    def __init__(self, plan: BlockPlan, config: ResNetConfig) -> None:
        super().__init__()
        self.plan, self.residual = plan, config.residual
        widths, sizes, strides = block_shape(plan, config)
        self.count = len(sizes)
        for number, (size, stride) in enumerate(zip(sizes, strides, strict=True), start=1):
            setattr(self, f"conv{number}", conv(widths[number - 1], widths[number], size, stride))
            setattr(self, f"bn{number}", BatchNorm(widths[number]))
        self.downsample: nn.Module | None = None
        if plan.reshapes and config.residual and not config.is_cifar:
            self.downsample = nn.Sequential(conv(plan.inputs, plan.outputs, 1, plan.stride), BatchNorm(plan.outputs))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            if number < self.count:
                y = torch.relu(y)
        return torch.relu(y + self.shortcut(x)) if self.residual else torch.relu(y)

    def shortcut(self, x: Tensor) -> Tensor:
        """The input, in the shape of the output."""
        if self.downsample is not None:
            projected: Tensor = self.downsample(x)
            return projected
        if not self.plan.reshapes:
            return x
        step, more = self.plan.stride, self.plan.outputs - self.plan.inputs
        return F.pad(x[:, :, ::step, ::step], (0, 0, 0, 0, 0, more))


class ResNet(nn.Module):
    """A first convolution, stages of blocks, the mean over the pixels, a linear classifier.

    Args:
        config: variant, in_channels, classes, width, residual, mode.
        params: as in `specs/resnet.py`, running statistics included. They become the parameters, uncopied.
    """

    def __init__(self, config: ResNetConfig, params: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):  # nothing is allocated: `params` are the arrays
            width = config.first_width
            self.conv1 = conv(config.in_channels, width, 3 if config.is_cifar else 7, 1 if config.is_cifar else 2)
            self.bn1 = BatchNorm(width)
            self.stages = len(config.stages)
            plans = list(block_plans(config))
            for stage in range(1, self.stages + 1):
                blocks = (Block(plan, config) for plan in plans if plan.name.startswith(f"layer{stage}."))
                setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            self.fc = nn.Linear(plans[-1].outputs, config.classes)
        self.load_state_dict(dict(params), assign=True)
        self.train(config.mode == "train")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, in_channels, H, W)."""
        x = torch.relu(self.bn1(self.conv1(images)))
        if not self.config.is_cifar:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of logits (N, classes) for labels (N,)."""
        return F.cross_entropy(logits, labels)
