"""What determines a training, checked; shared by the command line and the sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError
from ..format.training import Training

FREEZABLE = ("K", "b", "W", "mu", "dt")


class ControlSettings(BaseModel):
    """Settings of `twingrad train control`, stored in the training file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: Literal["donut1d", "donut2d", "squares2d", "spiral2d"]
    network: Literal["net", "resnet", "odenet", "odenet-simplex"]
    method: Literal["euler", "improved-euler", "kutta3", "kutta4"]
    layers: int = Field(20, ge=1, le=10_000)
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
        if self.network == "net" and self.method != "euler":
            raise ValueError(f"network 'net' is no time discretisation and takes method 'euler', not '{self.method}'")
        return self

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return self.model_dump(mode="json")


def control_settings(values: Mapping[str, Any]) -> ControlSettings:
    """Checked settings; raises InputError that names the setting and lists the known values."""
    try:
        return ControlSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "network and method"
        context = first.get("ctx", {})
        match first["type"]:
            case "literal_error":
                expected, found = f"one of {context['expected']}", repr(first["input"])
            case "value_error":
                expected, found = "settings that go together", str(context["error"])
            case _:
                expected, found = first["msg"], repr(first["input"])
        raise InputError(f"train control, {name}", expected=expected, found=found) from None


def resume_check(file: Path, saved: Training, side: str, settings: ControlSettings, iterations: int) -> None:
    """Refuse to go on from a file that another training wrote, or one that is already further."""
    hint = "Choose another --out, or remove the file."
    if saved.side != side:
        raise InputError(f"{file}, attribute side", expected=repr(side), found=repr(saved.side), hint=hint)
    for name, value in settings.as_json().items():
        if saved.settings.get(name) != value:
            where, found = f"{file}, setting {name}", repr(saved.settings.get(name))
            raise InputError(where, expected=repr(value), found=found, hint=hint)
    if saved.iteration > iterations:
        where, expected = f"{file}, attribute iteration", f"at most {iterations}"
        raise InputError(where, expected=expected, found=str(saved.iteration), hint=hint)
