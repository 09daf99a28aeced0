"""The PyTorch side's calculation: arrays of a case in, arrays of a result out. No files, no processes.

The same file on the Julia side is `julia/src/engine.jl`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .control.costate import costate_gradient
from .control.descent import Descent, trained_params
from .errors import InputError, SideError, one_of
from .evaluation import Evaluation
from .kernels.path import FAST, Reference, make_path
from .models.control_net import ControlNet
from .models.gpt import GPT
from .models.mlp import MultilayerPerceptron, backpropagation
from .models.resnet import ResNet
from .optimizers import make_optimizer
from .schedule import COMPARED
from .specs import MODELS as SPECS
from .specs import Array, Arrays, ModelConfig

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_dtype(name: str) -> torch.dtype:
    """The dtype called `name`; InputError lists the known ones."""
    if name not in DTYPES:
        raise InputError("dtype", expected=one_of(DTYPES), found=repr(name))
    return DTYPES[name]


def choose_device(name: str) -> torch.device:
    """The device called `name`, "cpu" or "cuda"; InputError where it is unknown or absent."""
    if name not in ("cpu", "cuda"):
        raise InputError("device", expected="one of cpu, cuda", found=repr(name))
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device", expected="a CUDA device", found="none that torch can use", hint="Use --device cpu.")
    return torch.device(name)


def to_tensors(arrays: Mapping[str, Array], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Copies of the arrays; floating-point ones take `dtype`, integers stay int64. Axes stay as they are."""
    return {
        name: torch.tensor(array, dtype=dtype if array.dtype.kind == "f" else torch.int64, device=device)
        for name, array in arrays.items()
    }


def to_array(tensor: Tensor) -> Array:
    """The tensor's values as an array of its own dtype (float32 for bfloat16, which NumPy lacks)."""
    tensor = tensor.detach().cpu()
    return np.array((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


Steps = Callable[[Reference, Any, Mapping[str, Tensor], Mapping[str, Tensor], int], list[float]]


def descent_steps(
    path: Reference, model: Any, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], steps: int
) -> list[float]:
    """Steps of the adaptive descent; returns the loss before each."""
    descent = Descent(model, path, inputs, targets, trained_params(model))
    losses = []
    for number in range(steps):
        taken = descent.step()
        if taken is None:
            raise SideError(f"training step {number + 1}: no step size was accepted")
        losses.append(taken[0])
    return losses


def optimizer_steps(name: str) -> Steps:
    """Steps of the optimizer called `name` with its settings in `COMPARED`; they return the loss before each."""

    def take(
        path: Reference, model: Any, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], steps: int
    ) -> list[float]:
        optimizer, losses = make_optimizer(model, COMPARED[name]), []
        for _ in range(steps):
            here = path.gradient(model, inputs, targets)
            for param_name, param in model.named_parameters():
                param.grad = here.grads[param_name]
            optimizer.step()
            losses.append(float(here.loss))
        return losses

    return take


def _optimizers(*names: str) -> dict[str, Steps]:
    return {name: optimizer_steps(name) for name in names}


@dataclass(frozen=True)
class Calculation:
    """How one model is computed: its module, its ways to train, its hand-derived gradient where it has one."""

    model: Callable[[Any, Mapping[str, Tensor]], nn.Module]
    steps: Mapping[str, Steps]
    by_hand: Callable[[Any, Mapping[str, Tensor], Mapping[str, Tensor]], Evaluation] | None = None


MODELS = {
    "control_net": Calculation(ControlNet, {"descent": descent_steps}, costate_gradient),
    "gpt": Calculation(GPT, _optimizers("adamw")),
    "mlp": Calculation(MultilayerPerceptron, _optimizers("gradient-descent", "sgd", "adam", "adamw"), backpropagation),
    "resnet": Calculation(ResNet, _optimizers("sgd", "adamw")),
}


def evaluate(
    model_name: str,
    config: ModelConfig,
    groups: Mapping[str, Arrays],
    *,
    dtype: str = "float64",
    device: str = "cpu",
    steps: int = 0,
) -> dict[str, Any]:
    """Evaluate a case.

    Args:
        model_name: a name in `MODELS`.
        config: the model's settings.
        groups: the arrays of "params", "inputs" and "targets", as in the case file.
        dtype: "float64", "float32" or "bfloat16".
        device: "cpu" or "cuda".
        steps: training steps to take after the gradient; 0 for none.

    Returns:
        The datasets of a result file (FORMAT.md): path without leading slash -> array, those of the fast path below
        "fast/". The output is computed without a gradient, the loss on the way to it: a framework may have different
        code for the two.
    """
    kind, where = choose_dtype(dtype), choose_device(device)
    inputs, targets = (to_tensors(groups[name], kind, where) for name in ("inputs", "targets"))
    calculation = MODELS[model_name]

    def fresh() -> nn.Module:
        return calculation.model(config, to_tensors(groups["params"], kind, where))

    result = _on_path(model_name, config, Reference(), fresh, (inputs, targets), steps)
    if calculation.by_hand is not None:
        result |= _gradients(calculation.by_hand(fresh(), inputs, targets), "_manual")
    if model_name in FAST:
        fast = _on_path(model_name, config, make_path("fast", model_name), fresh, (inputs, targets), steps)
        result |= {f"fast/{name}": array for name, array in fast.items()}
    return result


def _on_path(
    model_name: str,
    config: ModelConfig,
    path: Reference,
    fresh: Callable[[], nn.Module],
    data: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    steps: int,
) -> dict[str, Any]:
    """What one path makes of models as `fresh` gives them, on inputs and targets."""
    (output,) = SPECS[model_name].outputs(config)
    model = path.prepare(fresh())
    here = path.gradient(model, *data)
    result: dict[str, Any] = {"loss": to_array(here.loss)} | _gradients(here, "")
    result |= {f"statistics/{name}": to_array(buffer) for name, buffer in model.named_buffers()}
    result[f"outputs/{output}"] = to_array(path.output(path.prepare(fresh()), data[0]))
    for name, take in MODELS[model_name].steps.items() if steps else ():
        model = path.prepare(fresh())
        losses = take(path, model, *data, steps)
        result[f"steps/{name}/losses"] = np.array(losses, dtype=result["loss"].dtype)
        for param, array in model.state_dict().items():
            result[f"steps/{name}/params_after/{param}"] = to_array(array)
    return result


def _gradients(of: Evaluation, suffix: str) -> Arrays:
    return {
        **{f"grads{suffix}/{name}": to_array(grad) for name, grad in of.grads.items()},
        **{f"grads_inputs{suffix}/{name}": to_array(grad) for name, grad in of.grads_inputs.items()},
    }


def loss_function(model_name: str, config: ModelConfig) -> Callable[[Mapping[str, Arrays]], float]:
    """The loss of a case's arrays in float64 on the CPU; what finite differences are taken of."""
    kind, where, model = torch.float64, torch.device("cpu"), None

    @torch.no_grad()
    def loss(groups: Mapping[str, Arrays]) -> float:
        nonlocal model
        params, inputs, targets = (to_tensors(groups[name], kind, where) for name in ("params", "inputs", "targets"))
        if model is None:
            model = MODELS[model_name].model(config, params)
        else:
            model.load_state_dict(params)
        module: Any = model
        return float(module.loss(module(**inputs), **targets))

    return loss
