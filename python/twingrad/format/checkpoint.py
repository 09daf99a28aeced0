"""Checkpoints: a model with its weights and, while it is trained, all that is needed to go on.

The same file on the Julia side is `julia/src/format/checkpoint.jl`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, one_of
from ..sides.table import sides
from ..specs import Arrays, ModelConfig, ModelSpec, check_arrays, make_config, model_spec
from . import hdf5
from .case import check_layers
from .result import now

FORMAT = "twingrad-checkpoint"
JSON_ATTRIBUTES = ("config", "data", "versions", "settings")
COVERED = ("model", "config", "data", "side", "dtype", "versions", "created", "settings", "iteration", "status")
GROUPS = ("params", "first_moment", "second_moment", "history")
STATUSES = ("running", "complete", "imported")
PER_STEP = ("loss", "learning_rate", "gradient_norm", "seconds")
PER_EVALUATION = {
    "gpt": ("evaluated", "loss_train", "loss_validation"),
    "classifier": ("evaluated", "loss_train", "loss_test", "accuracy_train", "accuracy_test"),
}
"""What the history holds of each evaluation, for a GPT and for the other models."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint.

    `params` are float32 or float64 with PyTorch's names and shapes; the moments are the optimizer's, of the trained
    ones, empty where no training goes on from here, the second also where the optimizer has none; `history` holds the
    arrays that FORMAT.md lists, or nothing. `data` says what the model's arrays mean to people (for `gpt`:
    {"tokenizer": ...}, for classifiers {"images": ...}), `settings` what determines the training.
    """

    model: str
    config: ModelConfig
    data: Mapping[str, Any]
    side: str
    dtype: str
    versions: Mapping[str, Any]
    settings: Mapping[str, Any]
    iteration: int
    status: str
    params: Arrays
    first_moment: Arrays = field(default_factory=dict)
    second_moment: Arrays = field(default_factory=dict)
    history: Arrays = field(default_factory=dict)
    created: str = field(default_factory=now)

    @property
    def spec(self) -> ModelSpec:
        """What the model is made of."""
        return model_spec(self.model, "checkpoint")

    def without_moments(self) -> Checkpoint:
        """The checkpoint as one that no training goes on from."""
        return replace(self, first_moment={}, second_moment={})

    def write(self, path: Path) -> None:
        """Write the checkpoint atomically."""
        values: dict[str, Any] = {name: getattr(self, name) for name in COVERED}
        values["config"] = self.config.model_dump(mode="json")
        values |= {name: json.dumps(values[name], sort_keys=True) for name in JSON_ATTRIBUTES}
        arrays = {f"{group}/{name}": array for group in GROUPS for name, array in getattr(self, group).items()}
        hdf5.write_sealed(path, FORMAT, values, arrays)


def per_evaluation(model: str) -> tuple[str, ...]:
    """The names of what the history of this model holds of each evaluation."""
    return PER_EVALUATION.get(model, PER_EVALUATION["classifier"])


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint; raises InputError."""
    contents = hdf5.read_sealed(path, FORMAT, COVERED, GROUPS)
    spec = model_spec(contents.text("model"), f"{path}, attribute model")
    checkpoint = Checkpoint(
        model=spec.name,
        config=make_config(spec, contents.json_object("config"), f"{path}, attribute config"),
        data=contents.json_object("data"),
        side=contents.text("side"),
        dtype=contents.text("dtype"),
        versions=contents.json_object("versions"),
        settings=contents.json_object("settings"),
        iteration=contents.integer("iteration"),
        status=contents.text("status"),
        created=contents.text("created"),
        **{group: contents.below(group) for group in GROUPS},
    )
    _check(path, checkpoint)
    return checkpoint


def _check(path: Path, checkpoint: Checkpoint) -> None:
    known = {"status": STATUSES, "dtype": ("float32", "float64"), "side": tuple(sides())}
    for name, values in known.items():
        if (found := getattr(checkpoint, name)) not in values:
            raise InputError(f"{path}, attribute {name}", expected=one_of(values), found=repr(found))
    if checkpoint.iteration < 0:
        raise InputError(f"{path}, attribute iteration", expected="a number from 0 on", found=str(checkpoint.iteration))
    if not checkpoint.params:
        raise InputError(f"{path}, /params", expected="the model's arrays", found="nothing")
    check_layers(checkpoint.config, checkpoint.params, str(path))
    specs = checkpoint.spec.params(checkpoint.config)
    trained = {name: spec for name, spec in specs.items() if spec.trained}
    needed = {
        "params": specs,
        "first_moment": trained if checkpoint.first_moment or checkpoint.second_moment else {},
        "second_moment": trained if checkpoint.second_moment or _has_second_moment(checkpoint) else {},
    }
    for group, wanted in needed.items():
        arrays = getattr(checkpoint, group)
        if wanted and not arrays:
            raise InputError(f"{path}, /{group}", expected="the model's arrays", found="nothing")
        if arrays:
            check_arrays(wanted, arrays, f"{path}, /{group}", {}, checkpoint.dtype)
    if not checkpoint.history:
        return
    found, expected = set(checkpoint.history), {*PER_STEP, *per_evaluation(checkpoint.model)}
    if found != expected:
        where = f"{path}, /history"
        raise InputError(where, expected=", ".join(sorted(expected)), found=", ".join(sorted(found)))
    evaluations = np.size(checkpoint.history["evaluated"])
    for name, array in checkpoint.history.items():
        dtype = "int64" if name == "evaluated" else "float64"
        if str(array.dtype) != dtype:
            raise InputError(f"{path}, /history/{name}", expected=f"dtype {dtype}", found=f"dtype {array.dtype}")
        length = checkpoint.iteration if name in PER_STEP else evaluations
        if array.shape != (length,):
            raise InputError(f"{path}, /history/{name}", expected=f"shape ({length},)", found=f"shape {array.shape}")


def _has_second_moment(checkpoint: Checkpoint) -> bool:
    """Whether a training goes on from here by an optimizer with two moments."""
    return bool(checkpoint.first_moment) and checkpoint.settings.get("optimizer", "adamw") in ("adam", "adamw")


def find_checkpoint(place: Path, side: str, which: str = "best") -> Path:
    """The checkpoint file that `place` means.

    Args:
        place: a file; a folder with best.h5 or last.h5; or a folder with one of these for each side.
        side: the side preferred where there are several.
        which: "best" or "last"; the other stands in where there is but one.

    Raises InputError where there is none, or several of other sides.
    """
    place = Path(place)
    if place.is_file():
        return place
    names = (which, "last" if which == "best" else "best")
    found = [
        next(file for name in names if (file := folder / f"{name}.h5").exists())
        for folder in (place, *(place / name for name in sides()))
        if any((folder / f"{name}.h5").exists() for name in names)
    ]
    if any(file.parent == place / side for file in found):
        found = [file for file in found if file.parent in (place, place / side)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(str(file) for file in found)
        raise InputError(str(place), expected="one checkpoint", found=f"{listed}", hint="Name one of them.")
    hint = "'twingrad train' writes DIR/SIDE/last.h5 and, for a GPT, DIR/SIDE/best.h5."
    raise InputError(str(place), expected="a checkpoint or a folder with one", found="none", hint=hint)
