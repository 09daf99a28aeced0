"""The PyTorch side's calculation: arrays of a case in, arrays of a result out. No files, no processes.

The same file on the Julia side is `julia/src/engine.jl`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .control.costate import Evaluation, costate_gradient
from .control.descent import Descent, trained_params
from .errors import InputError, SideError, one_of
from .models.control_net import ControlNet
from .specs import Array, Arrays, ControlNetConfig

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
MODELS = {"control_net": ControlNet}
MANUAL_GRADIENTS = {"control_net": costate_gradient}


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


def autograd_gradient(model: ControlNet, x: Tensor, c: Tensor) -> Evaluation:
    """Loss and gradients by automatic differentiation; same result as `costate_gradient`."""
    x = x.detach().requires_grad_()
    prediction = model(x)
    loss = model.loss(prediction, c)
    params = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, [*params.values(), x])
    grads = dict(zip(params, gradients, strict=False))
    return Evaluation(loss.detach(), prediction.detach(), grads, {"x": gradients[-1]})


GRADIENTS = {"ad": autograd_gradient, "manual": costate_gradient}


def evaluate(
    model_name: str,
    config: ControlNetConfig,
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
        The datasets of a result file (FORMAT.md): path without leading slash -> array.
    """
    kind, where = choose_dtype(dtype), choose_device(device)
    params = to_tensors(groups["params"], kind, where)
    x = to_tensors(groups["inputs"], kind, where)["x"]
    c = to_tensors(groups["targets"], kind, where)["c"]
    model = MODELS[model_name](config, params)

    result: dict[str, Array] = {}
    for suffix, gradient in (("", autograd_gradient), ("_manual", MANUAL_GRADIENTS[model_name])):
        value = gradient(model, x, c)
        if not suffix:
            result["loss"] = to_array(value.loss)
            result["outputs/prediction"] = to_array(value.prediction)
        result |= {f"grads{suffix}/{name}": to_array(grad) for name, grad in value.grads.items()}
        result |= {f"grads_inputs{suffix}/{name}": to_array(grad) for name, grad in value.grads_inputs.items()}

    if steps:
        descent = Descent(model, autograd_gradient, x, c, trained_params(model))
        losses = []
        for number in range(steps):
            taken = descent.step()
            if taken is None:
                raise SideError(f"training step {number + 1}: no step size was accepted")
            losses.append(taken[0])
        result["losses"] = np.array(losses, dtype=result["loss"].dtype)
        result |= {f"params_after/{name}": to_array(param) for name, param in model.named_parameters()}
    return result


def loss(model_name: str, config: ControlNetConfig, groups: Mapping[str, Arrays]) -> float:
    """The loss of a case in float64 on the CPU; what finite differences are taken of."""
    kind, where = torch.float64, torch.device("cpu")
    model = MODELS[model_name](config, to_tensors(groups["params"], kind, where))
    inputs, targets = (to_tensors(groups[name], kind, where) for name in ("inputs", "targets"))
    with torch.no_grad():
        return float(model.loss(model(**inputs), **targets))
