"""Residual networks of torchvision, from a state dict in a local safetensors file. No pickle is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import InputError, one_of
from ..format import Checkpoint
from ..specs import Array, Arrays, ArraySpec, ResNetConfig, make_config, model_spec
from ..specs.resnet import IMAGENET_BLOCKS
from .safetensors_file import Entry, check_names, open_entries

VARIANTS = tuple(IMAGENET_BLOCKS)
STATISTIC, COUNTER = "running_mean", "num_batches_tracked"
"""Of each batch norm: a statistic, and how many batches it has seen, which no calculation here needs."""
CONVOLUTION = re.compile(r"layer(\d+)\.(\d+)\.conv(\d+)\.weight")
SIZES = {
    "classes": ("fc.weight", 0, "(classes, channels)"),
    "in_channels": ("conv1.weight", 1, "(width, channels, 7, 7)"),
    "width": ("conv1.weight", 0, "(width, channels, 7, 7)"),
}
"""Settings that are told by an axis of an entry, and the axes that this entry has."""
IMAGENET: dict[str, Any] = {
    "name": "imagenet",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "shape": [3, 224, 224],
    "classes": [str(number) for number in range(1000)],
}
"""What torchvision's weights expect of images (its `ImageClassification` preset); the classes by their numbers."""
PICKLES = (".pth", ".pt", ".bin", ".pkl")
TO_CONVERT = (
    "Pickles are not read, for they can run any program; this converts one: python -c 'from safetensors.torch import "
    'save_file; import torch; save_file(torch.load("FILE", weights_only=True), "FILE.safetensors")\''
)


def read_torchvision(file: Path, variant: str | None = None) -> Checkpoint:
    """A checkpoint from a state dict of torchvision's.

    Args:
        file: a safetensors file with the entries of `torchvision.models.resnet18().state_dict()` and the like.
        variant: "resnet18", "resnet34" or "resnet50"; told by the names of the entries where None.

    Returns:
        A checkpoint of `resnet` with mode "eval" and status "imported". Numbers of classes, of input channels and of
        channels of the first stage are those of the file. Weights in float16, bfloat16, float32 and float64 become
        float32. `data` says what images the weights are for where they are for ImageNet's: of three channels and 1000
        classes.

    Raises InputError, naming the file and the entry, for other architectures, missing, extra and misshapen entries,
    numbers that are not finite in float32, negative variances, damaged files, and pickles.
    """
    file = Path(file)
    if variant is not None and variant not in VARIANTS:
        raise InputError("variant", expected=one_of(VARIANTS), found=repr(variant))
    with ExitStack() as opened:
        entries = open_entries(file, opened, TO_CONVERT if file.suffix in PICKLES else "")
        config = _config(entries, variant or _variant(entries, file), file)
        params = _params(entries, config, file)
    of_imagenet = [config.in_channels, config.classes] == [IMAGENET["shape"][0], len(IMAGENET["classes"])]
    return Checkpoint(
        model="resnet",
        config=config,
        data={"images": IMAGENET} if of_imagenet else {},
        side="torch",
        dtype="float32",
        versions={"source": f"{config.variant} of torchvision, {file.name}"},
        settings={},
        iteration=0,
        status="imported",
        params=params,
    )


def _variant(names: Iterable[str], file: Path) -> str:
    """The variant that has these names' blocks and convolutions."""
    found = [tuple(map(int, match.groups())) for name in names if (match := CONVOLUTION.fullmatch(name))]
    numbers = {stage: {block for of, block, _ in found if of == stage} for stage, _, _ in found}
    stages = tuple(len(numbers[stage]) for stage in sorted(numbers))
    has_bottlenecks = any(number == 3 for _, _, number in found)
    for variant in VARIANTS:
        config = ResNetConfig.model_validate({"variant": variant})
        if (config.stages, config.has_bottlenecks) == (stages, has_bottlenecks):
            return variant
    blocks = f"{', '.join(map(str, stages))} blocks of {3 if has_bottlenecks else 2} convolutions"
    hint = "With --variant, the first entry that is none of its entries is told."
    raise InputError(str(file), expected=one_of(VARIANTS), found=blocks if stages else "no block of layer1", hint=hint)


def _config(entries: Mapping[str, Entry], variant: str, file: Path) -> ResNetConfig:
    settings: dict[str, Any] = {"variant": variant, "mode": "eval"}
    for setting, (name, axis, axes) in SIZES.items():
        if name not in entries:
            raise InputError(f"{file}, {name}", expected=f"this entry, shape {axes}", found="nothing")
        if len(shape := entries[name].shape) != axes.count(",") + 1:
            raise InputError(entries[name].place, expected=f"shape {axes}", found=f"shape {shape}")
        settings[setting] = shape[axis]
    config = make_config(model_spec("resnet", str(file)), settings, str(file))
    assert isinstance(config, ResNetConfig)
    return config


def _params(entries: Mapping[str, Entry], config: ResNetConfig, file: Path) -> Arrays:
    """The model's arrays, float32."""
    specs = model_spec("resnet", str(file)).params(config)
    shapes = {name: tuple(int(dim) for dim in spec.dims) for name, spec in specs.items()}
    counters = {f"{name.removesuffix(STATISTIC)}{COUNTER}" for name in shapes if name.endswith(STATISTIC)}
    check_names(entries, shapes, counters, file, f"{config.variant}'s")
    return {name: _read(entries[name], shape, specs[name]) for name, shape in shapes.items()}


def _read(entry: Entry, shape: tuple[int, ...], spec: ArraySpec) -> Array:
    array = entry.read(shape)
    if spec.check is not None and (wrong := spec.check(array)) is not None:
        raise InputError(entry.place, expected=wrong[0], found=wrong[1])
    return array
