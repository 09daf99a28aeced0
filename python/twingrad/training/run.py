"""One training on the PyTorch side, whatever is trained: steps, evaluations, checkpoints, and going on from them.

The same file on the Julia side is `julia/src/training/run.jl`.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..engine import MODELS, choose_device, choose_dtype, to_array
from ..errors import InputError, SideError
from ..files import make_folder
from ..format.checkpoint import PER_STEP, Checkpoint, per_evaluation, read_checkpoint
from ..kernels.path import make_path
from ..optimizers import make_optimizer, whole
from ..progress import Progress
from ..specs import Array, Arrays, ModelConfig
from .distributed import Team
from .settings import ANOTHER_OUT, ClassifierSettings, GPTSettings, resume_check

CHECKPOINT_SECONDS = 30.0
PROGRESS_SECONDS = 0.2
PREEMPTION = (signal.SIGUSR1, signal.SIGTERM)
"""The signals at which a training saves and leaves: what Slurm sends before it takes a machine away."""
DIVERGED = (
    "The checkpoints of earlier steps are whole. Try a smaller --learning-rate or a longer --warmup, in another --out."
)

Batch = tuple[Tensor, Tensor]


class Task(ABC):
    """What is trained, and on what.

    `model` names the model and `config` holds its settings; `settings` are those of the training. `data` is what a
    checkpoint says of the data, whose digest stands at `data[source]["digest"]`. `best` is the evaluated loss whose
    least value makes best.h5, or None. `unit` and `units_per_step` tell how fast it goes.
    """

    model: str
    config: ModelConfig
    settings: GPTSettings | ClassifierSettings
    data: Mapping[str, Any]
    source: str
    best: str | None
    unit: str
    units_per_step: int

    @abstractmethod
    def initial_params(self) -> Arrays:
        """The model's arrays at the start."""

    @abstractmethod
    def blocks(self, model: Any) -> Iterable[nn.Module]:
        """The parts of the model that FSDP spreads, and compiles, one by one."""

    @abstractmethod
    def training_batch(self, first: int, count: int) -> tuple[Array, Array]:
        """Inputs and targets of samples first .. first + count - 1 of the whole training."""

    @abstractmethod
    def evaluate(self, module: nn.Module, where: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of an evaluation by their names in the history; `where` holds device, precision and team."""


class Run:
    """One training: model, optimizer, history and files.

    Args:
        task: what is trained, and on what.
        out: the folder for torch/last.h5 and torch/best.h5.
        versions: what computes, for the files.
        team: the processes that train together.
        device: "cpu" or "cuda".
        compiled: whether torch.compile translates the model first.
        path: "fast" or "reference" (`kernels/path.py`).

    Raises InputError where an earlier checkpoint in `out` does not fit.
    """

    def __init__(
        self,
        task: Task,
        out: Path,
        versions: Mapping[str, Any],
        team: Team,
        device: str,
        compiled: bool,
        path: str,
    ) -> None:
        self.task, self.settings, self.team = task, task.settings, team
        self.versions = {**versions, "device": versions.get("device", device) if device == "cuda" else "CPU"}
        self.folder = Path(out) / "torch"
        self.device = choose_device(device)
        self.weights = torch.float64 if self.settings.dtype == "float64" else torch.float32
        self.share = team.share(self.settings.batch)
        self.per_evaluation = per_evaluation(task.model)

        self.iteration = 0
        self.history: dict[str, list[float]] = {name: [] for name in (*PER_STEP, *self.per_evaluation)}
        saved = team.all_or_none(self._saved)
        if saved is not None:
            self.iteration = saved.iteration
            self.history = {name: list(values) for name, values in saved.history.items()}
        self.resumed = saved is not None
        hint = "The folder --out must be one that all machines share."
        team.check_same(str(self.folder / "last.h5"), f"{self.iteration} steps taken", hint)
        params = task.initial_params() if saved is None else saved.params
        tensors = {name: self._tensor(array) for name, array in params.items()}
        self.model: Any = make_path(path, task.model).prepare(MODELS[task.model].model(task.config, tensors))
        blocks = nn.ModuleList(task.blocks(self.model))
        self.module = team.wrap(self.model, blocks, self.device)
        self.optimizer = make_optimizer(self.model, self.settings.optimizer_settings(), self.iteration)
        if saved is not None and self.iteration:
            moments = (saved.first_moment, saved.second_moment)
            self.optimizer.restore(*({n: self._tensor(a) for n, a in arrays.items()} for arrays in moments))
        self.forward = team.compiled(self.module, blocks) if compiled else self.module

    def train_until(self, until: int | None, progress: Progress, asked: Callable[[], bool]) -> Checkpoint:
        """Train up to the step `until`, or the last; leaves early, saved, where a process is asked to."""
        last = self.settings.iterations if until is None else min(until, self.settings.iterations)
        if not self.resumed or self.iteration < last:
            self._train(last, progress, asked)
        return self.checkpoint()

    def _train(self, last: int, progress: Progress, asked: Callable[[], bool]) -> None:
        saved_at = shown_at = time.monotonic()
        while self.iteration < last:
            if self.iteration % self.settings.evaluate_every == 0 and self._not_evaluated():
                self._evaluate()
            now = time.monotonic()
            leave, save = self.step(asked(), self.team.leads and now - saved_at > CHECKPOINT_SECONDS)
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
        arrays = {**self.optimizer.params, **dict(self.model.named_buffers())}
        return Checkpoint(
            model=self.task.model,
            config=self.task.config,
            data=self.task.data,
            side="torch",
            dtype=str(self.weights).removeprefix("torch."),
            versions=self.versions,
            settings=self.settings.as_json(),
            iteration=self.iteration,
            status="complete" if self.iteration == self.settings.iterations else "running",
            params={name: to_array(whole(array)) for name, array in arrays.items()},
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
        if saved.model != self.task.model:
            where, expected = f"{file}, attribute model", repr(self.task.model)
            raise InputError(where, expected=expected, found=repr(saved.model), hint=ANOTHER_OUT)
        resume_check(file, saved, "torch", self.settings, self.settings.iterations)
        source, digest = self.task.source, self.task.data[self.task.source]["digest"]
        if (found := saved.data.get(source, {}).get("digest")) != digest:
            expected = f"the {source} of SHA-256 {digest}"
            raise InputError(f"{file}, attribute data", expected=expected, found=str(found), hint=ANOTHER_OUT)
        needs_moments = saved.iteration and self.settings.optimizer_settings().moments
        if not saved.history or (needs_moments and not saved.first_moment):
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
            arrays = self.task.training_batch(first, share.stop - share.start)
            inputs, targets = (torch.from_numpy(array).to(self.device) for array in arrays)
            yield inputs, targets

    def step(self, leave: bool = False, save: bool = False) -> tuple[bool, bool]:
        """Take a step; returns whether any process says `leave`, and whether any says `save`."""
        start = time.perf_counter()
        parts, total = self.settings.accumulation, torch.zeros((), device=self.device)
        self.optimizer.inner.zero_grad()
        for part, (inputs, targets) in enumerate(self._batches()):
            with self.team.accumulating(self.module, is_last=part == parts - 1):
                with self._precision():
                    loss = self.model.loss(self.forward(inputs), targets) / parts
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
        """The numbers of an evaluation; the best model so far is kept, the last one too."""
        where: dict[str, Any] = {"device": self.device, "precision": self._precision, "team": self.team}
        numbers = self.task.evaluate(self.module, where)
        if not all(map(math.isfinite, numbers.values())):
            what, losses = f"evaluation after step {self.iteration}", " and ".join(map(str, numbers.values()))
            raise SideError(f"{what}: the losses are {losses}. {DIVERGED}")
        best = self.task.best
        is_best = best is not None and numbers[best] < min(self.history[best], default=math.inf)
        for name in self.per_evaluation:
            self.history[name].append(self.iteration if name == "evaluated" else numbers[name])
        if self.iteration and is_best:
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
        latest = {name: self.history[name][-1] if self.history[name] else None for name in self.per_evaluation[1:]}
        return {
            "iteration": self.iteration,
            "loss": self.history["loss"][-1],
            **latest,
            f"{self.task.unit}_per_second": self.task.units_per_step * len(recent) / sum(recent),
        }


@contextmanager
def preemption() -> Iterator[Callable[[], bool]]:
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
