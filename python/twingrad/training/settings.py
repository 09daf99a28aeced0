"""What determines a training, checked; shared by the command line and the sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import InputError
from ..format.training import Training
from ..specs import Method, Network, only_euler_for_net
from ..validation import validate


class ControlSettings(BaseModel):
    """Settings of `twingrad train control`, stored in the training file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: Literal["donut1d", "donut2d", "squares2d", "spiral2d"]
    network: Network
    method: Method
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
        only_euler_for_net(self.network, self.method)
        return self

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return self.model_dump(mode="json")


def control_settings(values: Mapping[str, Any]) -> ControlSettings:
    """Checked settings; raises InputError that names the setting and lists the known values."""
    return validate(ControlSettings, values, "train control")


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
