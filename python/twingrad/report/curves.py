"""Figures of trainings that leave checkpoints: the trainings of a folder, and their curves over the steps.

What is particular to text and to images is in `text_figures` and `image_figures`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from ..errors import InputError
from ..format import Checkpoint, read_checkpoint
from ..sides import side, sides
from ..specs import Array, Arrays
from ..training.settings import ClassifierSettings, GPTSettings
from .figures import BARS, LINES, ONLY_LINE, SHADES, check_same_settings, save, styled
from .language import ENGLISH, Language

if TYPE_CHECKING:
    from matplotlib.typing import HashableList

CHECKPOINT = "last.h5"
WINDOWS = 40
"""Steps are shown one by one and, over them, in so many windows (fewer where there are fewer steps)."""
NAME_LENGTH = 60
TICKS = {5.0: (1, 2, 3, 4, 6, 8), 500.0: (1, 2, 5), np.inf: (1,)}
"""Where a logarithmic axis has ticks in each power of ten, by the ratio that its ends stay below."""

Curve = NDArray[np.float64]
Line = tuple[int, float, str]
Shades = tuple[str, str]
Panels = dict[str, Axes]
Settings = GPTSettings | ClassifierSettings


@dataclass(frozen=True)
class Evaluated:
    """A curve with a mark for each evaluation.

    Args:
        panel: the panel that it is drawn in.
        values: (m,) from a history.
        shades: pale and dark, as in `figures.SHADES`.
        label: its name in the legend; empty where a curve of another panel says it.
    """

    panel: str
    values: Callable[[Arrays], Curve]
    shades: Shades
    label: str = ""


@dataclass(frozen=True)
class Kind:
    """Trainings of one kind: which they are and how they are drawn.

    Args:
        models: the models that are trained so.
        source: the entry of a checkpoint's `data` whose digest says what was trained on.
        settings_of: a training's settings, checked; raises InputError.
        unit: what the speed counts, as "tokens".
        units_per_step: how many of them one step takes.
        size: of the figure in inches.
        layout: the names of its panels; "loss", "norm", "rate" and "speed" among them.
        steps: label and shades of the loss of each step.
        evaluated: the curves of evaluations.
    """

    models: tuple[str, ...]
    source: str
    settings_of: Callable[[Checkpoint], Settings]
    unit: str
    units_per_step: Callable[[Checkpoint], int]
    size: tuple[float, float]
    layout: list[HashableList[str]]
    steps: tuple[str, Shades]
    evaluated: tuple[Evaluated, ...]

    def per_second(self, training: Checkpoint) -> Curve:
        """The speed of every step (steps,), in units per second."""
        speed: Curve = self.units_per_step(training) / training.history["seconds"]
        return speed


def checkpoint_folders(parent: Path) -> list[Path]:
    """The folders PARENT/NAME that hold SIDE/last.h5 of some side, by name."""
    folders = sorted(parent.iterdir()) if parent.is_dir() else []
    return [folder for folder in folders if any((folder / name / CHECKPOINT).exists() for name in sides())]


def read_checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints SIDE/last.h5 of a folder, in the order of the table of sides; none where there are none.

    Raises InputError where one is damaged or written by another side than the folder says.
    """
    found = []
    for name in sides():
        if (file := _file(folder, name)).exists():
            found.append(training := read_checkpoint(file))
            if training.side != name:
                raise InputError(f"{file}, attribute side", expected=repr(name), found=repr(training.side))
    return found


def check_trainings(folder: Path, trainings: Sequence[Checkpoint], kind: Kind) -> None:
    """Refuse, by InputError, no checkpoint, one of another kind or without a history, and unlike trainings."""
    if not trainings:
        commands = " or ".join(f"'twingrad train {model} --out {folder}'" for model in kind.models)
        raise InputError(
            str(folder),
            expected=f"a checkpoint: {' or '.join(f'{name}/{CHECKPOINT}' for name in sides())}",
            found="none",
            hint=f"{commands} writes one.",
        )
    for training in trainings:
        _check(_file(folder, training.side), training, kind)
    first, expected = trainings[0], _identity(trainings[0], kind)
    for training in trainings[1:]:
        check_same_settings(_file(folder, training.side), first.side, expected, _identity(training, kind))


def _file(folder: Path, name: str) -> Path:
    return Path(folder) / name / CHECKPOINT


def _check(file: Path, training: Checkpoint, kind: Kind) -> None:
    if training.model not in kind.models:
        expected = " or ".join(map(repr, kind.models))
        raise InputError(f"{file}, attribute model", expected=expected, found=repr(training.model))
    if not training.history:
        expected = f"the history of a training of 'twingrad train {training.model}'"
        raise InputError(f"{file}, /history", expected=expected, found=f"none (status {training.status!r})")
    try:
        kind.settings_of(training)
    except InputError as error:
        where = f"{file}, attribute settings ({error.where})"
        raise InputError(where, expected=error.expected, found=error.found) from None
    if (shortest := np.min(training.history["seconds"], initial=1.0)) <= 0.0:
        raise InputError(f"{file}, /history/seconds", expected="positive numbers", found=f"{shortest}")


def _identity(training: Checkpoint, kind: Kind) -> dict[str, Any]:
    """What two sides must share; the model comes first, since it says which settings there are."""
    digest = source_of(training, kind).get("digest")
    return {"model": training.model, **kind.settings_of(training).as_json(), kind.source: digest}


def source_of(training: Checkpoint, kind: Kind) -> Mapping[str, Any]:
    """What the checkpoint says of the text or the images that it was trained on; may be empty."""
    source = training.data.get(kind.source)
    return source if isinstance(source, dict) else {}


def source_name(training: Checkpoint, kind: Kind) -> str:
    """The name of the text or of the data set, in one line of a length that fits everywhere; may be empty."""
    name = " ".join(str(source_of(training, kind).get("name", "")).split())
    return name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}…"


def batch_size(settings: Settings, language: Language = ENGLISH) -> str:
    """The joint batch in words: "batch 12", "batch 12 × 4"."""
    times = f" × {settings.accumulation}" if settings.accumulation > 1 else ""
    return language("sizes.batch", n=settings.batch) + times


def parameters(training: Checkpoint) -> int:
    """How many numbers the model learns."""
    specs = training.spec.params(training.config)
    return sum(np.size(array) for name, array in training.params.items() if specs[name].trained)


def unlike_conditions(trainings: Sequence[Checkpoint]) -> dict[str, list[str]]:
    """Why speeds are not to be compared, if so: by "processor", "device" or "threads" what each training had."""
    keys = ("processor", "device", "threads")
    found = {key: [str(training.versions.get(key, "unknown")) for training in trainings] for key in keys}
    return {key: texts for key, texts in found.items() if len(set(texts)) > 1}


def draw_figure(figure_of: Callable[[], Figure], file: Path) -> Path:
    """Write the figure that `figure_of` makes to a PNG file; raises InputError where that cannot be."""
    with styled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # in the name of a text or a class
        return save(figure_of(), file)


def training_curves(trainings: Sequence[Checkpoint], kind: Kind, headlines: Sequence[str]) -> tuple[Figure, Panels]:
    """The figure of a training, with every side on one sheet, and its panels by name.

    Losses, whatever else was evaluated, the norm of the gradients above the learning rate, the speed.
    """
    figure = Figure(figsize=kind.size, layout="constrained")
    panels: Panels = figure.subplot_mosaic(kind.layout)
    steps = max(training.iteration for training in trainings)
    window = max(-(-steps // WINDOWS), 1) | 1  # odd, so that it has a middle
    styles: Sequence[Line] = LINES if len(trainings) > 1 else (ONLY_LINE,)
    columns = [
        _plot_training(panels, training, kind, line, colour, window)
        for training, line, colour in zip(trainings, cycle(styles), cycle(BARS), strict=False)
    ]
    _label_panels(panels, trainings, kind, window)
    figure.suptitle("\n".join(headlines), parse_math=False)
    # A legend is filled column by column: one for each curve, with the sides below each other.
    handles = [handle for column in zip(*columns, strict=True) for handle in column]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(columns[0]))
    return figure, panels


def _plot_training(
    panels: Panels, training: Checkpoint, kind: Kind, line: Line, colour: str, window: int
) -> list[Line2D]:
    """Every curve of one side; those that the legend names."""
    history, title, grey = training.history, side(training.side).title, SHADES["step constant"]
    label, shades = kind.steps
    named = [_plot_steps(panels["loss"], history["loss"], shades, line, window, f"{label}, {title}")]
    for curve in kind.evaluated:
        drawn = _plot_evaluations(panels[curve.panel], history, curve, line, f"{curve.label}, {title}")
        named += [drawn] if curve.label else []
    _plot(panels["rate"], np.arange(training.iteration), history["learning_rate"], grey[line[0]], line)
    named.append(_plot_steps(panels["norm"], history["gradient_norm"], grey, line, window, f"norm and rate, {title}"))
    speed = kind.per_second(training)
    named.append(_plot_speed(panels["speed"], speed, colour, line, window, f"{kind.unit} per second, {title}"))
    return named


def _label_panels(panels: Panels, trainings: Sequence[Checkpoint], kind: Kind, window: int) -> None:
    settings, steps = kind.settings_of(trainings[0]), max(training.iteration for training in trainings)
    how = f"\npale: each step; line: mean of {window}" if window > 1 else ""
    panels["loss"].set(title=f"loss{how}")
    clipped = f"\nbefore they are cut to {settings.clip:g}" if settings.clip else ""
    panels["norm"].set(title=f"norm of the gradients{clipped}")
    logarithmic(panels["norm"])
    panels["rate"].set(title="learning rate", ylim=(0, 1.1 * settings.learning_rate))
    panels["rate"].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    spread = f"\nmedian and quartiles of {window} steps" if window > 1 else ""
    apart = "\nnot under the same conditions" if unlike_conditions(trainings) else ""
    panels["speed"].set(title=f"{kind.unit} per second{spread}{apart}")
    panels["speed"].set_ylim(bottom=0)
    panels["speed"].yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    last = max(steps, 1)
    for panel in panels.values():
        panel.set(xlabel="iteration", xlim=(-0.02 * last, 1.02 * last))
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.grid()
    for panel in (panels[name] for name in ("norm", "rate", "speed") if not steps):
        panel.tick_params("y", which="both", left=False, labelleft=False)
        panel.text(0.5, 0.5, "no step yet", transform=panel.transAxes, ha="center", va="center")
    panels["norm"].set_xlabel("")


def logarithmic(panel: Axes) -> None:
    """Give a panel with something positive a logarithmic axis upwards.

    Its ticks are plain numbers at the places of `TICKS`, or powers of ten where these are all that fits.
    """
    if np.isinf(panel.dataLim.minposy):
        return
    panel.set_yscale("log")
    if len(subs := tick_places(*panel.get_ylim())) > 1:
        panel.yaxis.set_major_locator(LogLocator(subs=subs))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())


def tick_places(low: float, high: float) -> tuple[int, ...]:
    """The multiples of powers of ten that have a tick on a logarithmic axis from `low` to `high`."""
    return next(places for ratio, places in TICKS.items() if high < ratio * low)


def smoothed(values: Curve, window: int) -> Curve:
    """At every step the mean of `window` steps around it; of fewer at the ends, and of one at the first step."""
    place, half = np.arange(len(values)), window // 2
    low = place - np.minimum(place, half)
    high = np.minimum(2 * place - low + 1, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: Curve = (sums[high] - sums[low]) / (high - low)
    return means


def _plot_steps(panel: Axes, values: Curve, shades: Shades, line: Line, window: int, label: str) -> Line2D:
    """Every step, pale, and the mean of `window` steps over it; one line where `window` is 1.

    Step i is at the place i: it starts from the weights that were evaluated there.
    """
    x = np.arange(len(values))
    if window > 1:
        panel.plot(x, values, color=shades[0], lw=0.7, alpha=0.6, zorder=1)
    return _plot(panel, x, smoothed(values, window), shades[line[0]], line, label)


def _plot_evaluations(panel: Axes, history: Arrays, curve: Evaluated, line: Line, label: str) -> Line2D:
    marks = {"marker": "o", "ms": line[1] + 3.0}
    return _plot(panel, history["evaluated"], curve.values(history), curve.shades[line[0]], line, label, **marks)


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
