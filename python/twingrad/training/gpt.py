"""Training the mini-GPT on text, on the PyTorch side.

The same file on the Julia side is `julia/src/training/gpt.jl`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..data.batches import training_batch, window_batch, windows
from ..data.philox import Stream
from ..data.text import Corpus, Tokens, open_corpus, tokenizer_from_json
from ..engine import choose_device, choose_dtype
from ..errors import InputError
from ..format.checkpoint import Checkpoint, read_checkpoint
from ..models.gpt import GPT
from ..progress import Progress
from ..specs import MODELS, Array, Arrays, GPTConfig
from .distributed import Team
from .run import Run, Task, preemption
from .settings import GPTSettings


def initial_params(config: GPTConfig, seed: int) -> Arrays:
    """Weights at the start (GPT-2's, as nanoGPT has them): normal with σ = 0.02, smaller where a branch ends.

    The weights that lead back to the residual stream have σ = 0.02 / √(2 layers); biases are 0, layer norms 1 and 0,
    learned time steps the setting `dt`.
    """
    params: Arrays = {}
    for name, spec in MODELS["gpt"].params(config).items():
        shape = tuple(dim for dim in spec.dims if isinstance(dim, int))
        if name == "dt":
            params[name] = np.full(shape, config.dt)
        elif len(shape) == 1:
            params[name] = np.full(shape, 1.0 if name.endswith("weight") else 0.0)
        else:
            sigma = 0.02 / math.sqrt(2 * config.layers) if name.endswith("c_proj.weight") else 0.02
            params[name] = sigma * Stream(seed, f"init/{name}").normal(math.prod(shape)).reshape(shape)
    return params


def train_gpt(
    settings: GPTSettings,
    text: Path,
    out: Path,
    versions: Mapping[str, Any],
    progress: Progress,
    *,
    until: int | None = None,
    device: str = "cpu",
    compiled: bool = False,
    path: str = "fast",
    team: Team | None = None,
) -> Checkpoint:
    """Train until `settings.iterations` steps are taken in all, going on from OUT/torch/last.h5 where it is there.

    Args:
        settings: everything that determines the numbers.
        text: the text file.
        out: the folder for torch/last.h5, torch/best.h5 and the tokens.
        versions: what computes, for the files.
        progress: called now and then with iteration, loss, validation loss and tokens per second.
        until: stop after this many steps; the learning rate still falls as for all of them.
        device: "cpu" or "cuda".
        compiled: whether torch.compile translates the model first.
        path: "fast", or "reference": automatic differentiation of the plain layers.
        team: the processes that train together.

    Returns:
        The last checkpoint.

    Raises:
        InputError: settings, text or an earlier checkpoint in `out` do not fit.
        SideError: the loss is no longer finite; the earlier checkpoints stay as they are.
    """
    team = team or Team()
    with preemption() as asked:
        corpus = team.all_or_none(lambda: open_corpus(text, settings.tokenizer, out))
        team.check_same(str(text), f"the text of SHA-256 {corpus.digest}", "All machines must read the same text.")
        run = Run(TextTask(settings, corpus), out, versions, team, device, compiled, path)
        return run.train_until(until, progress, asked)


class TextTask(Task):
    """A GPT, and a text to train it on."""

    model, source, best, unit = "gpt", "text", "loss_validation", "tokens"
    config: GPTConfig
    settings: GPTSettings

    def __init__(self, settings: GPTSettings, corpus: Corpus) -> None:
        self.settings, self.config = settings, settings.config(corpus.tokenizer.vocab)
        self.train_tokens = corpus.split("train", settings.context)
        self.validation_tokens = corpus.split("validation", settings.context)
        self.units_per_step = settings.joint_batch * settings.context
        self.data: Mapping[str, Any] = {
            "tokenizer": corpus.tokenizer.as_json(),
            "text": {"name": corpus.name, "digest": corpus.digest},
        }

    def initial_params(self) -> Arrays:
        """GPT-2's weights at the start."""
        return initial_params(self.config, self.settings.seed)

    def blocks(self, model: GPT) -> Iterable[nn.Module]:
        """The layers."""
        return model.h

    def training_batch(self, first: int, count: int) -> tuple[Array, Array]:
        """Tokens and targets (count, context)."""
        return training_batch(self.train_tokens, self.settings.context, self.settings.seed, first, count)

    def evaluate(self, module: nn.Module, where: Mapping[str, Any]) -> dict[str, float]:
        """Losses on windows of both parts of the text."""
        sizes = self.settings.context, self.settings.batch, self.settings.evaluation_windows
        parts = {"loss_train": self.train_tokens, "loss_validation": self.validation_tokens}
        return {name: mean_loss(module, tokens, *sizes, **where) for name, tokens in parts.items()}


@torch.no_grad()
def mean_loss(
    model: nn.Module,
    tokens: Tokens,
    context: int,
    batch: int,
    count: int,
    *,
    device: torch.device,
    precision: Callable[[], Any] = nullcontext,
    team: Team | None = None,
) -> float:
    """Mean cross-entropy (nats per token) over `count` evenly spread windows (0: all), `batch` at a time.

    The processes of a team share the windows. One for which none is left in the last batch computes the first again,
    for nothing: with FSDP all must call the model equally often.
    """
    team = team or Team()
    starts, total = windows(tokens.size, context, count), 0.0
    for first in range(0, starts.size, batch):
        chosen = starts[first : first + batch]
        own = chosen[team.rank :: team.size]
        arrays = window_batch(tokens, context, own if own.size else chosen[:1])
        inputs, targets = (torch.from_numpy(array).to(device) for array in arrays)
        with precision():
            total += own.size * float(nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()))
    return team.sums(total)[0] / int(starts.size)


def evaluate_checkpoint(file: Path, text: Path, folder: Path, dtype: str, device: str, batch: int = 12) -> float:
    """The loss of a checkpoint on the whole validation part of a text; nats per token."""
    checkpoint = read_checkpoint(file)
    model, where = load_gpt(checkpoint, file, dtype, device), choose_device(device)
    tokens = checkpoint_corpus(checkpoint, file, text, folder).split("validation", model.config.context)
    return mean_loss(model, tokens, model.config.context, batch, 0, device=where)


def checkpoint_corpus(checkpoint: Checkpoint, file: Path, text: Path, folder: Path) -> Corpus:
    """A text in the tokens of a checkpoint; raises InputError where it is one of other characters."""
    tokenizer = tokenizer_from_json(checkpoint.data.get("tokenizer"), f"{file}, attribute data, tokenizer")
    corpus = open_corpus(text, tokenizer.kind, folder)
    if corpus.tokenizer != tokenizer:
        expected = f"a text of the {tokenizer.vocab} characters of {file}"
        raise InputError(str(text), expected=expected, found=f"one of {corpus.tokenizer.vocab} characters")
    return corpus


def load_gpt(checkpoint: Checkpoint, file: Path, dtype: str, device: str) -> GPT:
    """The model of a checkpoint; raises InputError where it is none of this architecture."""
    if not isinstance(checkpoint.config, GPTConfig):
        raise InputError(f"{file}, attribute model", expected="'gpt'", found=repr(checkpoint.model))
    kind, where = choose_dtype(dtype), choose_device(device)
    params = {name: torch.tensor(array, dtype=kind, device=where) for name, array in checkpoint.params.items()}
    return GPT(checkpoint.config, params)
