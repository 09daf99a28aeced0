"""Figures of trainings: PNG files from the training files of a folder, every side on one sheet.

The figures show the letters of Benning, Celledoni, Ehrhardt, Owren and Schönlieb, J. Comput. Dyn. 6(2), 2019:
states y, time steps Δt_k, objective J, step constant L.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..errors import InputError
from ..files import replacing
from ..format import Training, read_training
from ..sides import side, sides
from ..specs import Arrays
from ..training.settings import ControlSettings, control_settings
from .language import ENGLISH, Language

MAX_TRAJECTORIES = 150
DPI = 120
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "figure.titlesize": 13,
    "font.size": 10.5,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "legend.fontsize": 10,
    "legend.frameon": False,
}
"""What differs from Matplotlib's defaults; settings of the user's own play no part."""

CLASSES = {0: ("#08457e", "o", "class 0"), 1: ("#a3231b", "^", "class 1")}
"""Colour, marker and name of the classes."""
REGIONS = LinearSegmentedColormap.from_list("regions", ["#8dbbe0", "#f7f7f7", "#f4a58f"])
"""Paler than the points on it, and told apart by people who confuse red and green."""

# Pale and dark shade of what a curve shows. Pale is the wide line below, dark the narrow one above it.
SHADES = {
    "train": ("#9cc9e8", "#08457e"),
    "test": ("#fdbb84", "#8c2d04"),
    "step constant": ("#bdbdbd", "#1a1a1a"),
}
LINES = ((0, 4.5, "-"), (1, 1.3, "--"), (1, 1.6, ":"))
"""Shade, width and dashes of the sides' curves, in the order of the sides: equal curves remain both visible."""
ONLY_LINE = (1, 1.6, "-")
BARS = ("#5aa5d6", "#a63603", "#4d4d4d")
"""Colours of the sides' time steps, in the order of the sides."""


def draw_training(folder: Path) -> list[Path]:
    """Draw the trainings of a folder.

    Args:
        folder: holds the training file SIDE.h5 of one side or more; the figures are written here.

    Returns:
        The PNG files: decision regions and trajectories (of the sides that have come to an end), time steps, curves.

    Raises:
        InputError: see `read_trainings`; also where the folder cannot be written to.
    """
    return draw(folder, read_trainings(folder))


def draw(folder: Path, trainings: Sequence[Training]) -> list[Path]:
    """Draw trainings that were read before; see `draw_training`."""
    written = []
    for name, figure_of in FIGURES.items():
        with styled():
            figure = figure_of(trainings)
            if figure is not None:
                written.append(save(figure, Path(folder) / f"{name}.png"))
    return written


def styled() -> AbstractContextManager[None]:
    """Inside, figures are made and saved in the style of this module."""
    return matplotlib.style.context(["default", STYLE])


def save(figure: Figure, file: Path) -> Path:
    """Write the figure to a PNG file, atomically; the same figure gives the same bytes."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    with replacing(file) as temporary:
        temporary.write_bytes(png.getvalue())
    return file


def read_trainings(folder: Path) -> list[Training]:
    """The trainings in a folder, in the order of the table of sides.

    Raises:
        InputError: there is no training file, one is damaged or misshapen, or their settings differ.
    """
    files = {name: Path(folder) / f"{name}.h5" for name in sides()}
    trainings = []
    for name, file in files.items():
        if file.exists():
            trainings.append(training := read_training(file))
            if training.side != name:
                raise InputError(f"{file}, attribute side", expected=repr(name), found=repr(training.side))
            _check(file, training)
    if not trainings:
        raise InputError(
            str(folder),
            expected=f"a training file: {' or '.join(file.name for file in files.values())}",
            found="none",
            hint=f"'twingrad train control --out {folder}' writes one.",
        )
    expected = settings_of(trainings[0]).as_json()
    for training in trainings[1:]:
        found = settings_of(training).as_json()
        check_same_settings(files[training.side], trainings[0].side, expected, found)
    return trainings


def run_title(training: Training, language: Language = ENGLISH) -> str:
    """What was trained, in words: "donut2d, odenet, euler, 20 layers"."""
    settings = settings_of(training)
    size = language.count("count.layer", settings.layers)
    width = "" if settings.d == 2 else f", d = {settings.d}"
    step = f", Δt = {settings.dt:g}" if settings.dt else ""
    return f"{settings.dataset}, {settings.network}, {settings.method}, {size}{step}{width}"


def settings_of(training: Training) -> ControlSettings:
    """The settings of a training, checked."""
    return control_settings(training.settings)


def check_same_settings(file: Path, first: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse a file whose settings are not those of the side `first` in the same folder."""
    for name, value in expected.items():
        if found[name] != value:
            raise InputError(
                f"{file}, setting {name}",
                expected=f"{value!r} as on the side of {side(first).title}",
                found=repr(found[name]),
                hint="One folder holds the same training on several sides. Choose another --out for one of them.",
            )


def _check(file: Path, training: Training) -> None:
    try:
        settings = settings_of(training)
    except InputError as error:
        where = f"{file}, attribute settings ({error.where})"
        raise InputError(where, expected=error.expected, found=error.found) from None
    N, d = settings.layers, settings.d
    evaluated = np.size(training.history["evaluated"])
    wanted: dict[str, tuple[int, ...]] = {
        "params/dt": (N,),
        "params/W": (1, d),
        "params/mu": (1,),
        "initial/dt": (N,),
        "history/evaluated": (evaluated,),
        "history/objective_test": (evaluated,),
        "history/accuracy_train": (evaluated,),
        "history/accuracy_test": (evaluated,),
    }
    if training.picture:
        samples, grid = np.size(training.picture["c"]), np.size(training.picture["grid_axis"])
        wanted |= {
            "picture/x": (samples, 2),
            "picture/c": (samples,),
            "picture/prediction": (samples,),
            "picture/trajectories": (N + 1, samples, d),
            "picture/grid_axis": (grid,),
            "picture/grid_prediction": (max(grid, 2), max(grid, 2)),
        }
    groups: Mapping[str, Arrays] = {
        group: getattr(training, group) for group in ("params", "initial", "history", "picture")
    }
    for path, shape in wanted.items():
        group, name = path.split("/")
        if name not in groups[group]:
            raise InputError(f"{file}, /{path}", expected=f"shape {shape}", found="no entry")
        if (found := np.shape(groups[group][name])) != shape:
            raise InputError(f"{file}, /{path}", expected=f"shape {shape}", found=f"shape {found}")


def _sheet(trainings: Sequence[Training], title: str, margin: float) -> tuple[Figure, list[Axes]]:
    """A square panel per side, side by side, and a margin of so many inches on the right."""
    figure = Figure(figsize=(5.0 * len(trainings) + margin, 6.6), layout="compressed")
    panels = figure.subplots(1, len(trainings), squeeze=False, sharex=True, sharey=True)[0]
    figure.suptitle(f"{title}\n{run_title(trainings[0])}")
    for panel, training in zip(panels, trainings, strict=True):
        panel.set_title(side(training.side).title)
        panel.set(aspect="equal", xlabel="$y_1$", ylabel="$y_2$")
        panel.label_outer()
    return figure, list(panels)


def _by_class(labels: NDArray[Any]) -> Iterator[tuple[NDArray[np.bool_], str, str, str]]:
    for label, (colour, marker, name) in CLASSES.items():
        yield labels == label, colour, marker, name


def _decision(trainings: Sequence[Training]) -> Figure | None:
    shown = [training for training in trainings if training.picture]
    if not shown:
        return None
    figure, panels = _sheet(shown, "Decision regions", margin=0.9)
    for panel, training in zip(panels, shown, strict=True):
        picture = training.picture
        axis, x = picture["grid_axis"], picture["x"]
        regions = panel.contourf(axis, axis, picture["grid_prediction"], np.linspace(0, 1, 21), cmap=REGIONS)
        if picture["grid_prediction"].min() < 0.5 < picture["grid_prediction"].max():
            panel.contour(axis, axis, picture["grid_prediction"], [0.5], colors="black", linewidths=1.4)
        for members, colour, marker, name in _by_class(picture["c"]):
            y1, y2 = x[members].T
            panel.scatter(y1, y2, s=16, c=colour, marker=marker, lw=0.3, ec="white", label=name)
        wrong = (picture["prediction"] > 0.5) != (picture["c"] > 0.5)
        panel.scatter(x[wrong, 0], x[wrong, 1], s=75, fc="none", ec="black", lw=1.3, label="wrongly classified")
        right = f"{len(wrong) - wrong.sum()} of {len(wrong)} right (accuracy {1 - wrong.mean():.3f})"
        panel.set_title(f"{side(training.side).title}: {right}\nafter {training.iteration} iterations")
    figure.colorbar(regions, ax=panels, shrink=0.72, ticks=[0, 0.25, 0.5, 0.75, 1], label="prediction for class 1")
    boundary = Line2D([], [], color="black", lw=1.4, label="prediction = 0.5")
    figure.legend(
        handles=[*panels[0].get_legend_handles_labels()[0], boundary], loc="outside lower center", ncols=2 * len(shown)
    )
    return figure


def _trajectories(trainings: Sequence[Training]) -> Figure | None:
    shown = [training for training in trainings if training.picture]
    if not shown:
        return None
    figure, panels = _sheet(shown, "Trajectories of the samples through the layers", margin=0.0)
    for panel, training in zip(panels, shown, strict=True):
        ways = training.picture["trajectories"][:, :MAX_TRAJECTORIES, :2]  # (N + 1, samples, 2)
        labels = training.picture["c"][:MAX_TRAJECTORIES]
        for members, colour, marker, name in _by_class(labels):
            lines = ways[:, members].transpose(1, 0, 2)
            panel.add_collection(LineCollection(list(lines), colors=colour, linewidths=0.7, alpha=0.3))
            y1, y2 = ways[0, members].T
            panel.scatter(y1, y2, s=11, fc="white", ec=colour, lw=0.7, zorder=3, label=f"{name}, start")
            y1, y2 = ways[-1, members].T
            panel.scatter(y1, y2, s=17, c=colour, marker=marker, lw=0, zorder=4, label=f"{name}, end")
        if ways.shape[2] == np.size(training.params["W"]):
            _draw_hyperplane(panel, training.params)
        panel.set_title(f"{side(training.side).title}: {_some(len(labels), len(training.picture['c']))} test samples")
    _same_square(panels, np.concatenate([t.picture["trajectories"][:, :MAX_TRAJECTORIES, :2] for t in shown]))
    handles = panels[0].get_legend_handles_labels()[0]
    per_row = len(handles) if len(shown) > 1 else (len(handles) + 1) // 2
    figure.legend(handles=handles, loc="outside lower center", ncols=per_row)
    return figure


def _some(shown: int, samples: int) -> str:
    return f"the first {shown} of {samples}" if shown < samples else f"all {samples}"


def _draw_hyperplane(panel: Axes, params: Arrays) -> None:
    """The line W y + μ = 0 of the plane, where W is not zero."""
    normal, mu = params["W"][0], params["mu"][0]
    if (square := float(normal @ normal)) > 0.0:
        foot, along = -mu * normal / square, np.array([-normal[1], normal[0]]) / np.sqrt(square)
        panel.axline(tuple(foot), tuple(foot + along), color="black", lw=1.3, ls="--", label=r"$W y + \mu = 0$")


def _same_square(panels: Sequence[Axes], points: NDArray[Any]) -> None:
    """Give all panels the same limits: the smallest square around the points, and a margin."""
    low, high = points.reshape(-1, 2).min(axis=0), points.reshape(-1, 2).max(axis=0)
    middle, half = (low + high) / 2, max(0.54 * float((high - low).max()), 1e-3)
    for panel in panels:
        panel.set(
            xlim=(middle[0] - half, middle[0] + half),
            ylim=(middle[1] - half, middle[1] + half),
        )


def _time_steps(trainings: Sequence[Training]) -> Figure:
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    panel = figure.subplots()
    initial = trainings[0].initial["dt"]
    layers = np.arange(1, len(initial) + 1)
    slots = len(trainings) + 1
    width = min(9.0, 520.0 / (slots * len(layers)))  # points
    for place, (training, colour) in enumerate(zip(trainings, cycle(BARS), strict=False)):
        dt = training.params["dt"]
        offset = (place - (len(trainings) - 1) / 2) / slots
        name = f"{side(training.side).title}, after {training.iteration} iterations"
        label = rf"{name}: $\Sigma\,\Delta t_k$ = {dt.sum():.4g}"
        panel.vlines(layers + offset, 0.0, dt, colors=colour, linewidths=width, label=label)
    panel.stairs(
        initial,
        np.arange(len(initial) + 1) + 0.5,
        baseline=None,
        color="black",
        lw=1.2,
        ls="--",
        label=rf"initial: $\Sigma\,\Delta t_k$ = {initial.sum():.4g}",
    )
    panel.axhline(0.0, color="black", lw=0.8)
    panel.set(xlabel="layer $k$", ylabel=r"time step $\Delta t_k$", xlim=(0.4, len(layers) + 0.6))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    panel.grid(axis="y")
    settings = settings_of(trainings[0])
    fixed = settings.network in ("net", "resnet") or "dt" in settings.freeze
    figure.suptitle(f"Time steps{', not learned' if fixed else ''}\n{run_title(trainings[0])}")
    figure.legend(loc="outside lower center", ncols=slots if slots < 3 else 2)
    return figure


def _curves(trainings: Sequence[Training]) -> Figure:
    figure = Figure(figsize=(12.5, 4.9), layout="constrained")
    objective, accuracy, constant = figure.subplots(1, 3)
    styles = LINES if len(trainings) > 1 else (ONLY_LINE,)
    for training, line in zip(trainings, cycle(styles), strict=False):
        history, title = training.history, side(training.side).title
        evaluated = history["evaluated"] + 1
        every = np.arange(training.iteration + 1) + 1
        _plot(objective, every, history["objective"], "train", line, title)
        _plot(objective, evaluated, history["objective_test"], "test", line, title)
        _plot(accuracy, evaluated, history["accuracy_train"], "train", line, title)
        _plot(accuracy, evaluated, history["accuracy_test"], "test", line, title)
        _plot(constant, every[1:], history["step_constant"], "step constant", line, title)
    objective.set(title="objective $J$", yscale="log")
    accuracy.set(title="accuracy", ylim=(None, 1.01))
    constant.set(title="step constant $L$ of the accepted steps", yscale="log")
    for panel in (objective, accuracy, constant):
        last = max(training.iteration for training in trainings) + 1
        panel.set(xlabel="iteration + 1", xscale="log", xlim=(0.9, 1.1 * max(last, 2)))
        panel.grid()
    objective.legend()
    figure.suptitle(f"Descent\n{run_title(trainings[0])}")
    return figure


def _plot(panel: Axes, x: NDArray[Any], y: NDArray[Any], what: str, line: tuple[int, float, str], title: str) -> None:
    shade, width, dashes = line
    panel.plot(
        x,
        y,
        color=SHADES[what][shade],
        lw=width,
        ls=dashes,
        marker="o" if len(x) == 1 else None,
        label=f"{what}, {title}",
    )


FIGURES: Mapping[str, Callable[[Sequence[Training]], Figure | None]] = {
    "decision": _decision,
    "trajectories": _trajectories,
    "time_steps": _time_steps,
    "curves": _curves,
}
"""File names, without ending, and what draws them. None: there is nothing to show yet."""
