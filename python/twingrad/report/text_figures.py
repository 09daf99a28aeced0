"""The figure of trainings on text: a PNG file from the checkpoints of a folder, every side on one sheet."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from ..errors import InputError
from ..format import Checkpoint, read_checkpoint
from ..sides import side, sides
from ..specs import Array, Arrays, GPTConfig
from ..training.settings import GPTSettings, gpt_settings
from .figures import BARS, LINES, ONLY_LINE, SHADES, check_same_settings, save, styled
from .parts import count, made_with

CHECKPOINT = "last.h5"
WINDOWS = 40
"""Steps are shown one by one and, over them, in so many windows (fewer where there are fewer steps)."""
NAME_LENGTH = 60

Curve = NDArray[np.float64]
Line = tuple[int, float, str]


def draw_text_training(out: Path) -> Path:
    """Draw the trainings of `twingrad train gpt --out OUT`.

    Args:
        out: holds SIDE/last.h5 of one side or more; the figure is written here.

    Returns:
        OUT/curves.png: losses, norm of the gradients and learning rate, tokens per second.

    Raises:
        InputError: see `read_text_trainings`; also where `out` cannot be written to.
    """
    return draw(out, read_text_trainings(out))


def draw(folder: Path, trainings: Sequence[Checkpoint]) -> Path:
    """Draw trainings that were read before; see `draw_text_training`."""
    with styled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # in the name of the text
        return save(text_curves(trainings), Path(folder) / "curves.png")


def read_text_trainings(folder: Path) -> list[Checkpoint]:
    """The trainings on text in a folder, in the order of the table of sides.

    Raises:
        InputError: there is no checkpoint, one is damaged or has no history, or they are not of the same training.
    """
    files = {name: Path(folder) / name / CHECKPOINT for name in sides()}
    trainings = [_read(file, name) for name, file in files.items() if file.exists()]
    if not trainings:
        raise InputError(
            str(folder),
            expected=f"a checkpoint: {' or '.join(f'{name}/{CHECKPOINT}' for name in files)}",
            found="none",
            hint=f"'twingrad train gpt --out {folder}' writes one.",
        )
    first, expected = trainings[0], _identity(trainings[0])
    for training in trainings[1:]:
        check_same_settings(files[training.side], first.side, expected, _identity(training))
    return trainings


def settings_of(training: Checkpoint) -> GPTSettings:
    """The settings of a training, checked."""
    return gpt_settings(training.settings)


def text_name(training: Checkpoint) -> str:
    """The name of the text file, in one line of a length that fits everywhere."""
    text = training.data.get("text")
    name = " ".join(str(text.get("name", "")).split()) if isinstance(text, dict) else ""
    return name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}…"


def run_title(training: Checkpoint) -> str:
    """What was trained on, in words: "tinyshakespeare.txt by characters"."""
    pieces = {"char": "characters", "byte": "bytes"}[settings_of(training).tokenizer]
    return f"{text_name(training) or 'a text without a name'} by {pieces}"


def run_sizes(training: Checkpoint) -> str:
    """The sizes in words: "4 layers, 4 heads, width 128, context 64, batch 12, 804,096 parameters, float32"."""
    settings = settings_of(training)
    batch = f"{settings.batch} × {settings.accumulation}" if settings.accumulation > 1 else f"{settings.batch}"
    return (
        f"{count(settings.layers, 'layer')}, {count(settings.heads, 'head')}, width {settings.width}, "
        f"context {settings.context}, batch {batch}, {parameters(training):,} parameters, {settings.dtype}"
    )


def parameters(training: Checkpoint) -> int:
    """How many numbers the model learns."""
    return sum(np.size(array) for array in training.params.values())


def tokens_per_second(training: Checkpoint) -> Curve:
    """Tokens per second of every step (steps,)."""
    settings = settings_of(training)
    return settings.joint_batch * settings.context / training.history["seconds"]


def unlike_conditions(trainings: Sequence[Checkpoint]) -> dict[str, list[str]]:
    """Why speeds are not to be compared, if so: by "processor", "device" or "threads" what each training had."""
    keys = ("processor", "device", "threads")
    found = {key: [str(training.versions.get(key, "unknown")) for training in trainings] for key in keys}
    return {key: texts for key, texts in found.items() if len(set(texts)) > 1}


def _identity(training: Checkpoint) -> dict[str, Any]:
    text = training.data.get("text")
    return settings_of(training).as_json() | {"text": text.get("digest") if isinstance(text, dict) else None}


def _read(file: Path, name: str) -> Checkpoint:
    training = read_checkpoint(file)
    if training.side != name:
        raise InputError(f"{file}, attribute side", expected=repr(name), found=repr(training.side))
    if not isinstance(training.config, GPTConfig):
        raise InputError(f"{file}, attribute model", expected="'gpt'", found=repr(training.model))
    if not training.history:
        expected = "the history of a training of 'twingrad train gpt'"
        raise InputError(f"{file}, /history", expected=expected, found=f"none (status {training.status!r})")
    try:
        settings_of(training)
    except InputError as error:
        where = f"{file}, attribute settings ({error.where})"
        raise InputError(where, expected=error.expected, found=error.found) from None
    if (shortest := np.min(training.history["seconds"], initial=1.0)) <= 0.0:
        raise InputError(f"{file}, /history/seconds", expected="positive numbers", found=f"{shortest}")
    return training


def text_curves(trainings: Sequence[Checkpoint]) -> Figure:
    """The figure: losses; norm of the gradients above the learning rate; tokens per second."""
    figure = Figure(figsize=(12.5, 5.6), layout="constrained")
    panels = figure.subplot_mosaic([["loss", "norm", "speed"], ["loss", "rate", "speed"]])
    steps = max(training.iteration for training in trainings)
    window = max(-(-steps // WINDOWS), 1) | 1  # odd, so that it has a middle
    styles: Sequence[Line] = LINES if len(trainings) > 1 else (ONLY_LINE,)
    columns = []
    for training, line, colour in zip(trainings, cycle(styles), cycle(BARS), strict=False):
        history, title, speed = training.history, side(training.side).title, tokens_per_second(training)
        norm, grey = history["gradient_norm"], SHADES["step constant"][line[0]]
        _plot(panels["rate"], np.arange(training.iteration), history["learning_rate"], grey, line)
        columns.append(
            [
                _plot_steps(panels["loss"], history["loss"], "train", line, window, f"training loss, {title}"),
                _plot_evaluations(panels["loss"], history, line, f"validation loss, {title}"),
                _plot_steps(panels["norm"], norm, "step constant", line, window, f"norm and rate, {title}"),
                _plot_speed(panels["speed"], speed, colour, line, window, f"tokens per second, {title}"),
            ]
        )
    _label_panels(panels, trainings, window)
    figure.suptitle("\n".join(headlines(trainings)), parse_math=False)
    # A legend is filled column by column: one for each curve, with the sides below each other.
    handles = [handle for column in zip(*columns, strict=True) for handle in column]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def headlines(trainings: Sequence[Checkpoint]) -> list[str]:
    """What was trained, its sizes, and what with."""
    first = trainings[0]
    versions = "; ".join(made_with(training.versions) for training in trainings)
    return [f"Mini-GPT on {run_title(first)}", run_sizes(first), versions]


def _label_panels(panels: Mapping[str, Axes], trainings: Sequence[Checkpoint], window: int) -> None:
    settings, steps = settings_of(trainings[0]), max(training.iteration for training in trainings)
    how = f"\npale: each step; line: mean of {window}" if window > 1 else ""
    panels["loss"].set(title=f"loss{how}", ylabel="nats per token")
    clipped = f"\nbefore they are cut to {settings.clip:g}" if settings.clip else ""
    panels["norm"].set(title=f"norm of the gradients{clipped}", yscale="log")
    panels["norm"].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels["norm"].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panels["norm"].yaxis.set_minor_formatter(NullFormatter())
    panels["rate"].set(title="learning rate", ylim=(0, 1.1 * settings.learning_rate))
    panels["rate"].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    spread = f"\nmedian and quartiles of {window} steps" if window > 1 else ""
    apart = "\nnot under the same conditions" if unlike_conditions(trainings) else ""
    panels["speed"].set(title=f"tokens per second{spread}{apart}")
    panels["speed"].set_ylim(bottom=0)
    panels["speed"].yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    last = max(steps, 1)
    for panel in panels.values():
        panel.set(xlabel="iteration", xlim=(-0.02 * last, 1.02 * last))
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.grid()
        if not steps and panel is not panels["loss"]:
            panel.tick_params("y", which="both", left=False, labelleft=False)
            panel.text(0.5, 0.5, "no step yet", transform=panel.transAxes, ha="center", va="center")
    panels["norm"].set_xlabel("")


def _plot_steps(panel: Axes, values: Curve, what: str, line: Line, window: int, label: str) -> Line2D:
    """Every step, pale, and the mean of `window` steps over it; one line where `window` is 1.

    Step i is at the place i: it starts from the weights that were evaluated there.
    """
    x = np.arange(len(values))
    if window > 1:
        panel.plot(x, values, color=SHADES[what][0], lw=0.7, alpha=0.6, zorder=1)
    return _plot(panel, x, smoothed(values, window), SHADES[what][line[0]], line, label)


def smoothed(values: Curve, window: int) -> Curve:
    """At every step the mean of `window` steps around it; of fewer at the ends, and of one at the first step."""
    place, half = np.arange(len(values)), window // 2
    low = place - np.minimum(place, half)
    high = np.minimum(2 * place - low + 1, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: Curve = (sums[high] - sums[low]) / (high - low)
    return means


def _plot_evaluations(panel: Axes, history: Arrays, line: Line, label: str) -> Line2D:
    shade = SHADES["test"][line[0]]
    marks = {"marker": "o", "ms": line[1] + 3.0}
    return _plot(panel, history["evaluated"], history["loss_validation"], shade, line, label, **marks)


def _plot_speed(panel: Axes, speed: Curve, colour: str, line: Line, window: int, label: str) -> Line2D:
    """The median of every `window` steps, and the quartiles as a band."""
    starts = range(0, len(speed), window)
    groups = [speed[start : start + window] for start in starts]
    x = np.array([start + (len(group) - 1) / 2 for start, group in zip(starts, groups, strict=True)])
    low, middle, high = np.array([np.quantile(group, (0.25, 0.5, 0.75)) for group in groups]).reshape(-1, 3).T
    panel.fill_between(x, low, high, color=colour, alpha=0.25, lw=0)
    return _plot(panel, x, middle, colour, line, label)


def _plot(panel: Axes, x: Array, y: Array, colour: str, line: Line, label: str = "", **marks: Any) -> Line2D:
    _, width, dashes = line
    lone = {"marker": "o"} if len(x) == 1 else {}
    return panel.plot(x, y, color=colour, lw=width, ls=dashes, label=label, **(lone | marks))[0]
