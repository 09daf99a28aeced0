"""How many parameters a model has, layer by layer. Nothing is computed and no framework is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

from .errors import InputError, one_of
from .format import Checkpoint
from .specs import GPTConfig, ModelConfig, ResNetConfig, make_config, model_spec
from .specs.resnet import Variant
from .training.settings import preset as read_preset

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = dict[str, Shape]

LETTERS = {"layers": "N", "d": "d"}
"""The options that are sizes of arrays but no settings, and the letters that stand for them in the shapes."""


@dataclass(frozen=True)
class KnownModel:
    """A model with a name.

    Args:
        model: the kind of model.
        settings: of the model; defaults stay away.
        sizes: what the letters of its shapes stand for.
        options: names of the settings and sizes that may be others.
        preset: whose settings are the first ones; "" for none.
    """

    model: str
    settings: Mapping[str, Any]
    sizes: Mapping[str, int] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    preset: str = ""


_GPT2 = {"vocab": 50257, "context": 1024, "layers": 12, "heads": 12, "width": 768}
_MLP = {"sizes": [784, 16, 16, 10], "activation": "sigmoid", "loss": "cross-entropy"}
_CONTROL_NET = {"network": "odenet", "method": "euler", "scale": "mean"}


def _resnet(variant: Variant) -> KnownModel:
    config = ResNetConfig.model_validate({"variant": variant})
    settings = {"variant": variant, "classes": 10 if config.is_cifar else 1000, "width": config.first_width}
    return KnownModel("resnet", settings, options=("classes", "in_channels", "width"))


KNOWN: dict[str, KnownModel] = {
    "mlp": KnownModel("mlp", _MLP, options=("sizes",)),
    "control_net": KnownModel("control_net", _CONTROL_NET, {"N": 20, "d": 2}, options=tuple(LETTERS)),
    "gpt": KnownModel("gpt", {"vocab": 65}, options=("preset", "vocab"), preset="cpu"),
    "gpt2": KnownModel("gpt", _GPT2, options=("vocab",)),
    **{variant: _resnet(variant) for variant in get_args(Variant)},
}
"""65 characters are the vocabulary of tiny Shakespeare; 10 classes are CIFAR-10's, 1000 ImageNet's."""


@dataclass(frozen=True)
class ModelInfo:
    """A model: its kind, its settings, the shapes of all its arrays, and the names of those that are trained."""

    model: str
    config: ModelConfig
    shapes: Shapes
    trained: frozenset[str]

    @property
    def parameters(self) -> Shapes:
        """The shapes of what is trained."""
        return {name: shape for name, shape in self.shapes.items() if name in self.trained}

    @property
    def statistics(self) -> Shapes:
        """The shapes of what is not: running statistics."""
        return {name: shape for name, shape in self.shapes.items() if name not in self.trained}


@dataclass(frozen=True)
class Run:
    """Layers or blocks of layers that follow each other and have equal arrays; often a single one.

    `arrays` are those of one of them, by what follows its name; "" where it is the array itself.
    """

    names: tuple[str, ...]
    arrays: Shapes

    @property
    def each(self) -> int:
        """The parameters of one of them."""
        return count(self.arrays)

    @property
    def total(self) -> int:
        """The parameters of all of them."""
        return len(self.names) * self.each


def count(shapes: Mapping[str, Shape]) -> int:
    """How many numbers arrays of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes.values())


def known_model(name: str, options: Mapping[str, Any] | None = None) -> ModelInfo:
    """The model called `name` in `KNOWN`.

    Args:
        name: such as "mlp", "gpt2", "resnet20".
        options: settings and sizes in place of its own; those that are None are not given.

    Raises InputError for an unknown name, an option the model does not have, and one of a wrong value.
    """
    if name not in KNOWN:
        raise InputError("info", expected=f"{one_of(KNOWN)}, or a checkpoint or a folder with one", found=repr(name))
    known = KNOWN[name]
    given = {option: value for option, value in (options or {}).items() if value is not None}
    for option in given:
        if option not in known.options:
            raise InputError(f"info {name}", expected=f"only {_listed(known.options)}", found=_listed([option]))
    settings, sizes = dict(known.settings), dict(known.sizes)
    if known.preset:
        entries = read_preset(known.model, given.pop("preset", known.preset))
        settings |= {entry: value for entry, value in entries.items() if entry in GPTConfig.model_fields}
    settings |= {option: value for option, value in given.items() if option not in LETTERS}
    sizes |= {LETTERS[option]: value for option, value in given.items() if option in LETTERS}
    config = make_config(model_spec(known.model, name), settings, f"info {name}")
    return _info(known.model, config, sizes)


def checkpoint_model(checkpoint: Checkpoint) -> ModelInfo:
    """The model of a checkpoint."""
    sizes: dict[str, int] = {}
    for name, spec in checkpoint.spec.params(checkpoint.config).items():
        dims = zip(spec.dims, checkpoint.params[name].shape, strict=True)
        sizes |= {dim: size for dim, size in dims if isinstance(dim, str)}
    return _info(checkpoint.model, checkpoint.config, sizes)


def _info(model: str, config: ModelConfig, sizes: Mapping[str, int]) -> ModelInfo:
    specs = model_spec(model, "info").params(config)
    shapes = {
        name: tuple(sizes[dim] if isinstance(dim, str) else dim for dim in spec.dims) for name, spec in specs.items()
    }
    return ModelInfo(model, config, shapes, frozenset(name for name, spec in specs.items() if spec.trained))


def runs(shapes: Mapping[str, Shape]) -> list[Run]:
    """The layers that arrays of these names belong to, in order, equal ones in one run.

    A layer is all but the last part of an array's name, up to the first number in it: "layers.0" has the arrays
    "weight" and "bias", the block "layer1.0" has "conv1.weight" and more. A name of one part is a layer of its own.
    """
    layers: dict[str, Shapes] = {}
    for name, shape in shapes.items():
        layer, array = _split(name)
        layers.setdefault(layer, {})[array] = shape
    found: list[Run] = []
    for layer, arrays in layers.items():
        if found and found[-1].arrays == arrays and _follows(layer, found[-1].names[-1]):
            found[-1] = Run((*found[-1].names, layer), arrays)
        else:
            found.append(Run((layer,), arrays))
    return found


def _split(name: str) -> tuple[str, str]:
    """The name of an array as layer and rest."""
    parts = name.split(".")
    end = next((place + 1 for place, part in enumerate(parts[:-1]) if part.isdigit()), max(1, len(parts) - 1))
    return ".".join(parts[:end]), ".".join(parts[end:])


def _follows(layer: str, before: str) -> bool:
    """Whether the one is numbered just after the other."""
    (stem, _, number), (stem_before, _, number_before) = layer.rpartition("."), before.rpartition(".")
    numbered = number.isdigit() and number_before.isdigit()
    return stem == stem_before and numbered and int(number) == int(number_before) + 1


def _listed(options: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"--{option.replace('_', '-')}" for option in options) or "no options"
