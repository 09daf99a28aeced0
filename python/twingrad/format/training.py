"""Trainings of a control network: history, parameters and what the figures show.

The same file on the Julia side is `julia/src/format/training.jl`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..specs import Arrays
from . import hdf5
from .result import now

FORMAT = "twingrad-training"
COVERED = ("side", "versions", "created", "settings", "iteration", "step_constant", "status")
HISTORY = ("objective", "step_constant", "evaluated", "objective_test", "accuracy_train", "accuracy_test")
PICTURE = ("x", "c", "prediction", "trajectories", "grid_axis", "grid_prediction")
STATUSES = ("running", "complete", "converged")


@dataclass(frozen=True)
class Training:
    """The state of a training, enough to go on from and to draw.

    `history` and `picture` hold the arrays that FORMAT.md lists; `picture` is empty while the training runs.
    """

    side: str
    versions: Mapping[str, Any]
    settings: Mapping[str, Any]
    iteration: int
    step_constant: float
    status: str
    params: Arrays
    initial: Arrays
    history: Arrays
    picture: Arrays = field(default_factory=dict)
    created: str = field(default_factory=now)

    def write(self, path: Path) -> None:
        """Write the training atomically."""
        values = {name: getattr(self, name) for name in COVERED}
        values |= {name: json.dumps(values[name], sort_keys=True) for name in ("versions", "settings")}
        groups = {
            "params": self.params,
            "initial": self.initial,
            "history": self.history,
            "picture": self.picture,
        }
        arrays = {f"{group}/{name}": array for group, members in groups.items() for name, array in members.items()}
        hdf5.write_sealed(path, FORMAT, values, arrays)


def read_training(path: Path) -> Training:
    """Read and check a training file; raises InputError."""
    groups = ("params", "initial", "history", "picture")
    contents = hdf5.read_sealed(path, FORMAT, COVERED, groups)
    training = Training(
        side=contents.text("side"),
        versions=contents.json_object("versions"),
        settings=contents.json_object("settings"),
        iteration=contents.integer("iteration"),
        step_constant=contents.number("step_constant"),
        status=contents.text("status"),
        created=contents.text("created"),
        **{group: contents.below(group) for group in groups},
    )
    _check(path, training)
    return training


def _check(path: Path, training: Training) -> None:
    if training.status not in STATUSES:
        where = f"{path}, attribute status"
        raise InputError(where, expected=f"one of {', '.join(STATUSES)}", found=repr(training.status))
    wanted = {"history": HISTORY, "picture": () if training.status == "running" else PICTURE}
    for group, names in wanted.items():
        if set(found := getattr(training, group)) != set(names):
            expected = ", ".join(names) or "no entry"
            raise InputError(f"{path}, /{group}", expected=expected, found=", ".join(sorted(found)) or "no entry")
    lengths = {"objective": training.iteration + 1, "step_constant": training.iteration}
    for name, length in lengths.items():
        if (shape := np.shape(training.history[name])) != (length,):
            raise InputError(f"{path}, /history/{name}", expected=f"shape ({length},)", found=f"shape {shape}")
