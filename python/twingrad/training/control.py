"""Training a control network on planar data, on the PyTorch side.

The same file on the Julia side is `julia/src/training/control.jl`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..control.descent import FIRST_STEP_CONSTANT, Costate, Descent, trained_params
from ..data.planar import normal_params, planar
from ..engine import choose_dtype, to_array
from ..format.training import Training, read_training
from ..kernels.path import Reference, make_path
from ..models.control_net import ControlNet
from ..progress import Progress
from ..specs import Arrays, ControlNetConfig
from .settings import ControlSettings, resume_check

CHECKPOINT_SECONDS = 5.0
PROGRESS_SECONDS = 0.2
GRID_POINTS, GRID_EDGE = 101, 1.2


def initial_params(settings: ControlSettings) -> Arrays:
    """Parameters at the start: K and W standard normal, b and μ zero, Δt as set, or as the network has it."""
    N, d = settings.layers, settings.d
    normal = normal_params({"K": (N, d, d), "W": (1, d)}, settings.seed)
    dt = np.full(N, settings.dt or (1.0 if settings.network == "net" else 1.0 / N))
    return {"K": normal["K"], "b": np.zeros((N, d)), "W": normal["W"], "mu": np.zeros(1), "dt": dt}


def train_control(
    settings: ControlSettings,
    iterations: int,
    file: Path,
    versions: Mapping[str, Any],
    progress: Progress,
    path: str = "fast",
) -> Training:
    """Train until `iterations` steps are taken in all, going on from `file` where it holds an earlier part.

    Args:
        settings: everything that determines the run.
        iterations: steps in all.
        file: the training file, rewritten every few seconds and at the end.
        versions: what computes, for the file.
        progress: called now and then with iteration, objective and accuracy.
        path: "fast", where the costate gradient is computed by kernels, or "reference"; automatic differentiation is
            the same on both.
    """
    file = Path(file)
    dtype = choose_dtype(settings.dtype)
    x, c, x_test, c_test = (
        torch.tensor(array, dtype=dtype)
        for split, samples in (("train", settings.samples), ("test", settings.samples_test))
        for array in planar(settings.dataset, split, samples, settings.seed, settings.d)
    )
    config = ControlNetConfig(network=settings.network, method=settings.method, scale="mean")
    initial = initial_params(settings)
    history: dict[str, list[float]] = {}
    iteration, step_constant, params = 0, FIRST_STEP_CONSTANT, initial
    if file.exists():
        saved = read_training(file)
        resume_check(file, saved, "torch", settings, iterations)
        if saved.status == "converged" or (saved.status == "complete" and saved.iteration == iterations):
            return saved
        iteration, step_constant, params = saved.iteration, saved.step_constant, saved.params
        history = {name: list(values) for name, values in saved.history.items()}

    model = ControlNet(config, {name: torch.tensor(array, dtype=dtype) for name, array in params.items()})
    trained = trained_params(model, settings.freeze)
    by_hand = Costate() if path == "reference" else make_path(path, "control_net")
    way = by_hand if settings.gradient == "manual" else Reference()
    descent = Descent(model, way, {"x": x}, {"c": c}, trained, step_constant)

    def evaluate() -> None:
        with torch.no_grad():
            test = model(x_test)
            history["evaluated"].append(iteration)
            history["objective_test"].append(float(model.loss(test, c_test)))
            history["accuracy_train"].append(_accuracy(model(x), c))
            history["accuracy_test"].append(_accuracy(test, c_test))

    def state(status: str) -> Training:
        return Training(
            side="torch",
            versions=versions,
            settings=settings.as_json(),
            iteration=iteration,
            step_constant=descent.step_constant,
            status=status,
            params={name: to_array(param).astype(np.float64) for name, param in model.named_parameters()},
            initial=initial,
            history={
                name: np.array(values, np.int64 if name == "evaluated" else np.float64)
                for name, values in history.items()
            },
            picture={} if status == "running" else _picture(model, x_test, c_test),
        )

    if not history:
        names = ("evaluated", "objective_test", "accuracy_train", "accuracy_test", "step_constant")
        history = {"objective": [descent.objective()], **{name: [] for name in names}}
        evaluate()

    status = "complete"
    saved_at = shown_at = time.monotonic()
    while iteration < iterations:
        taken = descent.step()
        if taken is None:
            status = "converged"
            break
        iteration += 1
        _, objective, accepted = taken
        history["objective"].append(objective)
        history["step_constant"].append(accepted)
        if iteration % settings.evaluate_every == 0:
            evaluate()
        now = time.monotonic()
        if now - shown_at > PROGRESS_SECONDS:
            progress(_report(iteration, history))
            shown_at = now
        if now - saved_at > CHECKPOINT_SECONDS:
            state("running").write(file)
            saved_at = now
    progress(_report(iteration, history))
    final = state(status)
    final.write(file)
    return final


def _report(iteration: int, history: Mapping[str, list[float]]) -> dict[str, Any]:
    return {
        "iteration": iteration,
        "objective": history["objective"][-1],
        "accuracy_test": history["accuracy_test"][-1],
    }


def _accuracy(prediction: Tensor, c: Tensor) -> float:
    return float(((prediction > 0.5) == (c > 0.5)).double().mean())


@torch.no_grad()
def _picture(model: ControlNet, x: Tensor, c: Tensor) -> Arrays:
    """What the figures show: test samples, their ways through the layers, and predictions on a grid."""
    axis = torch.linspace(-GRID_EDGE, GRID_EDGE, GRID_POINTS, dtype=x.dtype)
    grid = torch.zeros(GRID_POINTS**2, x.shape[1], dtype=x.dtype)
    grid[:, :2] = torch.cartesian_prod(axis, axis).flip(1)
    picture = {
        "x": x[:, :2],
        "c": c,
        "prediction": model(x),
        "trajectories": torch.stack(list(model.states(x))),
        "grid_axis": axis,
        "grid_prediction": model(grid).reshape(GRID_POINTS, GRID_POINTS),
    }
    arrays: dict[str, NDArray[np.float64]] = {name: to_array(t).astype(np.float64) for name, t in picture.items()}
    return arrays
