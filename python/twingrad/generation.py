"""Text from a trained GPT, on the PyTorch side. The same file on the Julia side is `julia/src/generation.jl`.

Which token follows is specified in `shared_fixtures/FORMAT.md`, "Generation": both sides draw from the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .data.philox import Stream
from .engine import to_array
from .errors import InputError
from .models.gpt import GPT, Memory
from .specs import Array


@torch.no_grad()
def generate(
    model: GPT,
    prompt: Sequence[int],
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    seed: int = 1,
    cached: bool = True,
    on_token: Callable[[int], None] = lambda _: None,
    on_logits: Callable[[Array], None] = lambda _: None,
) -> list[int]:
    """Continue a text.

    Args:
        model: the network.
        prompt: at least one token id; of a long one the last `context` tokens count.
        count: how many tokens to add.
        temperature: divides the logits; 0 takes the likeliest token each time.
        top_k: draw among the k likeliest tokens only; 0 for all.
        seed: chooses the draws.
        cached: whether keys and values are remembered, which makes a token's cost independent of the tokens before it.
        on_token: called with each new token.
        on_logits: called with the logits (V,) that each was chosen by.

    Returns:
        The new token ids. Where the context is full, the text goes on from the last half context.
    """
    if not prompt:
        raise InputError("prompt", expected="at least one token", found="none")
    vocab = model.config.vocab
    if (wrong := next((place for place, token in enumerate(prompt) if not 0 <= token < vocab), None)) is not None:
        found = f"{prompt[wrong]} at position {wrong}"
        raise InputError("prompt", expected=f"token ids 0 to {vocab - 1}", found=found)
    if not 0.0 <= temperature < math.inf:
        raise InputError("temperature", expected="a finite number from 0 on", found=str(temperature))
    context, device = model.config.context, model.wte.weight.device
    window, memory, added = list(prompt[-context:]), Memory(model), []
    draws = Stream(seed, "sample").uniform(count)
    for draw in draws:
        if len(window) > context:
            window, memory = window[-max(1, context // 2) :], Memory(model)
        if cached:
            new = torch.tensor([window[memory.length :]], device=device)
            logits = to_array(model(new, memory)[0, -1])
        else:
            logits = to_array(model(torch.tensor([window], device=device))[0, -1])
        on_logits(logits)
        token = choose(logits, temperature, top_k, float(draw))
        window.append(token)
        added.append(token)
        on_token(token)
    return added


def choose(logits: Array, temperature: float, top_k: int, draw: float) -> int:
    """The token that the uniform number `draw` means under logits (V,), computed in float64; the first of equals."""
    z = logits.astype(np.float64)
    if temperature == 0.0:
        return int(np.argmax(z))
    if 0 < top_k < z.size:
        z = np.where(z >= np.sort(z)[-top_k], z, -np.inf)
    with np.errstate(over="ignore"):  # at a tiny temperature all but the likeliest get -inf, and weight 0
        cumulative = np.cumsum(np.exp((z - z.max()) / temperature))
    return int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
