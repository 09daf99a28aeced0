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


def autograd_gradient(model: Any, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Evaluation:
    """Loss and gradients by automatic differentiation."""
    inputs = {name: x.detach().requires_grad_(x.is_floating_point()) for name, x in inputs.items()}
    output = model(**inputs)
    loss = model.loss(output, **targets)
    params, floating = dict(model.named_parameters()), {n: x for n, x in inputs.items() if x.requires_grad}
    gradients = iter(torch.autograd.grad(loss, [*params.values(), *floating.values()]))
    grads, grads_inputs = ({name: next(gradients) for name in names} for names in (params, floating))
    return Evaluation(loss.detach(), output.detach(), grads, grads_inputs)


Steps = Callable[[Any, Mapping[str, Tensor], Mapping[str, Tensor], int], list[float]]


def descent_steps(model: Any, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], steps: int) -> list[float]:
    """Steps of the adaptive descent; returns the loss before each."""
    descent = Descent(model, autograd_gradient, inputs, targets, trained_params(model))
    losses = []
    for number in range(steps):
        taken = descent.step()
        if taken is None:
            raise SideError(f"training step {number + 1}: no step size was accepted")
        losses.append(taken[0])
    return losses


def optimizer_steps(name: str) -> Steps:
    """Steps of the optimizer called `name` with its settings in `COMPARED`; they return the loss before each."""

    def take(model: Any, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], steps: int) -> list[float]:
        optimizer, losses = make_optimizer(model, COMPARED[name]), []
        for _ in range(steps):
            here = autograd_gradient(model, inputs, targets)
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
        The datasets of a result file (FORMAT.md): path without leading slash -> array. The output is computed without a
        gradient, the loss on the way to it: a framework may have different code for the two.
    """
    kind, where = choose_dtype(dtype), choose_device(device)
    inputs, targets = (to_tensors(groups[name], kind, where) for name in ("inputs", "targets"))
    calculation = MODELS[model_name]
    (output,) = SPECS[model_name].outputs(config)

    def fresh() -> nn.Module:
        return calculation.model(config, to_tensors(groups["params"], kind, where))

    model = fresh()
    here = autograd_gradient(model, inputs, targets)
    with torch.no_grad():
        plain = fresh()(**inputs)
    result = {"loss": to_array(here.loss), f"outputs/{output}": to_array(plain)} | _gradients(here, "")
    result |= {f"statistics/{name}": to_array(buffer) for name, buffer in model.named_buffers()}
    if calculation.by_hand is not None:
        result |= _gradients(calculation.by_hand(fresh(), inputs, targets), "_manual")
    for name, take in calculation.steps.items() if steps else ():
        model = fresh()
        losses = take(model, inputs, targets, steps)
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
