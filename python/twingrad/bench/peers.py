"""What a user would write, to be timed beside the project's own: plain PyTorch, torch.compile, torchdiffeq.

The plain models are the usual ones of tutorials: modules of `torch.nn`, `loss.backward()`, an optimizer of
`torch.optim` with its defaults. The one for text is nanoGPT's design (Karpathy, github.com/karpathy/nanoGPT).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError, one_of
from ..kernels.path import Reference
from ..schedule import COMPARED, AdamWSettings
from ..specs import ResNetConfig
from ..specs.resnet import block_plans
from .call import Call, Problem
from .models import OPTIMIZERS, forward, model_call

PARTS = ("weight", "bias")
RECOMPILATIONS = 64
"""More than any run needs. By default torch stops compiling after eight, and says so only in a log."""


class PlainControlNet(nn.Module):
    """A loop over the layers, by Euler's method or the classical one of Runge and Kutta."""

    def __init__(self, config: Mapping[str, Any], params: Mapping[str, Tensor]) -> None:
        super().__init__()
        methods = {"euler": self.euler, "kutta4": self.kutta4}
        if config["method"] not in methods or config["network"] == "net":
            raise InputError("method", expected=one_of(methods), found=repr(config["method"]))
        self.advance = methods[config["method"]]
        self.K, self.b, self.W, self.mu, self.dt = (nn.Parameter(params[name]) for name in ("K", "b", "W", "mu", "dt"))

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (samples,) of x (samples, d)."""
        for k in range(len(self.dt)):
            x = self.advance(k, x)
        return torch.sigmoid(x @ self.W[0] + self.mu)

    def velocity(self, k: int, y: Tensor) -> Tensor:
        """The right-hand side in layer k."""
        return torch.tanh(F.linear(y, self.K[k], self.b[k]))

    def euler(self, k: int, y: Tensor) -> Tensor:
        """A step of Euler's method."""
        return y + self.dt[k] * self.velocity(k, y)

    def kutta4(self, k: int, y: Tensor) -> Tensor:
        """A step of the classical method of order 4."""
        h = self.dt[k]
        k1 = self.velocity(k, y)
        k2 = self.velocity(k, y + h / 2 * k1)
        k3 = self.velocity(k, y + h / 2 * k2)
        k4 = self.velocity(k, y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def loss(self, prediction: Tensor, c: Tensor) -> Tensor:
        """Half the mean square error."""
        return 0.5 * F.mse_loss(prediction, c)


class SolvedControlNet(PlainControlNet):
    """The same with torchdiffeq's solver in place of the loop (Chen et al., NeurIPS 2018), by Euler's method.

    Time runs from 0 to N, a layer to a unit, so the right-hand side has the factor Δt.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (samples,) of x (samples, d)."""
        from torchdiffeq import odeint

        N = len(self.dt)

        def right_hand_side(t: Tensor, y: Tensor) -> Tensor:
            k = min(int(t), N - 1)
            return self.dt[k] * self.velocity(k, y)

        times = torch.tensor([0.0, float(N)], dtype=x.dtype, device=x.device)
        solution = odeint(right_hand_side, x, times, method="euler", options={"step_size": 1.0})
        return torch.sigmoid(solution[-1] @ self.W[0] + self.mu)


class PlainMLP(nn.Module):
    """Linear layers with an activation between them."""

    def __init__(self, config: Mapping[str, Any], params: Mapping[str, Tensor]) -> None:
        super().__init__()
        activation = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}[config["activation"]]
        with torch.device("meta"):
            layers = [part for sizes in pairwise(config["sizes"]) for part in (nn.Linear(*sizes), activation())]
        self.net = nn.Sequential(*layers[:-1])
        names = {f"layers.{n}.{part}": f"net.{2 * n}.{part}" for n in range(len(layers) // 2) for part in PARTS}
        self.load_state_dict({names[name]: array for name, array in params.items()}, assign=True)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (samples, outputs) of x (samples, inputs)."""
        scores: Tensor = self.net(x)
        return scores

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(scores, labels)


class PlainResidualBlock(nn.Module):
    """Two convolutions with batch norm, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """x (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1 or self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y + x)


class PlainResNet(nn.Module):
    """The family for small images, ResNet-20 and its like, of `torch.nn`'s layers."""

    def __init__(self, config: Mapping[str, Any], params: Mapping[str, Tensor]) -> None:
        super().__init__()
        settings = ResNetConfig(**config)
        if not settings.is_cifar or not settings.residual or settings.mode != "train":
            raise InputError("config", expected="a residual network for small images, in training", found=str(config))
        plans, width = list(block_plans(settings)), settings.first_width
        self.conv1 = nn.Conv2d(settings.in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                *(
                    PlainResidualBlock(plan.inputs, plan.outputs, plan.stride)
                    for plan in plans
                    if plan.name.startswith(f"layer{stage}.")
                )
            )
            for stage in (1, 2, 3)
        )
        self.fc = nn.Linear(plans[-1].outputs, settings.classes)
        device, own = params["fc.weight"].device, self.state_dict()
        counters = {name: own[name].to(device) for name in own if name.endswith("num_batches_tracked")}
        self.load_state_dict({**params, **counters}, assign=True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(logits, labels)


class PlainAttention(nn.Module):
    """Causal attention in several heads, by torch's fused function."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (part.view(B, T, self.heads, C // self.heads).transpose(1, 2) for part in self.c_attn(x).split(C, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))
        return out


class PlainFeedForward(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.gelu = nn.GELU(approximate="tanh")
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        out: Tensor = self.c_proj(self.gelu(self.c_fc(x)))
        return out


class PlainBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = PlainAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = PlainFeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class PlainGPT(nn.Module):
    """A GPT-2 of `torch.nn`'s layers whose head is its token embedding."""

    def __init__(self, config: Mapping[str, Any], params: Mapping[str, Tensor]) -> None:
        super().__init__()
        found = (config["splitting"], config["dt"], config["tied"], config.get("time_steps", "fixed"))
        if found != ("lie", 1.0, True, "fixed"):
            raise InputError("config", expected="the usual GPT: splitting lie, dt 1, tied", found=str(config))
        width = config["width"]
        with torch.device("meta"):
            self.wte = nn.Embedding(config["vocab"], width)
            self.wpe = nn.Embedding(config["context"], width)
            self.h = nn.ModuleList(PlainBlock(width, config["heads"]) for _ in range(config["layers"]))
            self.ln_f = nn.LayerNorm(width)
        self.load_state_dict(dict(params), assign=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of tokens (B, T)."""
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


PLAIN: dict[str, Callable[[Mapping[str, Any], Mapping[str, Tensor]], nn.Module]] = {
    "control_net": PlainControlNet,
    "mlp": PlainMLP,
    "resnet": PlainResNet,
    "gpt": PlainGPT,
}


def plain_call(problem: Problem) -> Call:
    """The plain model's call."""
    work = problem.work
    known = [(subject, quantity) for subject in PLAIN for quantity in PLAIN_CALLS]
    known.remove(("control_net", "step"))  # its descent is TwinGrad's
    if (work.subject, work.quantity) not in known or work.kind != "model":
        raise _does_not_serve(problem, "forward, gradient or step of a model")
    return PLAIN_CALLS[work.quantity](problem, PLAIN[work.subject](work.config, problem.params()))


def _does_not_serve(problem: Problem, expected: str) -> InputError:
    work = problem.work
    return InputError("implementation", expected=f"{expected} for this peer", found=f"{work.subject} {work.quantity}")


def plain_forward(problem: Problem, model: Any) -> Call:
    """Outputs and loss, nothing kept for a gradient."""
    return forward(problem, model, model, Reference())


def plain_gradient(problem: Problem, model: Any) -> Call:
    """Loss, and the parameters' gradients by `loss.backward()`."""

    def run() -> Tensor:
        model.zero_grad()
        with problem.precision():
            loss: Tensor = model.loss(model(**problem.inputs), **problem.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return Call(run)


def plain_step(problem: Problem, model: Any) -> Call:
    """The gradient, its norm clipped, and a step of torch's optimizer with the first step's learning rate."""
    settings = COMPARED[OPTIMIZERS[problem.work.subject]]
    params, rate, differentiate = list(model.parameters()), settings.rate(0), plain_gradient(problem, model).run
    groups = [
        {"params": [param for param in params if param.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [param for param in params if param.ndim < 2], "weight_decay": 0.0},
    ]
    if isinstance(settings, AdamWSettings):
        betas = (settings.beta1, settings.beta2)
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, rate, betas, settings.eps)
    else:
        optimizer = torch.optim.SGD(groups, rate, settings.momentum)

    def run() -> Tensor:
        loss: Tensor = differentiate()
        nn.utils.clip_grad_norm_(params, settings.clip)
        optimizer.step()
        return loss

    return Call(run)


PLAIN_CALLS = {"forward": plain_forward, "gradient": plain_gradient, "step": plain_step}


def compiled_call(problem: Problem) -> Call:
    """The project's model, translated by torch.compile at its first call."""
    if problem.work.kind != "model" or problem.work.quantity not in PLAIN_CALLS:
        raise _does_not_serve(problem, "forward, gradient or step of a model")
    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return model_call(problem, lambda model: torch.compile(model, dynamic=False))


def solved_call(problem: Problem) -> Call:
    """The control network by torchdiffeq's solver."""
    work = problem.work
    if importlib.util.find_spec("torchdiffeq") is None:
        raise InputError("torchdiffeq", expected="the package", found="none", hint="pip install torchdiffeq")
    serves = work.subject == "control_net" and work.quantity in ("forward", "gradient")
    if not serves or work.config["network"] == "net" or work.config["method"] != "euler":
        raise _does_not_serve(problem, "forward or gradient of a residual control network by Euler's method")
    return PLAIN_CALLS[work.quantity](problem, SolvedControlNet(work.config, problem.params()))


def reference_call(problem: Problem) -> Call:
    """The project's model by automatic differentiation of its plain layers."""
    if problem.work.kind != "model":
        raise _does_not_serve(problem, "a model")
    return model_call(problem, path="reference")


PEERS: dict[str, Callable[[Problem], Call]] = {
    "reference": reference_call,
    "plain": plain_call,
    "compile": compiled_call,
    "torchdiffeq": solved_call,
}
"""Other implementations than the project's own, by name."""
