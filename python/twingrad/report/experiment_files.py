"""The saved numbers of experiments: what the report reads of convergence.json, degradation.json and attack.json."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from ..errors import InputError
from ..files import read_json
from ..validation import validate


class _Entries(BaseModel):
    """The entries that tables and figures need; a file has more."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class _Measured(_Entries):
    """What all experiments say of themselves."""

    format_version: Literal[1]
    created: str
    command: str
    not_run: dict[str, str]


class _Side(_Entries):
    title: str
    versions: dict[str, Any]


class Curve(_Entries):
    """The errors on each grid, the order that was fitted to them, and the places of the fitted ones."""

    errors: list[float]
    order: float | None
    fitted: list[int]


class _OrdersSide(_Side):
    methods: dict[str, dict[Literal["state", "gradient"], Curve]]


class _Flow(_Entries):
    points: int


class Orders(_Measured):
    """Orders of convergence."""

    format: Literal["twingrad-orders"]
    title: str
    flow: _Flow
    layers: int
    steps: list[int]
    expected: dict[str, int]
    sides: dict[str, _OrdersSide]


class Network(_Entries):
    """A network that was trained."""

    depth: int
    residual: bool
    seed: int
    training_loss: float
    losses: list[float]


class _DegradationSide(_Side):
    networks: list[Network]


class _DegradationSettings(_Entries):
    width: int
    batch: int
    iterations: int


class _DegradationImages(_Entries):
    name: str


class Degradation(_Measured):
    """Plain and residual networks of several depths."""

    format: Literal["twingrad-degradation"]
    images: _DegradationImages
    settings: _DegradationSettings
    sides: dict[str, _DegradationSide]


class _AttackSide(_Side):
    accuracies: list[float]


class Attack(_Measured):
    """Accuracies under an attack."""

    format: Literal["twingrad-attack"]
    dtype: str
    model: str
    data: str
    kind: Literal["images", "planar"]
    epsilons: list[float]
    labels: list[int]
    classified_differently: list[int]
    sides: dict[str, _AttackSide]


Experiment = TypeVar("Experiment", Orders, Degradation, Attack)


def find_experiments(out: Path, name: str) -> Iterator[Path]:
    """The files NAME.json under OUT/experiments and OUT/training, by path."""
    for folder in ("experiments", "training"):
        yield from sorted((out / folder).rglob(f"{name}.json"))


def read_experiment(file: Path, kind: type[Experiment]) -> Experiment:
    """The numbers of an experiment; raises InputError where the file is damaged, or an entry is missing or unfit."""
    found = validate(kind, read_json(file), str(file))
    if not found.sides:
        raise InputError(f"{file}, sides", expected="a side that ran", found="none")
    return found
