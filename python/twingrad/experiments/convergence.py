"""Orders of convergence: the flow of a control network, solved with more and more layers, on the PyTorch side.

A control network with Runge-Kutta steps is a discretisation of y' = tanh(K(t) y + b(t)). Here the flow stays the same
while the network gets deeper: each layer becomes m layers of Δt/m, and the errors of the final states and of the
gradient fall like m to the power of minus the method's order. Source: Hairer, Nørsett, Wanner, "Solving Ordinary
Differential Equations I", II.1 to II.3.

The same file on the Julia side is `julia/src/experiments/convergence.jl`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ..control.costate import costate_gradient
from ..data.philox import Floats
from ..data.planar import normal_params, planar
from ..engine import to_array
from ..errors import InputError
from ..format import hdf5, read_training
from ..format.result import now
from ..models.control_net import ControlNet
from ..progress import Progress
from ..specs import MODELS, Arrays, ControlNetConfig, check_arrays
from ..specs.control_net import Method
from ..training.settings import control_settings
from .orders import FORMAT

METHODS: tuple[Method, ...] = get_args(Method)
REFERENCE_METHOD: Method = "kutta4"
REFERENCE_FACTOR = 8
"""The reference takes so many times the steps of the finest grid: its error is 8⁴ times smaller than kutta4's there."""


@dataclass(frozen=True)
class Flow:
    """A flow with piecewise constant controls, a classifier at its end, and points to start from.

    The controls are constant on each of the N layers of the coarsest grid, and so within every step of every finer one:
    each step then solves an equation with a smooth right-hand side, and a method keeps its order. A layer has one
    control; were it the value of a smooth control at the step's left end, every method would be of order 1.

    Args:
        params: `K` (N, d, d), `b` (N, d), `W` (1, d), `mu` (1,), `dt` (N,), float64.
        x: points (points, d).
        c: labels (points,), each 0.0 or 1.0.
    """

    params: Arrays
    x: Floats
    c: Floats


def random_flow(seed: int, layers: int, dataset: str, points: int) -> Flow:
    """A flow in the plane on [0, 1] with random controls in `layers` layers of equal length.

    K, b and W are standard normal (streams `depth/K`, `depth/b`, `depth/W`), μ is 0; the points are test data.
    """
    x, c = planar(dataset, "test", points, seed)
    normal = normal_params({"K": (layers, 2, 2), "b": (layers, 2), "W": (1, 2)}, seed, "depth")
    return Flow({**normal, "mu": np.zeros(1), "dt": np.full(layers, 1.0 / layers)}, x, c)


def trained_flow(file: Path, points: int) -> Flow:
    """The flow that a trained control network discretises: its layers and time steps, and its first test data.

    Raises InputError where the file is no whole training file, or of the network `net`, which discretises nothing.
    """
    training = read_training(file)
    settings = control_settings(training.settings)
    if settings.network == "net":
        expected = "a network that discretises a flow: resnet, odenet or odenet-simplex"
        raise InputError(f"{file}, setting network", expected=expected, found=repr(settings.network))
    config = ControlNetConfig(network=settings.network, method=settings.method, scale="mean")
    check_arrays(MODELS["control_net"].params(config), training.params, f"{file}, /params", {"d": settings.d})
    return Flow(training.params, *planar(settings.dataset, "test", points, settings.seed, settings.d))


def flow_of(settings: Mapping[str, Any]) -> Flow:
    """The flow of a request: the settings of `random_flow`, or of `trained_flow` with the file as `checkpoint`."""
    if "checkpoint" in settings:
        return trained_flow(Path(settings["checkpoint"]), settings["points"])
    return random_flow(**settings)


def refined(flow: Flow, method: Method, m: int) -> ControlNet:
    """The network that takes m steps of `method` in each layer of the flow: controls repeated, Δt divided."""
    params = {name: torch.tensor(array, dtype=torch.float64) for name, array in flow.params.items()}
    params |= {name: params[name].repeat_interleave(m, dim=0) for name in ("K", "b")}
    params["dt"] = (params["dt"] / m).repeat_interleave(m)
    return ControlNet(ControlNetConfig(network="odenet", method=method, scale="mean"), params)


def solve(flow: Flow, method: Method, m: int) -> tuple[Floats, Floats]:
    """Final states (points, d), and the gradient of the loss by the flow's controls (N, d, d + 1), in m steps a layer.

    Entry k of the gradient is [∂L/∂K_k  ∂L/∂b_k], the sum over the m layers that share K_k and b_k. It is the exact
    derivative of the discrete loss (Sanz-Serna, SIAM Review 58(1), 2016): the method applied to the flow and its
    variational equation together, and so of the same order.
    """
    model, x, c = refined(flow, method, m), torch.tensor(flow.x), torch.tensor(flow.c)
    with torch.no_grad():
        for y in model.states(x):
            final = y
    grads = costate_gradient(model, {"x": x}, {"c": c}).grads
    K, b = (_sum_by_layer(grads[name], m) for name in ("K", "b"))
    return to_array(final), to_array(torch.cat([K, b[:, :, None]], dim=2))


def _sum_by_layer(grad: Tensor, m: int) -> Tensor:
    return grad.reshape(-1, m, *grad.shape[1:]).sum(1)


def largest_error(found: Floats, reference: Floats) -> float:
    """max|found - reference| / max|reference|; the largest difference alone where the reference is zero."""
    return float(np.abs(found - reference).max() / (np.abs(reference).max() or 1.0))


def convergence(flow: Flow, steps: Sequence[int], progress: Progress = lambda _: None) -> Arrays:
    """Errors of every method on every grid, against a reference on a much finer one.

    Args:
        flow: what is solved.
        steps: steps per layer of each grid, rising.
        progress: told how many of the solutions are done.

    Returns:
        By name, as FORMAT.md lists them under "Convergence": `steps`, `reference/...`, and for each method `states`,
        `gradients`, `state_errors` and `gradient_errors`.
    """
    total = len(METHODS) * len(steps) + 2
    done = 0

    def solution(method: Method, m: int) -> tuple[Floats, Floats]:
        nonlocal done
        solved = solve(flow, method, m)
        done += 1
        progress({"solutions": done, "of": total})
        return solved

    reference = solution(REFERENCE_METHOD, REFERENCE_FACTOR * steps[-1])
    halved = solution(REFERENCE_METHOD, REFERENCE_FACTOR * steps[-1] // 2)
    arrays: dict[str, Any] = {"steps": np.array(steps, np.int64)}
    for place, kind in enumerate(("state", "gradient")):
        arrays[f"reference/{kind}"] = reference[place]
        arrays[f"reference/{kind}_check"] = np.array(largest_error(halved[place], reference[place]))
    for method in METHODS:
        solved = [solution(method, m) for m in steps]
        for place, kind in enumerate(("state", "gradient")):
            found = [one[place] for one in solved]
            arrays[f"{method}/{kind}s"] = np.stack(found)
            arrays[f"{method}/{kind}_errors"] = np.array([largest_error(one, reference[place]) for one in found])
    return arrays


def write_convergence(file: Path, arrays: Arrays, versions: Mapping[str, Any]) -> None:
    """Write what `convergence` gave, with what computed it."""
    covered = {"side": "torch", "versions": json.dumps(versions, sort_keys=True), "created": now()}
    hdf5.write_sealed(file, FORMAT, covered, arrays)
