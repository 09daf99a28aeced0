"""A decoder-only transformer as a splitting method in time. Beside it: `julia/src/models/gpt.jl`.

One block is one time step Δt of x' = Attn(LN x) + MLP(LN x) on the residual stream x, split in two:

    lie     x ← x + Δt Attn(LN₁ x),   x ← x + Δt MLP(LN₂ x)                                    (Δt = 1: the usual GPT)
    strang  x ← x + Δt/2 MLP(LN₂ x),  x ← x + Δt Attn(LN₁ x),  x ← x + Δt/2 MLP(LN₂ x)

Δt is a setting, or one parameter for each block, as in the networks `odenet` and `odenet-simplex` of `control_net.py`.

Sources: Vaswani et al., NeurIPS 2017; Radford et al., "Language models are unsupervised multitask learners", 2019;
for the reading as an ODE, Lu et al., "Understanding and improving transformer from a multi-particle dynamic system
point of view", 2019. Parameter names are nanoGPT's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..specs.gpt import MLP_WIDTHS, GPTConfig

LAYER_NORM_EPS = 1e-5
"""Added to the variance, not to its root."""


class CausalSelfAttention(nn.Module):
    """Each token looks at itself and the ones before it, in several heads."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.c_attn = nn.Linear(config.width, 3 * config.width)
        self.c_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, memory: LayerMemory | None = None) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        B, T, C = x.shape
        q, k, v = self.c_attn(x).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)  # (B, H, T, C/H)
        if memory is not None:
            k, v = memory.extended(k, v)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return out


class MLP(nn.Module):
    """Two layers applied to each token by itself, with GELU in its tanh form (torch's default is the erf form)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.width, MLP_WIDTHS * config.width)
        self.c_proj = nn.Linear(MLP_WIDTHS * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """One time step: attention and MLP, by Lie or Strang splitting."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.splitting = config.splitting
        self.ln_1 = nn.LayerNorm(config.width, LAYER_NORM_EPS)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.width, LAYER_NORM_EPS)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, dt: TimeStep, memory: LayerMemory | None = None) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        half = self.splitting == "strang"
        if half:
            x = advance(x, dt / 2, self.mlp(self.ln_2(x)))
        x = advance(x, dt, self.attn(self.ln_1(x), memory))
        return advance(x, dt / 2 if half else dt, self.mlp(self.ln_2(x)))


TimeStep = float | Tensor
"""A setting, or a learned one: a tensor without axes."""


def advance(x: Tensor, dt: TimeStep, velocity: Tensor) -> Tensor:
    """x + Δt · velocity."""
    return x + dt * velocity if isinstance(dt, Tensor) else torch.add(x, velocity, alpha=dt)


class GPT(nn.Module):
    """Token and position embeddings, blocks, a last layer norm, and a head tied to the token embedding.

    Args:
        config: vocab V, context, layers, heads, width C, dt, splitting, tied, time_steps.
        params: as in `specs/gpt.py`; `lm_head.weight` where the head is not tied, `dt` (layers,) where time steps are
            learned. They become the parameters, uncopied.
    """

    dt: nn.Parameter | None

    def __init__(self, config: GPTConfig, params: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):  # nothing is allocated: `params` are the arrays
            self.wte = _embedding(config.vocab, config.width)
            self.wpe = _embedding(config.context, config.width)
            self.h = nn.ModuleList(Block(config) for _ in range(config.layers))
            self.ln_f = nn.LayerNorm(config.width, LAYER_NORM_EPS)
            self.lm_head = None if config.tied else nn.Linear(config.width, config.vocab, bias=False)
            self.dt = None if config.time_steps == "fixed" else nn.Parameter(torch.empty(config.layers))
        self.load_state_dict(dict(params), assign=True)

    def forward(self, tokens: Tensor, memory: Memory | None = None) -> Tensor:
        """Logits (B, T, V) for the tokens after `tokens` (B, T); with a memory, these follow the remembered ones."""
        past = 0 if memory is None else memory.length
        x = self.wte(tokens) + self.wpe(torch.arange(past, past + tokens.shape[1], device=tokens.device))
        for layer, (block, dt) in enumerate(zip(self.h, self.time_steps(), strict=True)):
            x = block(x, dt, None if memory is None else memory.layers[layer])
        head = self.wte.weight if self.lm_head is None else self.lm_head.weight
        return F.linear(self.ln_f(x), head)

    def time_steps(self) -> Sequence[TimeStep]:
        """Δt of each block."""
        return [self.config.dt] * self.config.layers if self.dt is None else self.dt.unbind()

    @property
    def simplex(self) -> Mapping[str, float]:
        """The parameters that an optimizer keeps >= 0 with a fixed sum, and that sum."""
        return {"dt": self.config.horizon} if self.config.time_steps == "simplex" else {}

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy, in nats per token, of logits (B, T, V) for targets (B, T)."""
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _embedding(count: int, width: int) -> nn.Embedding:
    """An embedding without the usual draw of initial weights: on "meta", that draw imports two seconds of torch."""
    return nn.Embedding(count, width, _weight=torch.empty(count, width))


class LayerMemory:
    """The keys and values of the tokens that one layer has seen, so that none is computed twice."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.keys = torch.empty(shape, dtype=dtype, device=device)  # (B, H, context, C/H)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    def extended(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, the new ones k, v (B, H, T, C/H) last: several at first, then one at a time."""
        first, self.length = self.length, self.length + k.shape[2]
        if first and k.shape[2] > 1:
            raise ValueError("after the first tokens, a memory takes one token at a time")
        self.keys[:, :, first : self.length] = k
        self.values[:, :, first : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


class Memory:
    """What a `GPT` remembers of up to `context` tokens of B texts: the key/value cache of generation."""

    def __init__(self, model: GPT, B: int = 1) -> None:
        config, weight = model.config, model.wte.weight
        shape = (B, config.heads, config.context, config.width // config.heads)
        self.layers = [LayerMemory(shape, weight.dtype, weight.device) for _ in range(config.layers)]

    @property
    def length(self) -> int:
        """How many tokens are remembered."""
        return self.layers[0].length
