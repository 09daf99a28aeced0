"""The residual stream of a trained mini-GPT, and the flow that its blocks discretise, on the PyTorch side.

Block k takes a time step Δt_k of x' = Attn_k(LN₁ x) + MLP_k(LN₂ x). Here the weights stay and each block is solved in m
steps of Δt_k / m, by the model's own splittings and by others; the last stream and the loss come nearer to those of the
flow as m grows, at the order of the scheme. Sources: Lu et al., "Understanding and improving transformer from a
multi-particle dynamic system point of view", 2019; for splittings, McLachlan and Quispel, Acta Numerica 11, 2002.

The same file on the Julia side is `julia/src/experiments/residual_stream.jl`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..control.runge_kutta import TABLEAUS, step
from ..data.batches import window_batch, windows
from ..engine import to_array
from ..format import hdf5, read_checkpoint
from ..format.result import now
from ..models.gpt import GPT, advance
from ..progress import Progress
from ..specs import Array, Arrays
from ..training.gpt import checkpoint_corpus, load_gpt

FORMAT = "twingrad-residual-stream"

Parts = tuple[tuple[str, float], ...]

SCHEMES: dict[str, tuple[str, Parts]] = {
    "lie": ("euler", (("attention", 1.0), ("mlp", 1.0))),
    "strang": ("euler", (("mlp", 0.5), ("attention", 1.0), ("mlp", 0.5))),
    "strang-heun": ("improved-euler", (("mlp", 0.5), ("attention", 1.0), ("mlp", 0.5))),
    "unsplit": ("euler", (("both", 1.0),)),
}
"""How a block is solved: the Runge-Kutta method of its parts, and the parts with their shares of the time step.

`lie` and `strang` are the model's own; `strang-heun` solves the parts to second order, `unsplit` adds them up.
"""
REFERENCE: tuple[str, Parts] = ("kutta4", (("both", 1.0),))


def velocity(block: Any, part: str, x: Tensor) -> Tensor:
    """The right-hand side of a block, or one part of it, at the stream x (B, T, C)."""
    if part == "both":
        return velocity(block, "attention", x) + velocity(block, "mlp", x)
    found: Tensor = block.attn(block.ln_1(x)) if part == "attention" else block.mlp(block.ln_2(x))
    return found


def embedded(model: GPT, tokens: Tensor) -> Tensor:
    """The stream at the start (B, T, C)."""
    start: Tensor = model.wte(tokens) + model.wpe.weight[: tokens.shape[1]]
    return start


def states(model: GPT, tokens: Tensor) -> list[Tensor]:
    """The stream (B, T, C) at the start and after each sublayer of the model as it is."""
    _, parts = SCHEMES[model.config.splitting]
    found = [embedded(model, tokens)]
    for block, dt in zip(model.h, model.time_steps(), strict=True):
        for part, share in parts:
            found.append(advance(found[-1], share * dt, velocity(block, part, found[-1])))
    return found


def solve(model: GPT, tokens: Tensor, scheme: tuple[str, Parts], m: int) -> Tensor:
    """The last stream (B, T, C), each block solved in m steps of a scheme."""
    method, parts = scheme
    x = embedded(model, tokens)
    for block, dt in zip(model.h, model.time_steps(), strict=True):
        for _ in range(m):
            for part, share in parts:
                h = torch.as_tensor(share * dt / m, dtype=x.dtype)
                x = step(TABLEAUS[method], partial(velocity, block, part), x, h, 1.0)
    return x


def loss_of(model: GPT, x: Tensor, targets: Tensor) -> float:
    """The model's loss where its last stream is x."""
    head = model.wte.weight if model.lm_head is None else model.lm_head.weight
    return float(model.loss(torch.nn.functional.linear(model.ln_f(x), head), targets))


@torch.no_grad()
def residual_stream(
    model: GPT, tokens: Array, targets: Array, steps: Sequence[int], progress: Progress = lambda _: None
) -> Arrays:
    """The stream of the model as it is, and what refinement makes of its end.

    Args:
        model: in float64.
        tokens, targets: (B, T).
        steps: numbers of steps in a block, rising.
        progress: told how many of the solutions are done.

    Returns:
        By name, as FORMAT.md lists them under "Residual stream of a mini-GPT".
    """
    ids, wanted = torch.from_numpy(tokens), torch.from_numpy(targets)
    total, done = len(SCHEMES) * len(steps) + 2, 0

    def solution(scheme: tuple[str, Parts], m: int) -> Tensor:
        nonlocal done
        x = solve(model, ids, scheme, m)
        done += 1
        progress({"solutions": done, "of": total})
        return x

    stream = states(model, ids)
    reference, half = solution(REFERENCE, steps[-1]), solution(REFERENCE, steps[-1] // 2)
    arrays: Arrays = {
        "steps": np.array(steps, np.int64),
        "states": to_array(torch.stack(stream)),
        "time_steps": np.array([float(dt) for dt in model.time_steps()]),
        "loss": np.array(loss_of(model, stream[-1], wanted)),
        "reference/final": to_array(reference),
        "reference/half": to_array(half),
        "reference/loss": np.array(loss_of(model, reference, wanted)),
    }
    for name, scheme in SCHEMES.items():
        solved = [solution(scheme, m) for m in steps]
        arrays[f"{name}/final"] = to_array(torch.stack(solved))
        arrays[f"{name}/losses"] = np.array([loss_of(model, x, wanted) for x in solved])
    return arrays


def stream_of(
    file: Path, text: Path, folder: Path, count: int, steps: Sequence[int], progress: Progress = lambda _: None
) -> Arrays:
    """`residual_stream` of the GPT in a checkpoint, on `count` windows of the validation part of a text.

    Raises InputError where the checkpoint is none of a GPT, or the text none of its characters.
    """
    checkpoint = read_checkpoint(file)
    model = load_gpt(checkpoint, file, "float64", "cpu")
    context = model.config.context
    tokens = checkpoint_corpus(checkpoint, file, text, folder).split("validation", context)
    return residual_stream(model, *window_batch(tokens, context, windows(tokens.size, context, count)), steps, progress)


def write_stream(file: Path, arrays: Arrays, versions: Mapping[str, Any]) -> None:
    """Write what `residual_stream` gave, with what computed it."""
    covered = {"side": "torch", "versions": json.dumps(versions, sort_keys=True), "created": now()}
    hdf5.write_sealed(file, FORMAT, covered, arrays)
