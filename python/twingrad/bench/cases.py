"""The arrays of a workload, in a file that every side reads: the same weights and the same data for all.

They are of a usual size at every depth, so that no side meets infinities or denormal numbers, which are slow.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.philox import Stream
from ..format import hdf5
from ..specs import MODELS, Array, Arrays, ArraySpec, make_config
from .layer_specs import LAYERS
from .saved import Work

FORMAT, SEED = "twingrad-bench-arrays", 1
GROUPS = ("params", "inputs", "targets")


def write_arrays(work: Work, sizes: Mapping[str, int], folder: Path) -> Path | None:
    """The file of a workload's arrays in `folder`, written if it is not there; None for a ceiling, which has none.

    Workloads that differ in quantity or dtype alone share a file.
    """
    if work.kind == "ceiling":
        return None
    what = json.dumps([work.kind, work.subject, work.config, dict(sizes)], sort_keys=True)
    file = folder / f"{work.subject}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.h5"
    if not file.exists():
        arrays = {
            f"{group}/{name}": array for group, some in make_arrays(work, sizes).items() for name, array in some.items()
        }
        hdf5.write(file, {"format": FORMAT, "format_version": hdf5.FORMAT_VERSION}, arrays)
    return file


def read_arrays(file: Path) -> dict[str, Arrays]:
    """The groups "params", "inputs" and "targets" of such a file."""
    contents = hdf5.read(file, FORMAT)
    return {group: contents.below(group) for group in GROUPS}


def make_arrays(work: Work, sizes: Mapping[str, int]) -> dict[str, Arrays]:
    """The same groups, float64 and int64, in the shapes of the model's specs or the layer's; equal on every machine."""
    if work.kind == "layer":
        spec: Any = LAYERS[work.subject]
        settings: Any = work.config
        ids = work.config.get("classes", 0)
    else:
        spec = MODELS[work.subject]
        settings = make_config(spec, work.config, f"workload {work.name}")
        ids = getattr(settings, "vocab", 0) or getattr(settings, "classes", 0)
    groups = {group: getattr(spec, group)(settings) for group in GROUPS}
    if work.kind == "generate":
        groups["targets"] = {}  # a text to be continued has none
    return {
        group: {name: _array(f"{group}/{name}", array, sizes, ids) for name, array in specs.items()}
        for group, specs in groups.items()
    }


def _array(path: str, spec: ArraySpec, sizes: Mapping[str, int], ids: int) -> Array:
    shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.dims)
    stream, count = Stream(SEED, f"bench/{path}"), math.prod(shape)
    if spec.dtype == "int64":
        return (ids * stream.uniform(count)).astype(np.int64).reshape(shape)
    if path == "targets/c":
        return np.round(stream.uniform(count)).reshape(shape)
    if path == "params/dt":
        return np.full(shape, 1.0 / count)
    values: Array = _scaled(path, stream.normal(count).reshape(shape))
    return values


def _scaled(path: str, normal: Array) -> Array:
    """Weights after He et al. 2015; norms near the identity; data of size 1."""
    if not path.startswith("params/"):
        return normal
    if not path.endswith(("weight", "running_var")) and normal.ndim == 1:
        return 0.1 * normal
    if normal.ndim == 1:
        return 1.0 + 0.1 * np.tanh(normal)
    reads = math.prod(normal.shape[1:]) / 2.0 if normal.ndim == 4 else normal.shape[-1]
    return normal / math.sqrt(reads)
