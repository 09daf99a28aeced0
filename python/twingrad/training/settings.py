"""What determines a training, checked; shared by the command line and the sides."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .. import paths
from ..errors import InputError, one_of
from ..format import Checkpoint, Training
from ..schedule import AdamWSettings, SGDSettings
from ..specs import GPTConfig, MLPConfig, ResNetConfig
from ..specs.control_net import Method, Network, only_euler_for_net
from ..specs.gpt import TimeSteps, gpt_contradiction
from ..specs.mlp import Activation, Loss
from ..specs.resnet import Variant
from ..validation import validate

ANOTHER_OUT = "Choose another --out, or remove the file."
OWN_STEPS: dict[Network, str] = {"net": "time steps of 1", "odenet-simplex": "time steps with the sum 1"}
"""The networks whose first time steps cannot be chosen, and what they are."""


class ControlSettings(BaseModel):
    """Settings of `twingrad train control`, stored in the training file.

    `dt` is the time step at the start, which a `resnet` keeps; 0 for what the network has: 1/layers, or 1 in a `net`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dataset: Literal["donut1d", "donut2d", "squares2d", "spiral2d"]
    network: Network
    method: Method
    layers: int = Field(20, ge=1, le=10_000)
    dt: float = Field(0.0, ge=0)
    d: int = Field(2, ge=2, le=1_000)
    samples: int = Field(500, ge=1)
    samples_test: int = Field(500, ge=1)
    seed: int = Field(1, ge=0, lt=2**63)
    freeze: tuple[Literal["K", "b", "W", "mu", "dt"], ...] = ()
    gradient: Literal["ad", "manual"] = "manual"
    dtype: Literal["float64", "float32"] = "float64"
    evaluate_every: int = Field(10, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> ControlSettings:
        only_euler_for_net(self.network, self.method)
        if self.dt and self.network in OWN_STEPS:
            own = OWN_STEPS[self.network]
            raise ValueError(f"network '{self.network}' starts from {own} and takes dt 0, not {self.dt}")
        return self

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return self.model_dump(mode="json")


def control_settings(values: Mapping[str, Any]) -> ControlSettings:
    """Checked settings; raises InputError that names the setting and lists the known values."""
    return validate(ControlSettings, values, "train control")


class GPTSettings(BaseModel):
    """Settings of `twingrad train gpt`, stored in its checkpoints: everything that determines the numbers.

    A joint batch is `accumulation` batches of `batch` samples. `dtype` "bfloat16" keeps float32 weights and multiplies
    in bfloat16.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tokenizer: Literal["char", "byte"] = "char"
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    width: int = Field(ge=1)
    context: int = Field(ge=1)
    dt: float = 1.0
    splitting: Literal["lie", "strang"] = "lie"
    tied: bool = True
    time_steps: TimeSteps = "fixed"
    batch: int = Field(ge=1)
    accumulation: int = Field(1, ge=1)
    iterations: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    min_learning_rate: float = Field(ge=0)
    warmup: int = Field(ge=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    clip: float = Field(ge=0)
    seed: int = Field(1, ge=0, lt=2**63)
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    evaluate_every: int = Field(ge=1)
    evaluation_windows: int = Field(ge=0)

    @model_validator(mode="after")
    def _fits(self) -> GPTSettings:
        if problem := gpt_contradiction(self):
            raise ValueError(problem)
        return self

    @property
    def joint_batch(self) -> int:
        """Samples of one step."""
        return self.batch * self.accumulation

    def config(self, vocab: int) -> GPTConfig:
        """The settings of the model for a vocabulary of this size."""
        shared = ("context", "layers", "heads", "width", "dt", "splitting", "tied", "time_steps")
        return GPTConfig(vocab=vocab, **{name: getattr(self, name) for name in shared})

    def optimizer_settings(self) -> AdamWSettings:
        """The settings of the optimizer."""
        shared = ("learning_rate", "min_learning_rate", "warmup", "beta1", "beta2", "weight_decay", "clip")
        return AdamWSettings(decay=self.iterations, **{name: getattr(self, name) for name in shared})

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return self.model_dump(mode="json")


def gpt_settings(values: Mapping[str, Any]) -> GPTSettings:
    """Checked settings; raises InputError that names the setting and lists the known values."""
    return validate(GPTSettings, values, "train gpt")


class ClassifierSettings(BaseModel):
    """Settings that all trainings on images share, stored in their checkpoints: everything that determines the numbers.

    `pad` and `flip` augment the training images; an evaluation takes the first `evaluation_images` of either part, or
    all where that is 0. `optimizer` "gradient-descent" is "sgd" without momentum and decay, "adam" is "adamw" without
    decay; what an optimizer lacks is ignored. `dtype` "bfloat16" keeps float32 weights and multiplies in bfloat16.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    batch: int = Field(ge=1)
    accumulation: int = Field(1, ge=1)
    iterations: int = Field(ge=1)
    optimizer: Literal["gradient-descent", "sgd", "adam", "adamw"]
    learning_rate: float = Field(gt=0)
    min_learning_rate: float = Field(ge=0)
    warmup: int = Field(ge=0)
    momentum: float = Field(ge=0, lt=1)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    clip: float = Field(ge=0)
    pad: int = Field(ge=0, le=1000)
    flip: bool
    seed: int = Field(1, ge=0, lt=2**63)
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    evaluate_every: int = Field(ge=1)
    evaluation_images: int = Field(ge=0)

    @property
    def joint_batch(self) -> int:
        """Samples of one step."""
        return self.batch * self.accumulation

    def config(self, shape: tuple[int, int, int], classes: int) -> MLPConfig | ResNetConfig:
        """The settings of the model for images of this shape (C, H, W)."""
        raise NotImplementedError

    def optimizer_settings(self) -> AdamWSettings | SGDSettings:
        """The settings of the optimizer."""
        shared = {name: getattr(self, name) for name in ("learning_rate", "min_learning_rate", "warmup", "clip")}
        decay = self.weight_decay if self.optimizer in ("sgd", "adamw") else 0.0
        shared |= {"decay": self.iterations, "weight_decay": decay}
        if self.optimizer in ("adam", "adamw"):
            return AdamWSettings(**shared, beta1=self.beta1, beta2=self.beta2)
        return SGDSettings(**shared, momentum=self.momentum if self.optimizer == "sgd" else 0.0)

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return self.model_dump(mode="json")


class MLPSettings(ClassifierSettings):
    """Settings of `twingrad train mlp`; `hidden` are the numbers of hidden units, layer by layer."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...]
    activation: Activation
    loss: Loss

    def config(self, shape: tuple[int, int, int], classes: int) -> MLPConfig:
        """The settings of the model for images of this shape (C, H, W)."""
        sizes = [math.prod(shape), *self.hidden, classes]
        return MLPConfig(sizes=sizes, activation=self.activation, loss=self.loss)


class ResNetSettings(ClassifierSettings):
    """Settings of `twingrad train resnet`; `width` 0 is the variant's own."""

    variant: Variant
    width: int = Field(ge=0)
    residual: bool

    def config(self, shape: tuple[int, int, int], classes: int) -> ResNetConfig:
        """The settings of the model for images of this shape (C, H, W)."""
        own = {name: getattr(self, name) for name in ("variant", "width", "residual")}
        return ResNetConfig(in_channels=shape[0], classes=classes, mode="train", **own)


CLASSIFIER_SETTINGS: dict[str, type[ClassifierSettings]] = {"mlp": MLPSettings, "resnet": ResNetSettings}


def classifier_settings(model: str, values: Mapping[str, Any]) -> ClassifierSettings:
    """Checked settings; raises InputError that names the setting and lists the known values."""
    return validate(CLASSIFIER_SETTINGS[model], values, f"train {model}")


def presets(model: str) -> dict[str, dict[str, Any]]:
    """All settings of `shared_fixtures/presets.toml` for a model, by the name of a preset."""
    table: dict[str, dict[str, dict[str, Any]]] = tomllib.loads(
        (paths.shared_fixtures() / "presets.toml").read_text("utf-8")
    )
    return table[model]


def preset(model: str, name: str) -> dict[str, Any]:
    """The settings of `shared_fixtures/presets.toml` by the name of a preset; raises InputError for an unknown one."""
    known = presets(model)
    if name not in known:
        raise InputError("preset", expected=one_of(known), found=repr(name))
    return dict(known[name])


def resume_check(file: Path, saved: Training | Checkpoint, side: str, settings: BaseModel, iterations: int) -> None:
    """Refuse to go on from a file that another training wrote, or one that is already further.

    A setting that the file lacks, since it is older than the setting, has its default.
    """
    if saved.side != side:
        raise InputError(f"{file}, attribute side", expected=repr(side), found=repr(saved.side), hint=ANOTHER_OUT)
    for name, value in settings.model_dump(mode="json").items():
        field = type(settings).model_fields[name]
        found = saved.settings.get(name, None if field.is_required() else field.default)
        if found != value:
            raise InputError(f"{file}, setting {name}", expected=repr(value), found=repr(found), hint=ANOTHER_OUT)
    if saved.iteration > iterations:
        where, expected = f"{file}, attribute iteration", f"at most {iterations}"
        raise InputError(where, expected=expected, found=str(saved.iteration), hint=ANOTHER_OUT)
