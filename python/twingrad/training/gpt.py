"""Training the mini-GPT on text, on the PyTorch side.

The same file on the Julia side is `julia/src/training/gpt.jl`.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.batches import training_batch, window_batch, windows
from ..data.philox import Stream
from ..data.text import Corpus, Tokens, open_corpus, tokenizer_from_json
from ..engine import choose_device, choose_dtype, to_array
from ..errors import InputError, SideError
from ..files import make_folder
from ..format.checkpoint import PER_EVALUATION, PER_STEP, Checkpoint, read_checkpoint
from ..models.gpt import GPT
from ..optimizers import AdamW, whole
from ..specs import MODELS, Arrays, GPTConfig
from .distributed import Team
from .settings import ANOTHER_OUT, GPTSettings, resume_check

CHECKPOINT_SECONDS = 30.0
PROGRESS_SECONDS = 0.2
PREEMPTION = (signal.SIGUSR1, signal.SIGTERM)
"""The signals at which a training saves and leaves: what Slurm sends before it takes a machine away."""
DIVERGED = (
    "The checkpoints of earlier steps are whole. Try a smaller --learning-rate or a longer --warmup, in another --out."
)

Progress = Callable[[Mapping[str, Any]], None]
Batch = tuple[Tensor, Tensor]


def initial_params(config: GPTConfig, seed: int) -> Arrays:
    """Weights at the start (GPT-2's, as nanoGPT has them): normal with σ = 0.02, smaller where a branch ends.

    The weights that lead back to the residual stream have σ = 0.02 / √(2 layers); biases are 0, layer norms 1 and 0.
    """
    params: Arrays = {}
    for name, spec in MODELS["gpt"].params(config).items():
        shape = tuple(dim for dim in spec.dims if isinstance(dim, int))
        if len(shape) == 1:
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
        team: the processes that train together.

    Returns:
        The last checkpoint.

    Raises:
        InputError: settings, text or an earlier checkpoint in `out` do not fit.
        SideError: the loss is no longer finite; the earlier checkpoints stay as they are.
    """
    team = team or Team()
    last = settings.iterations if until is None else min(until, settings.iterations)
    with _preemption() as asked:
        corpus = team.all_or_none(lambda: open_corpus(text, settings.tokenizer, out))
        team.check_same(str(text), f"the text of SHA-256 {corpus.digest}", "All machines must read the same text.")
        run = _Run(settings, corpus, out, versions, team, device, compiled)
        if not run.resumed or run.iteration < last:
            run.train(last, progress, asked)
        return run.checkpoint()


class _Run:
    """One training: model, optimizer, history and files."""

    def __init__(
        self,
        settings: GPTSettings,
        corpus: Corpus,
        out: Path,
        versions: Mapping[str, Any],
        team: Team,
        device: str,
        compiled: bool,
    ) -> None:
        self.settings, self.corpus, self.team = settings, corpus, team
        self.versions = {**versions, "device": versions.get("device", device) if device == "cuda" else "CPU"}
        self.folder = Path(out) / "torch"
        self.device = choose_device(device)
        self.weights = torch.float64 if settings.dtype == "float64" else torch.float32
        self.config = settings.config(corpus.tokenizer.vocab)
        self.train_tokens = corpus.split("train", settings.context)
        self.validation_tokens = corpus.split("validation", settings.context)
        self.share = team.share(settings.batch)

        self.iteration = 0
        self.history: dict[str, list[float]] = {name: [] for name in (*PER_STEP, *PER_EVALUATION)}
        params = initial_params(self.config, settings.seed)
        saved = team.all_or_none(self._saved)
        if saved is not None:
            self.iteration, params = saved.iteration, saved.params
            self.history = {name: list(values) for name, values in saved.history.items()}
        self.resumed = saved is not None
        hint = "The folder --out must be one that all machines share."
        team.check_same(str(self.folder / "last.h5"), f"{self.iteration} steps taken", hint)
        self.model = GPT(self.config, {name: self._tensor(array) for name, array in params.items()})
        self.module = team.wrap(self.model, self.model.h, self.device)
        self.optimizer = AdamW(self.model, settings.optimizer(), self.iteration)
        if saved is not None and self.iteration:
            moments = (saved.first_moment, saved.second_moment)
            self.optimizer.restore(*({n: self._tensor(a) for n, a in arrays.items()} for arrays in moments))
        self.forward = team.compiled(self.module, self.model.h) if compiled else self.module

    def train(self, last: int, progress: Progress, asked: Callable[[], bool]) -> None:
        """Steps up to `last`; leaves early, saved, where a process is asked to."""
        saved_at = shown_at = time.monotonic()
        while self.iteration < last:
            if self.iteration % self.settings.evaluate_every == 0 and self._not_evaluated():
                self._evaluate()
            now = time.monotonic()
            leave, save = self._step(asked(), self.team.leads and now - saved_at > CHECKPOINT_SECONDS)
            if self.team.leads and now - shown_at > PROGRESS_SECONDS:
                progress(self._report())
                shown_at = now
            leave = leave and self.iteration < last
            if leave or save:
                self._save("last")
                saved_at = now
            if leave:
                return
        if self.iteration == self.settings.iterations and self._not_evaluated():
            self._evaluate()
        else:
            self._save("last")
        if self.team.leads and self.iteration:
            progress(self._report())

    def checkpoint(self) -> Checkpoint:
        """The present state."""
        first, second = self.optimizer.moments()
        return Checkpoint(
            model="gpt",
            config=self.config,
            data={
                "tokenizer": self.corpus.tokenizer.as_json(),
                "text": {"name": self.corpus.name, "digest": self.corpus.digest},
            },
            side="torch",
            dtype=str(self.weights).removeprefix("torch."),
            versions=self.versions,
            settings=self.settings.as_json(),
            iteration=self.iteration,
            status="complete" if self.iteration == self.settings.iterations else "running",
            params={name: to_array(whole(param)) for name, param in self.optimizer.params.items()},
            first_moment={name: to_array(whole(moment)) for name, moment in first.items()},
            second_moment={name: to_array(whole(moment)) for name, moment in second.items()},
            history={
                name: np.array(values, np.int64 if name == "evaluated" else np.float64)
                for name, values in self.history.items()
            },
        )

    def _saved(self) -> Checkpoint | None:
        file = self.folder / "last.h5"
        if not file.exists():
            if self.team.leads:
                make_folder(self.folder)
            return None
        saved = read_checkpoint(file)
        if not isinstance(saved.config, GPTConfig):
            where, found = f"{file}, attribute model", repr(saved.model)
            raise InputError(where, expected="'gpt'", found=found, hint=ANOTHER_OUT)
        resume_check(file, saved, "torch", self.settings, self.settings.iterations)
        if (found := saved.data.get("text", {}).get("digest")) != self.corpus.digest:
            expected = f"the text of SHA-256 {self.corpus.digest}"
            raise InputError(f"{file}, attribute data", expected=expected, found=str(found), hint=ANOTHER_OUT)
        if not saved.history or (saved.iteration and not saved.first_moment):
            expected = "the moments and the history of a training that goes on"
            raise InputError(str(file), expected=expected, found="the model alone", hint=ANOTHER_OUT)
        return saved

    def _tensor(self, array: Any) -> Tensor:
        """On the device; on the CPU where no device need hold the whole model."""
        return torch.tensor(array, dtype=self.weights, device="cpu" if self.team.spreads else self.device)

    def _batches(self) -> Iterator[Batch]:
        """This process's part of the joint batch of the present iteration."""
        settings, share = self.settings, self.share
        for part in range(settings.accumulation):
            first = self.iteration * settings.joint_batch + part * settings.batch + share.start
            arrays = training_batch(self.train_tokens, settings.context, settings.seed, first, share.stop - share.start)
            tokens, targets = (torch.from_numpy(array).to(self.device) for array in arrays)
            yield tokens, targets

    def _step(self, leave: bool, save: bool) -> tuple[bool, bool]:
        """Take a step; returns whether any process says `leave`, and whether any says `save`."""
        start = time.perf_counter()
        parts, total = self.settings.accumulation, torch.zeros((), device=self.device)
        self.optimizer.inner.zero_grad()
        for part, (tokens, targets) in enumerate(self._batches()):
            with self.team.accumulating(self.module, is_last=part == parts - 1):
                with self._precision():
                    loss = self.model.loss(self.forward(tokens), targets) / parts
                torch.autograd.backward(loss)
            total = total + loss.detach()
        summed, leaving, saving = self.team.sums(float(total), leave, save)
        mean = summed / self.team.size
        rate, norm = self.optimizer.step()
        if not (math.isfinite(mean) and math.isfinite(norm)):
            what = f"training step {self.iteration + 1}"
            raise SideError(f"{what}: the loss is {mean}, the gradients' norm {norm}. {DIVERGED}")
        self.iteration += 1
        for name, value in zip(PER_STEP, (mean, rate, norm, time.perf_counter() - start), strict=True):
            self.history[name].append(value)
        return leaving > 0, saving > 0

    def _precision(self) -> Any:
        if self.settings.dtype == "bfloat16":
            return torch.autocast(self.device.type, choose_dtype("bfloat16"))
        return nullcontext()

    def _not_evaluated(self) -> bool:
        return not self.history["evaluated"] or self.history["evaluated"][-1] != self.iteration

    def _evaluate(self) -> None:
        """Losses on windows of both parts of the text; the best model so far is kept, the last one too."""
        settings, parts = self.settings, (self.train_tokens, self.validation_tokens)
        where: dict[str, Any] = {"device": self.device, "precision": self._precision, "team": self.team}
        losses = [
            mean_loss(self.module, tokens, settings.context, settings.batch, settings.evaluation_windows, **where)
            for tokens in parts
        ]
        if not all(map(math.isfinite, losses)):
            what = f"evaluation after step {self.iteration}"
            raise SideError(f"{what}: the losses are {losses[0]} and {losses[1]}. {DIVERGED}")
        best = min(self.history["loss_validation"], default=math.inf)
        for name, value in zip(PER_EVALUATION, (self.iteration, *losses), strict=True):
            self.history[name].append(value)
        if self.iteration and losses[1] < best:
            self._save("best")
        self._save("last")

    def _save(self, name: str) -> None:
        checkpoint = self.checkpoint()  # all processes take part, one writes

        def write() -> None:
            if self.team.leads:
                kept = checkpoint.without_moments() if name == "best" else checkpoint
                kept.write(self.folder / f"{name}.h5")

        self.team.all_or_none(write)

    def _report(self) -> dict[str, Any]:
        recent = self.history["seconds"][-20:]
        tokens = self.settings.joint_batch * self.settings.context * len(recent)
        return {
            "iteration": self.iteration,
            "loss": self.history["loss"][-1],
            "loss_validation": self.history["loss_validation"][-1] if self.history["loss_validation"] else None,
            "tokens_per_second": tokens / sum(recent),
        }


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
    tokenizer = tokenizer_from_json(checkpoint.data.get("tokenizer"), f"{file}, attribute data, tokenizer")
    corpus = open_corpus(text, tokenizer.kind, folder)
    if corpus.tokenizer != tokenizer:
        expected = f"a text of the {tokenizer.vocab} characters of {file}"
        raise InputError(str(text), expected=expected, found=f"one of {corpus.tokenizer.vocab} characters")
    tokens = corpus.split("validation", model.config.context)
    return mean_loss(model, tokens, model.config.context, batch, 0, device=where)


def load_gpt(checkpoint: Checkpoint, file: Path, dtype: str, device: str) -> GPT:
    """The model of a checkpoint; raises InputError where it is none of this architecture."""
    if not isinstance(checkpoint.config, GPTConfig):
        raise InputError(f"{file}, attribute model", expected="'gpt'", found=repr(checkpoint.model))
    kind, where = choose_dtype(dtype), choose_device(device)
    params = {name: torch.tensor(array, dtype=kind, device=where) for name, array in checkpoint.params.items()}
    return GPT(checkpoint.config, params)


@contextmanager
def _preemption() -> Iterator[Callable[[], bool]]:
    """Notes the signals of `PREEMPTION` instead of dying of them; only the main thread can."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in PREEMPTION}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
