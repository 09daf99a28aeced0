"""The Julia package in a notebook: `twingrad.julia.load()` and calls with NumPy arrays.

Use it in a process without torch: two OpenMP runtimes and two signal handlers in one process crash (PythonCall
issues 215, 384 and 435). The harness therefore gives each side a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from .errors import InputError
from .sides.locate_julia import HOW_TO_GET, SWITCHED_OFF, find_julia
from .specs import Array, Arrays


@cache
def load() -> Any:
    """The Julia module `TwinGrad`, through juliacall.

    TWINGRAD_JULIA and TWINGRAD_JULIA_PROJECT name an existing pair, whose project must also hold PythonCall; otherwise
    juliapkg finds Julia, or installs it and the packages, with its progress on stderr.

    Raises:
        InputError: torch is already loaded in this process, or Julia cannot be had.
    """
    if "torch" in sys.modules:
        raise InputError(
            "twingrad.julia.load()",
            expected="a process without torch",
            found="torch already loaded",
            hint="Call it in a fresh kernel before anything imports torch, or use 'twingrad run --side flux'.",
        )
    named = os.environ.get("TWINGRAD_JULIA", "")
    if named.lower() in SWITCHED_OFF:
        raise InputError("TWINGRAD_JULIA", expected="Julia", found=named, hint=HOW_TO_GET)
    if named:
        julia = find_julia()
        if julia is None:
            raise InputError(
                "TWINGRAD_JULIA", expected="Julia with TwinGrad", found=named, hint="See 'twingrad doctor'."
            )
        os.environ.setdefault("PYTHON_JULIACALL_EXE", julia.executable)
        os.environ.setdefault("PYTHON_JULIACALL_PROJECT", julia.project)
    try:
        from juliacall import Main

        Main.seval("using TwinGrad")
    except Exception as error:  # juliapkg and juliacall raise whatever their downloads and Julia raise
        found = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise InputError(
            "twingrad.julia.load()", expected="Julia with TwinGrad", found=found, hint=HOW_TO_GET
        ) from error
    return Main.TwinGrad


def evaluate(
    model: str,
    config: Mapping[str, Any],
    *,
    params: Mapping[str, Array],
    inputs: Mapping[str, Array],
    targets: Mapping[str, Array],
    dtype: str = "float64",
    steps: int = 0,
) -> Arrays:
    """Evaluate a model in Julia, in this process.

    Args:
        model: e.g. "control_net".
        config: the model's settings, as in a case file.
        params, inputs, targets: float64 arrays with Python's shapes, as in a case file.
        dtype: "float64" or "float32".
        steps: training steps to take after the gradient.

    Returns:
        The datasets of a result file by path, with Python's shapes: "loss", "outputs/prediction", "grads/K", ...
    """
    twin = load()
    groups = {"params": params, "inputs": inputs, "targets": targets}
    # The axis rule: the same bytes with the axes reversed are what Julia's files give it.
    reverse = {
        group: {name: np.ascontiguousarray(a).T for name, a in arrays.items()} for group, arrays in groups.items()
    }
    found = twin.evaluate_arrays(model, json.dumps(dict(config)), reverse, dtype, steps)
    return {str(path): np.array(np.asarray(array).T, order="C") for path, array in found.items()}
