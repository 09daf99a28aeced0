"""Orders of convergence as the sides show them: asks the sides, fits the orders, compares the sides, saves."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..comparator import relative_error
from ..errors import InputError, SideError
from ..files import replacing
from ..format import hdf5
from ..format.result import now
from ..sides import Worker, is_available, side
from ..specs import Array, Arrays

FORMAT = "twingrad-convergence"
DOCUMENT_FORMAT = "twingrad-orders"
COVERED = ("side", "versions", "created")

ORDERS = {"euler": 1, "improved-euler": 2, "kutta3": 3, "kutta4": 4}
"""The order of each method. Source: Hairer, Nørsett, Wanner, "Solving Ordinary Differential Equations I", II.1."""
KINDS = ("state", "gradient")

FITTED = 4
"""An order is fitted to so many grids, the finest whose errors lie between floor and ceiling (see `observed_order`)."""
FLOOR, CHECK_FACTOR = 1e-12, 100
"""Errors up to 1e-12, or up to 100 times what the reference changes with half its steps, may be the reference's own."""
CEILING = 1.0
"""Relative errors from here on are no approximation, and show no order."""
BOUNDS = {"state": 1e-12, "gradient": 1e-11}
"""How far the sides' final states and gradients may differ, relatively."""


@dataclass(frozen=True)
class Convergence:
    """What one side computed: which side, with what, and the arrays that FORMAT.md lists under "Convergence"."""

    side: str
    versions: Mapping[str, Any]
    arrays: Arrays


def read_convergence(file: Path) -> Convergence:
    """Read a side's answer; raises InputError where the file is damaged."""
    contents = hdf5.read_sealed(file, FORMAT, COVERED, ("steps", "reference", *ORDERS))
    return Convergence(contents.text("side"), contents.json_object("versions"), contents.arrays)


def grids(finest: int) -> list[int]:
    """Steps per layer of each grid: 1, 2, 4, ..., `finest`; raises InputError where that is no such power of two."""
    steps = [2**k for k in range(finest.bit_length())]
    if steps[-1:] != [finest] or len(steps) < FITTED:
        raise InputError("--finest", expected=f"a power of two, at least {2 ** (FITTED - 1)}", found=str(finest))
    return steps


def ask(
    names: Sequence[str],
    flow: Mapping[str, Any],
    steps: Sequence[int],
    *,
    threads: int,
    silence_seconds: float,
    on_progress: Callable[[str, Mapping[str, Any]], None] = lambda *_: None,
) -> tuple[list[Convergence], dict[str, str]]:
    """Ask the named sides, one after another.

    Args:
        names: names of the table of sides.
        flow: the settings of `random_flow` or of `trained_flow` (experiments/convergence).
        steps: steps per layer of each grid.
        threads, silence_seconds: see `Worker`.
        on_progress: told the side and how many of its solutions are done.

    Returns:
        The answers, and for each side that did not run the reason. Raises InputError for a bad request, and the
        last SideError where no side answered.
    """
    answers, not_run = [], {}
    with tempfile.TemporaryDirectory(prefix="twingrad-") as folder:
        for name in names:
            if not is_available(name):
                not_run[name] = "it cannot be had on this machine; 'twingrad doctor' says why"
                continue
            file = Path(folder) / f"{name}.h5"
            request = {"flow": dict(flow), "steps": list(steps), "out": str(file)}
            try:
                with Worker(name, threads=threads, silence_seconds=silence_seconds) as worker:
                    worker.request("convergence", request, partial(on_progress, name))
            except SideError as error:
                not_run[name] = str(error)
                continue
            answers.append(read_convergence(file))
    if not answers:
        raise SideError("; ".join(f"side {name}: {reason}" for name, reason in not_run.items()))
    return answers, not_run


def observed_order(steps: Array, errors: Array, floor: float) -> tuple[float | None, list[int]]:
    """The order that errors show, and the places of the grids it was fitted to.

    The slope of log(error) over log(steps) by least squares, with the sign turned, over the `FITTED` finest grids that
    follow each other with errors between `floor` and `CEILING`; None where there are fewer than two.
    """
    usable = np.flatnonzero((errors > floor) & (errors < CEILING))
    last_run = np.split(usable, np.flatnonzero(np.diff(usable) > 1) + 1)[-1]
    fitted = last_run[-FITTED:]
    if len(fitted) < 2:
        return None, []
    slope = np.polyfit(np.log(steps[fitted]), np.log(errors[fitted]), 1)[0]
    return -float(slope), fitted.tolist()


def document(
    answers: Sequence[Convergence], not_run: Mapping[str, str], flow: Mapping[str, Any], title: str, command: str
) -> dict[str, Any]:
    """Everything that was measured, for the JSON file, the table and the figure.

    Args:
        answers, not_run: what `ask` returned, asked about `flow`.
        title: the flow in words.
        command: the command line.
    """
    first = answers[0].arrays
    return {
        "format": DOCUMENT_FORMAT,
        "format_version": hdf5.FORMAT_VERSION,
        "created": now(),
        "command": command,
        "title": title,
        "flow": dict(flow),
        "layers": len(first["reference/gradient"]),
        "steps": first["steps"].tolist(),
        "expected": ORDERS,
        "fit": {"grids": FITTED, "floor": FLOOR, "floor_of_checks": CHECK_FACTOR, "ceiling": CEILING},
        "sides": {answer.side: _one_side(answer) for answer in answers},
        "not_run": dict(not_run),
        "agreement": [agreement(answers[0], other) for other in answers[1:]],
    }


def _one_side(answer: Convergence) -> dict[str, Any]:
    checks = {kind: float(answer.arrays[f"reference/{kind}_check"]) for kind in KINDS}
    return {
        "title": side(answer.side).title,
        "versions": dict(answer.versions),
        "reference_check": checks,
        "methods": {
            method: {kind: _one_curve(answer.arrays, method, kind, checks[kind]) for kind in KINDS} for method in ORDERS
        },
    }


def _one_curve(arrays: Arrays, method: str, kind: str, check: float) -> dict[str, Any]:
    errors = arrays[f"{method}/{kind}_errors"]
    order, fitted = observed_order(arrays["steps"], errors, max(FLOOR, CHECK_FACTOR * check))
    return {"errors": errors.tolist(), "order": order, "fitted": fitted}


def agreement(one: Convergence, other: Convergence) -> dict[str, Any]:
    """The largest relative differences ‖a − b‖₂ / ‖b‖₂ of two sides' final states and gradients on any grid.

    Also the largest difference of their errors, relative where they exceed 1; it has no bound of its own.
    """
    differences = {
        kind: max(
            relative_error(a, b)
            for method in ORDERS
            for a, b in zip(one.arrays[f"{method}/{kind}s"], other.arrays[f"{method}/{kind}s"], strict=True)
        )
        for kind in KINDS
    }
    errors = max(
        float(np.max(np.abs(a - b) / np.maximum(b, 1.0)))
        for a, b in (
            (one.arrays[f"{method}/{kind}_errors"], other.arrays[f"{method}/{kind}_errors"])
            for method in ORDERS
            for kind in KINDS
        )
    )
    agrees = all(differences[kind] <= BOUNDS[kind] for kind in KINDS)
    return {
        "sides": [one.side, other.side],
        **differences,
        "errors": errors,
        "bounds": BOUNDS,
        "agrees": agrees,
    }


def save(measured: Mapping[str, Any], file: Path, indent: int | None = 1) -> Path:
    """Write the document as JSON, atomically; without an indent it is one line, which suits long arrays."""
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(measured, indent=indent) + "\n", "utf-8")
    return file
