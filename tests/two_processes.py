"""What each of the two processes of `test_distributed.py` does: `python two_processes.py RANK FOLDER PORT PORT ...`.

Each stage meets at a port of its own. What it returned goes to FOLDER/RANK.json and FOLDER/KIND.npz.
"""

import io
import json
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch

from twingrad.cli import main
from twingrad.data.text import open_corpus
from twingrad.engine import to_array
from twingrad.errors import InputError
from twingrad.optimizers import whole
from twingrad.training import distributed, gpt
from twingrad.training.distributed import team
from twingrad.training.gpt import TextTask
from twingrad.training.run import Run
from twingrad.training.settings import gpt_settings

SHAPE = {"layers": 2, "heads": 2, "width": 8, "context": 6, "batch": 4, "accumulation": 2, "iterations": 6}
RATES = {"learning_rate": 1e-2, "min_learning_rate": 1e-3, "warmup": 2, "beta1": 0.9, "beta2": 0.95}
OTHERS = {"weight_decay": 0.1, "clip": 0.5, "evaluate_every": 3, "evaluation_windows": 9, "dtype": "float64"}
SETTINGS = {**SHAPE, **RATES, **OTHERS}
STEPS = 5


def steps(together, text, out, **changes):
    """Gradients after one step, and parameters, moments and losses after `STEPS`; by the engine of the training."""
    settings = gpt_settings({**SETTINGS, **changes})
    task = TextTask(settings, open_corpus(text, "char", out))
    run = Run(task, out, {"test": 1}, together, "cpu", compiled=False, path="fast")
    arrays = {}
    for step in range(STEPS):
        run.step()
        if step == 0:
            arrays |= {f"grads/{name}": to_array(whole(param.grad)) for name, param in run.optimizer.params.items()}
    done = run.checkpoint()
    for group in ("params", "first_moment", "second_moment"):
        arrays |= {f"{group}/{name}": array for name, array in getattr(done, group).items()}
    return {**arrays, "loss": done.history["loss"], "gradient_norm": done.history["gradient_norm"]}


def options(text, out, **changes):
    """The command line of a training."""
    values = {**SETTINGS, **changes, "text": text, "out": out}
    return ["train", "gpt", "--no-figures", *(f"--{k.replace('_', '-')}={value}" for k, value in values.items())]


def command(arguments):
    """(exit status, what was told) of the command in this process."""
    said = io.StringIO()
    sys.argv = ["twingrad", *arguments]
    status = 0
    try:
        with redirect_stdout(said), redirect_stderr(said):
            main()
    except SystemExit as leaving:
        status = leaving.code or 0
    return status, said.getvalue()


def signal_at(iteration):
    """Send this process the pre-emption signal when it draws the batch of an iteration."""
    draw = gpt.training_batch

    def drawn(tokens, context, seed, first, count):
        if first // (SHAPE["batch"] * SHAPE["accumulation"]) == iteration:
            os.kill(os.getpid(), signal.SIGUSR1)
        return draw(tokens, context, seed, first, count)

    gpt.training_batch = drawn
    return draw


def all_stages(rank, folder, ports):
    text, results = folder / "text.txt", {}

    def meet():
        os.environ["MASTER_PORT"] = ports.pop()

    for kind in ("ddp", "fsdp"):
        meet()
        with team(kind, "cpu") as together:
            arrays = steps(together, text, folder / "steps", clip=0.0)
            np.savez(folder / f"{kind}-{rank}.npz", **arrays)
            try:
                together.check_same("file", f"{rank + 1} steps taken", "Look.")
            except InputError as error:
                results[f"{kind} differs"] = str(error)

    for name, changes in {
        "ddp": {"parallel": "ddp"},
        "unequal": {"batch": 3},
        "unknown": {"parallel": "dpp"},
        "other text": {"text": folder / ("other.txt" if rank else "text.txt")},
        "nan": {"learning_rate": 1e200, "min_learning_rate": 0.0, "warmup": 0, "clip": 0.0, "parallel": "fsdp"},
    }.items():
        meet()
        changes = {"parallel": "ddp", **changes}
        results[name] = command(options(changes.pop("text", text), folder / name, **changes))

    # One process took two steps in this folder: a signal to the second process ends the third and fourth.
    draw = signal_at(2) if rank else None
    meet()
    results["signalled"] = command(options(text, folder / "parts", parallel="fsdp"))
    gpt.training_batch = draw or gpt.training_batch
    meet()
    results["resumed"] = command([*options(text, folder / "parts", parallel="ddp"), "--until=5"])
    (folder / f"{rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.LEAD_SECONDS = 0.0  # nothing here ends the one process where the other has
    here, place = sys.argv[1], Path(sys.argv[2])
    os.environ |= {"RANK": here, "LOCAL_RANK": here, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    all_stages(int(here), place, sys.argv[3:])
