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
from .result import now

FORMAT = "twingrad-checkpoint"
JSON_ATTRIBUTES = ("config", "data", "versions", "settings")
COVERED = ("model", "config", "data", "side", "dtype", "versions", "created", "settings", "iteration", "status")
GROUPS = ("params", "first_moment", "second_moment", "history")
STATUSES = ("running", "complete", "imported")
PER_STEP = ("loss", "learning_rate", "gradient_norm", "seconds")
PER_EVALUATION = ("evaluated", "loss_train", "loss_validation")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint.

    `params` are float32 or float64 with PyTorch's names and shapes; the moments are AdamW's, empty where no training
    goes on from here; `history` holds the arrays that FORMAT.md lists, or nothing. `data` says what the model's arrays
    mean to people (for `gpt`: {"tokenizer": ...}), `settings` what determines the training.
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
    specs = checkpoint.spec.params(checkpoint.config)
    for group in ("params", "first_moment", "second_moment"):
        if arrays := getattr(checkpoint, group):
            check_arrays(specs, arrays, f"{path}, /{group}", {}, checkpoint.dtype)
        elif group == "params" or checkpoint.first_moment or checkpoint.second_moment:
            raise InputError(f"{path}, /{group}", expected="the model's arrays", found="nothing")
    if not checkpoint.history:
        return
    found, expected = set(checkpoint.history), {*PER_STEP, *PER_EVALUATION}
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
    hint = "'twingrad train gpt --out DIR' writes DIR/SIDE/best.h5 and DIR/SIDE/last.h5."
    raise InputError(str(place), expected="a checkpoint or a folder with one", found="none", hint=hint)
