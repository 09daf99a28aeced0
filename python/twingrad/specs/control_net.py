"""Settings and arrays of `control_net`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import model_validator

from .arrays import Array, Arrays, ArraySpec, ModelConfig, ModelSpec, Wrong, float64

Network = Literal["net", "resnet", "odenet", "odenet-simplex"]
Method = Literal["euler", "improved-euler", "kutta3", "kutta4"]


def only_euler_for_net(network: Network, method: Method) -> None:
    """Raise ValueError for a Runge-Kutta method of a network that is no time discretisation."""
    if network == "net" and method != "euler":
        raise ValueError(f"network 'net' is no time discretisation and takes method 'euler', not '{method}'")


class ControlNetConfig(ModelConfig):
    """Settings of `control_net`. Benning et al., J. Comput. Dyn. 6(2), 2019."""

    network: Network
    method: Method
    scale: Literal["mean", "sum"]

    @model_validator(mode="after")
    def _fits(self) -> ControlNetConfig:
        only_euler_for_net(self.network, self.method)
        return self

    @property
    def alpha(self) -> float:
        """The factor of y_k in y_{k+1}: 0 for a plain network, 1 for a residual one."""
        return 0.0 if self.network == "net" else 1.0

    @property
    def learns_dt(self) -> bool:
        """Whether training changes the time steps."""
        return self.network in ("odenet", "odenet-simplex")

    def check(self, groups: Mapping[str, Arrays]) -> tuple[str, str, str] | None:
        """What is wrong where the time steps contradict the network."""
        dt, tolerance = groups["params"]["dt"], 1e-12
        fixed = {"net": 1.0, "resnet": 1.0 / len(dt)}.get(self.network)
        if fixed is not None and np.abs(dt - fixed).max() > tolerance:
            return "params/dt", f"every time step {fixed!r} (network '{self.network}')", f"{dt.tolist()}"
        if self.network == "odenet-simplex" and (dt.min() < -tolerance or abs(dt.sum() - 1) > tolerance):
            found = f"smallest {dt.min()!r}, sum {dt.sum()!r}"
            return "params/dt", "time steps >= 0 with sum 1 (network 'odenet-simplex')", found
        return None


def _zero_or_one(labels: Array) -> Wrong | None:
    wrong = np.flatnonzero((labels != 0.0) & (labels != 1.0))
    return ("labels 0 or 1", f"{labels.flat[wrong[0]]!r} at index {wrong[0]}") if wrong.size else None


CONTROL_NET = ModelSpec(
    name="control_net",
    config=ControlNetConfig,
    params=lambda config: {
        "K": float64("N", "d", "d"),
        "b": float64("N", "d"),
        "W": float64(1, "d"),
        "mu": float64(1),
        "dt": float64("N"),
    },
    inputs=lambda config: {"x": float64("samples", "d")},
    targets=lambda config: {"c": ArraySpec("float64", ("samples",), _zero_or_one)},
    outputs=lambda config: {"prediction": float64("samples")},
    manual_gradient=True,
)
