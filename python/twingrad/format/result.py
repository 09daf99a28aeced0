"""Results: what one side computed for one case. The same file on the Julia side is `julia/src/format/result.jl`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..specs import Arrays
from . import hdf5

FORMAT = "twingrad-result"
RECORDED_FORMAT = "twingrad-recorded"
COVERED = ("case", "case_digest", "side", "dtype", "device", "versions", "source_digest", "created")
RECORDED_COVERED = ("side", "dtype", "device", "versions", "source_digest", "created")
GROUPS = (
    "loss",
    "outputs",
    "grads",
    "grads_inputs",
    "grads_manual",
    "grads_inputs_manual",
    "statistics",
    "steps",
    "fast",
)


@dataclass(frozen=True)
class Result:
    """The arrays of a result by path ("loss", "outputs/prediction", "grads/K", ...) and where they come from."""

    case: str
    case_digest: str
    side: str
    dtype: str
    device: str
    versions: Mapping[str, Any]
    source_digest: str
    created: str
    arrays: Arrays

    def write(self, path: Path) -> None:
        """Write a result file."""
        attributes = {name: _as_text(getattr(self, name)) for name in COVERED}
        hdf5.write_sealed(path, FORMAT, attributes, self.arrays)


@dataclass(frozen=True)
class Recorded:
    """The last live float64 results of one side for every case."""

    side: str
    dtype: str
    device: str
    versions: Mapping[str, Any]
    source_digest: str
    created: str
    results: Mapping[str, Result]

    def write(self, path: Path) -> None:
        """Write a file of recorded results."""
        attributes = {name: _as_text(getattr(self, name)) for name in RECORDED_COVERED}
        arrays = {
            f"cases/{case}/{name}": array
            for case, result in self.results.items()
            for name, array in result.arrays.items()
        }
        cases = {f"cases/{case}": {"case_digest": result.case_digest} for case, result in self.results.items()}
        hdf5.write_sealed(path, RECORDED_FORMAT, attributes, arrays, cases)


def now() -> str:
    """The present time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_result(path: Path) -> Result:
    """Read and check a result file; raises InputError."""
    contents = hdf5.read_sealed(path, FORMAT, COVERED, GROUPS)
    return Result(**_texts(contents, COVERED), versions=contents.json_object("versions"), arrays=contents.arrays)


def read_recorded(path: Path) -> Recorded:
    """Read and check a file of recorded results; raises InputError."""
    contents = hdf5.read_sealed(path, RECORDED_FORMAT, RECORDED_COVERED, ("cases",))
    attributes = _texts(contents, RECORDED_COVERED)
    versions = contents.json_object("versions")
    results = {}
    for case, case_digest in hdf5.case_digests(contents.group_attributes).items():
        arrays = contents.below(f"cases/{case}")
        results[case] = Result(**attributes, versions=versions, case=case, case_digest=case_digest, arrays=arrays)
    return Recorded(**attributes, versions=versions, results=results)


def _texts(contents: hdf5.Contents, covered: tuple[str, ...]) -> dict[str, Any]:
    return {name: contents.text(name) for name in covered if name != "versions"}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
