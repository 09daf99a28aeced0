"""Training: train control, train gpt."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, TaskID

from ..errors import InputError
from ..files import make_folder
from . import completion
from .app import (
    Device,
    PathName,
    SideName,
    Threads,
    TimeLimit,
    at_work_on,
    console,
    progress_bar,
    train_app,
    typed_command,
)

if TYPE_CHECKING:
    from ..format import Checkpoint
    from ..training.distributed import Team

SAVED_EARLY = 75
"""Exit status of a training that saved and left because it was asked to (EX_TEMPFAIL): run the command again."""
STARTED_BY_TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""The variables that torchrun sets, and the scripts of docs/slurm."""
LOG_SECONDS = 60.0

Arguments = Mapping[str, Any]
State = Mapping[str, Any]


@train_app.command("control")
def train_control(
    out: Annotated[Path, typer.Option(help="Folder for the training file of the side and the figures.")],
    dataset: Annotated[
        str, typer.Option(help="donut1d, donut2d, squares2d or spiral2d.", autocompletion=completion.dataset_names)
    ] = "donut2d",
    network: Annotated[
        str, typer.Option(help="net, resnet, odenet or odenet-simplex.", autocompletion=completion.network_names)
    ] = "odenet",
    method: Annotated[
        str, typer.Option(help="euler, improved-euler, kutta3 or kutta4.", autocompletion=completion.method_names)
    ] = "euler",
    side: SideName = "torch",
    iterations: Annotated[int, typer.Option(min=0, help="Descent steps in all.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="Chooses data and initial parameters.")] = 1,
    layers: Annotated[int, typer.Option(min=1)] = 20,
    dt: Annotated[float, typer.Option(min=0, help="First time step, which a resnet keeps; 0 for 1/layers.")] = 0.0,
    d: Annotated[int, typer.Option(min=2, help="Dimension of the state; the data fill the first two.")] = 2,
    samples: Annotated[int, typer.Option(min=1, help="Training samples.")] = 500,
    samples_test: Annotated[int, typer.Option(min=1, help="Test samples.")] = 500,
    freeze: Annotated[str, typer.Option(help="Parameters to leave alone, e.g. W,mu.")] = "",
    gradient: Annotated[str, typer.Option(help="manual (costate equation) or ad (automatic).")] = "manual",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    evaluate_every: Annotated[int, typer.Option(min=1, help="Iterations between evaluations on test data.")] = 10,
    figures: Annotated[bool, typer.Option(help="Draw the figures at the end.")] = True,
    path: PathName = "fast",
    threads: Threads = 1,
    time_limit: TimeLimit = 300.0,
) -> None:
    """Train a control network. The same command again goes on where an interrupted one stopped."""
    from ..format import read_training
    from ..report.figures import draw_training
    from ..sides import Worker
    from ..sides import side as find_side
    from ..training.command_file import keep_command
    from ..training.settings import control_settings

    find_side(side)
    settings = control_settings(
        {
            **{
                "dataset": dataset,
                "network": network,
                "method": method,
                "layers": layers,
                "dt": dt,
                "d": d,
                "seed": seed,
            },
            **{"samples": samples, "samples_test": samples_test, "gradient": gradient, "dtype": dtype},
            **{"freeze": tuple(name for name in freeze.split(",") if name), "evaluate_every": evaluate_every},
        }
    )
    make_folder(out)
    with at_work_on(out / side):
        keep_command(out, side, typed_command())
        file = out / f"{side}.h5"
        arguments = {"settings": settings.as_json(), "iterations": iterations, "out": str(file.resolve()), "path": path}
        with Worker(side, threads=threads, silence_seconds=time_limit) as worker, progress_bar("steps") as bar:
            task = bar.add_task(side, total=iterations)

            def show(state: dict[str, float]) -> None:
                text = f"{side} objective {state['objective']:.3e} accuracy {state['accuracy_test']:.3f}"
                bar.update(task, completed=state["iteration"], description=text)

            worker.request("train-control", arguments, show)
        trained = read_training(file)
        history = trained.history
        console().print(
            f"{file}: {trained.status} after {trained.iteration} iterations, objective {history['objective'][-1]:.4e} "
            f"(test {history['objective_test'][-1]:.4e}), accuracy {history['accuracy_train'][-1]:.3f} "
            f"(test {history['accuracy_test'][-1]:.3f})",
            soft_wrap=True,
        )
        if figures:
            for picture in draw_training(out):
                console().print(f"{picture}", soft_wrap=True)


@train_app.command("gpt")
def train_gpt(
    out: Annotated[Path, typer.Option(help="Folder for SIDE/last.h5, SIDE/best.h5, the tokens and the figure.")],
    text: Annotated[Path | None, typer.Option(help="The text. Default: the sources of Python's own library.")] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="cpu or gpu: what the options below start from.", autocompletion=completion.preset_names("gpt")
        ),
    ] = "cpu",
    side: SideName = "torch",
    tokenizer: Annotated[str, typer.Option(help="char or byte.")] = "char",
    layers: Annotated[int | None, typer.Option()] = None,
    heads: Annotated[int | None, typer.Option()] = None,
    width: Annotated[int | None, typer.Option()] = None,
    context: Annotated[int | None, typer.Option(help="Tokens that the model sees at once.")] = None,
    dt: Annotated[float, typer.Option(help="Time step of a block.")] = 1.0,
    splitting: Annotated[str, typer.Option(help="lie or strang.")] = "lie",
    time_steps: Annotated[str, typer.Option(help="fixed, learned, or simplex: learned with a fixed sum.")] = "fixed",
    tied: Annotated[bool, typer.Option(help="Whether the head is the token embedding.")] = True,
    batch: Annotated[int | None, typer.Option(help="Samples that are computed at once, over all processes.")] = None,
    accumulation: Annotated[int | None, typer.Option(help="Batches to a step.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Steps in all; the learning rate falls until then.")] = None,
    until: Annotated[int | None, typer.Option(min=0, help="Stop after this many steps; go on later.")] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    min_learning_rate: Annotated[float | None, typer.Option()] = None,
    warmup: Annotated[int | None, typer.Option(help="Steps in which the learning rate climbs.")] = None,
    beta1: Annotated[float | None, typer.Option()] = None,
    beta2: Annotated[float | None, typer.Option()] = None,
    weight_decay: Annotated[float | None, typer.Option(help="On matrices only.")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradients; 0 for any.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Chooses initial weights and batches.")] = 1,
    dtype: Annotated[str, typer.Option(help="float32, float64, or bfloat16 (torch).")] = "float32",
    evaluate_every: Annotated[int | None, typer.Option(help="Steps between evaluations.")] = None,
    evaluation_windows: Annotated[int | None, typer.Option(help="Windows of an evaluation; 0 for all.")] = None,
    device: Device = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="Translate the model first (torch.compile).")] = False,
    parallel: Annotated[str, typer.Option(help="Under torchrun: ddp or fsdp.")] = "ddp",
    figures: Annotated[bool, typer.Option(help="Draw the curves at the end.")] = True,
    path: PathName = "fast",
    threads: Threads = 1,
    time_limit: TimeLimit = 1800.0,
) -> None:
    """Train a mini-GPT on text. The same command again goes on where an interrupted one stopped."""
    from ..sides import side as find_side
    from ..training.command_file import keep_command
    from ..training.settings import gpt_settings
    from ..training.settings import preset as read_preset

    given = {
        **{"layers": layers, "heads": heads, "width": width, "context": context, "batch": batch},
        **{"accumulation": accumulation, "iterations": iterations, "warmup": warmup, "clip": clip},
        **{"learning_rate": learning_rate, "min_learning_rate": min_learning_rate, "beta1": beta1, "beta2": beta2},
        **{"weight_decay": weight_decay, "evaluate_every": evaluate_every, "evaluation_windows": evaluation_windows},
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    fixed = {
        **{"tokenizer": tokenizer, "dt": dt, "splitting": splitting, "time_steps": time_steps},
        **{"tied": tied, "seed": seed, "dtype": dtype},
    }
    with ExitStack() as held:
        with _team(parallel, device) as team:
            find_side(side)
            settings = gpt_settings({**read_preset("gpt", preset), **fixed, **chosen})
            last = settings.iterations if until is None else min(until, settings.iterations)

            def start() -> Path:
                if team is None or team.leads:
                    make_folder(out)
                    held.enter_context(at_work_on(out / side))
                return text_source(text, out)

            source = start() if team is None else team.all_or_none(start)
            arguments = {
                **{"settings": settings.as_json(), "text": str(source), "out": str(out.resolve())},
                **{"until": until, "device": device, "compiled": compiled, "path": path},
            }
            if team is None:
                _train_by_worker(side, arguments, last, threads, time_limit)
            else:
                _train_together(side, arguments, last, threads, team)
        if team is not None and not team.leads:
            return
        keep_command(out, side, typed_command())
        _tell_gpt(out / side / "last.h5")
        if figures:
            from ..report.text_figures import draw_text_training

            console().print(f"{draw_text_training(out)}", soft_wrap=True)


def text_source(text: Path | None, out: Path) -> Path:
    """The text to train on, and the folder made."""
    from ..data.corpora import standard_library

    make_folder(out)
    return (text or standard_library(out)).resolve()


def _team(parallel: str, device: str) -> AbstractContextManager[Team | None]:
    """The processes that torchrun or a Slurm script started, this one among them; None where there are none."""
    if not os.environ.keys() >= STARTED_BY_TORCHRUN:
        return nullcontext()
    from ..training.distributed import team

    return team(parallel, device)


def _train_by_worker(side: str, arguments: Arguments, last: int, threads: int, time_limit: float) -> None:
    from ..sides import Worker

    with Worker(side, threads=threads, silence_seconds=time_limit) as worker, progress_bar("steps") as bar:
        task = bar.add_task(f"{side} starting", total=last)
        worker.request("train-gpt", arguments, lambda state: _show(bar, task, side, state))


def _train_together(side: str, arguments: Arguments, last: int, threads: int, team: Team) -> None:
    """Train in this process; leaves with exit status `SAVED_EARLY` where a signal ended the training before `last`."""
    if side != "torch":
        raise InputError("side", expected="torch under torchrun", found=repr(side))
    import torch

    from ..training.gpt import train_gpt
    from ..training.settings import gpt_settings
    from ..worker import versions

    torch.set_num_threads(threads)
    options = {name: arguments[name] for name in ("until", "device", "compiled", "path")}
    bar, told = progress_bar("steps"), time.monotonic()
    log = bar.disable and team.leads  # where no bar is seen, lines in the log show that it goes on
    bar.disable = bar.disable or not team.leads
    with bar:
        task = bar.add_task(f"{side} starting", total=last)

        def show(state: State) -> None:
            nonlocal told
            _show(bar, task, side, state)
            if log and time.monotonic() - told > LOG_SECONDS:
                told = time.monotonic()
                console(stderr=True).print(f"step {state['iteration']}: {_described(side, state)}", soft_wrap=True)

        settings, text, out = gpt_settings(arguments["settings"]), Path(arguments["text"]), Path(arguments["out"])
        done = train_gpt(settings, text, out, versions(), show, team=team, **options)
    if done.iteration < last:
        if team.leads:
            line = (
                f"twingrad: saved after {done.iteration} of {last} steps, as a signal asked; the same command goes on"
            )
            console(stderr=True).print(line, soft_wrap=True)
        raise typer.Exit(SAVED_EARLY)


def _show(bar: Progress, task: TaskID, side: str, state: State) -> None:
    bar.update(task, completed=state["iteration"], description=_described(side, state))


def _described(side: str, state: State) -> str:
    validation = state["loss_validation"]
    text = f"{side} loss {state['loss']:.3f}" + (f" val {validation:.3f}" if validation is not None else "")
    return f"{text} {state['tokens_per_second']:,.0f} tok/s"


def reached(file: Path, trained: Checkpoint, units: int, name: str) -> str:
    """The start of the line on a training: how far it came, and how many units (`units` of a sample) a second."""
    line = f"{file}: {trained.status} after {trained.iteration} iterations"
    seconds, settings = trained.history["seconds"], trained.settings
    if len(seconds):
        units *= settings["batch"] * settings["accumulation"]
        line += f", {units / statistics.median(seconds):,.0f} {name}/s"
    return line


def _tell_gpt(file: Path) -> None:
    from ..format import read_checkpoint

    trained = read_checkpoint(file)
    history = trained.history
    line = reached(file, trained, trained.settings["context"], "tokens")
    if len(history["evaluated"]):
        best = int(history["loss_validation"].argmin())
        line += (
            f", loss {history['loss_train'][-1]:.4f} (validation {history['loss_validation'][-1]:.4f}; best "
            f"{history['loss_validation'][best]:.4f} at {history['evaluated'][best]})"
        )
    console().print(line, soft_wrap=True)
