"""Figures of the paper's experiments: PNG files from the numbers that `experiments.paper.document` has gathered.

Curves are medians over the seeds with their range, of both sides; decision regions and flows are the first seed's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from .experiment_figures import METHODS
from .figures import CLASSES, LINES, ONLY_LINE, REGIONS, save, styled
from .parts import count, made_with

LOOKS = tuple(METHODS.values())
"""Pale and dark shade and marker of the networks or methods, in their order."""
BOUNDARIES = (("#f2b400", 4.0, "-"), ("black", 1.4, "--"), ("black", 1.4, ":"))
"""Colour, width and dashes of the sides' boundaries, in the order of the sides: equal ones remain both visible."""
ONLY_BOUNDARY = ("black", 1.4, "-")
LEARNS_DT = ("odenet", "odenet-simplex")
NO_FLOW = "net"
"""The network whose samples jump from layer to layer: where they come from and go to is shown without their ways."""
BAND = 0.16
MARKED = 4
"""So many marks are on a curve."""
LEVELS = np.linspace(0, 1, 21)

Document = Mapping[str, Any]
Numbers = NDArray[np.float64]
Line = tuple[int, float, str]


def draw_paper(measured: Document, folder: Path) -> list[Path]:
    """Draw the figures FOLDER/paper-PART-NAME.png of a part, those of flows once for each side."""
    stem = f"paper-{measured['part']}"
    written = []
    for name, figure in figures_of(measured):
        with styled():
            written.append(save(figure(measured), Path(folder) / f"{stem}-{name}.png"))
    return written


def figures_of(measured: Document) -> Iterator[tuple[str, Callable[[Document], Figure]]]:
    """The names of the figures that the part has, and what draws them."""
    yield "curves", curves_figure
    yield "regions", regions_figure
    for name in measured["sides"]:
        yield f"flows-{name}", partial(flows_figure, side=name)
    if any(name in LEARNS_DT for name in measured["names"]):
        yield "time-steps", time_steps_figure


def paper_title(measured: Document) -> str:
    """What was trained in this part, in words."""
    settings = measured["settings"]
    step = f", Δt = {settings['dt']:g}" if settings.get("dt") else ""
    return (
        f"{settings.get('network') or settings.get('method')}, {count(settings['layers'], 'layer')}{step}, "
        f"{count(settings['samples'], 'sample')}"
    )


def curves_figure(measured: Document) -> Figure:
    """Objectives and test accuracies over the iterations, a column for each data set."""
    datasets = list(measured["iterations"])
    figure = Figure(figsize=(max(3.3 * len(datasets), 7.0), 7.4), layout="constrained")
    rows = figure.subplots(2, len(datasets), squeeze=False, sharex="col")
    for column, dataset in enumerate(datasets):
        x = np.array(measured["curve"][dataset]) + 1
        for what, panel in zip(("objectives", "accuracies"), rows[:, column], strict=True):
            for place, name in enumerate(measured["names"]):
                for one, line in _sides(measured):
                    curves = [run[what] for run in one["runs"] if (run["dataset"], run["name"]) == (dataset, name)]
                    _plot_curve(panel, x, np.array(curves), place, line)
            panel.set(xscale="log", xlim=(0.9, 1.1 * x[-1]))
            panel.grid()
        rows[0, column].set(title=dataset, yscale="log")
        rows[1, column].set(xlabel="iteration + 1")
        rows[0, column].yaxis.set_major_formatter(LogFormatter())
        rows[0, column].yaxis.set_minor_formatter(LogFormatter())
    least = min(min(run["accuracies"]) for one in measured["sides"].values() for run in one["runs"])
    for panel in rows[1]:
        panel.set_ylim(least - 0.02, 1.02)
    rows[0, 0].set_ylabel("objective $J$, training data")
    rows[1, 0].set_ylabel("accuracy, test data")
    seeds = measured["seeds"]
    spread = f"median and range of {count(len(seeds), 'seed')}" if len(seeds) > 1 else f"seed {seeds[0]}"
    figure.suptitle(f"{_headline(measured)}, {spread}\n{_versions(measured)}", parse_math=False)
    handles = [
        Line2D([], [], **_marks(place, line), label=f"{name}, {one['title']}")
        for place, name in enumerate(measured["names"])
        for one, line in _sides(measured)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(measured["names"]))
    return figure


def _plot_curve(panel: Axes, x: Numbers, curves: Numbers, place: int, line: Line) -> None:
    """The median of the curves (seeds, points) with marks, and their range."""
    marks = _marks(place, line)
    every = max(len(x) // MARKED, 1)
    first = (place * every) // len(LOOKS) + every // 8  # the marks of the curves beside each other
    panel.plot(x, np.median(curves, axis=0), **marks, markevery=(first, every), zorder=2 + 0.1 * line[0])
    if len(curves) > 1:
        panel.fill_between(x, curves.min(0), curves.max(0), color=marks["color"], alpha=BAND, lw=0)


def _marks(place: int, line: Line) -> dict[str, Any]:
    shade, width, dashes = line
    look = LOOKS[place % len(LOOKS)]
    return {"color": look[shade], "lw": width, "ls": dashes, "marker": look[2], "ms": width + 3.0}


def _sides(measured: Document) -> Iterator[tuple[Document, Line]]:
    answered = list(measured["sides"].values())
    yield from zip(answered, cycle(LINES if len(answered) > 1 else (ONLY_LINE,)), strict=False)


def _headline(measured: Document) -> str:
    return f"{'Networks' if measured['varied'] == 'network' else 'Runge-Kutta methods'}: {paper_title(measured)}"


def _versions(measured: Document) -> str:
    return "; ".join(made_with(one["versions"]) for one in measured["sides"].values())


def _sheet(measured: Document, title: str, margin: float, above: float) -> tuple[Figure, list[tuple[Axes, str, str]]]:
    """A square panel for each data set (row) and network or method (column), and which they are.

    `margin` is that on the right, in inches; names are so many points `above` their columns.
    """
    datasets, names = list(measured["iterations"]), measured["names"]
    figure = Figure(figsize=(2.45 * len(names) + margin, 2.5 * len(datasets) + 1.3), layout="constrained")
    panels = figure.subplots(len(datasets), len(names), squeeze=False)
    figure.suptitle(f"{title}, seed {measured['seeds'][0]}\n{_headline(measured)}", parse_math=False)
    for panel, name in zip(panels[0], names, strict=True):
        panel.annotate(name, (0.5, 1.0), (0, above), xycoords="axes fraction", textcoords="offset points", ha="center")
    for panel, dataset in zip(panels[:, 0], datasets, strict=True):
        panel.set_ylabel(dataset)
    for panel in panels.flat:
        panel.set_aspect("equal")
        panel.tick_params(labelsize=8.5)
        panel.locator_params(nbins=4)
    places = product(enumerate(datasets), enumerate(names))
    return figure, [(panels[row, column], dataset, name) for (row, dataset), (column, name) in places]


def _shown(measured: Document, side: str, dataset: str, name: str) -> Document:
    """The run of a side whose picture is shown."""
    return next(
        run
        for run in measured["sides"][side]["runs"]
        if (run["dataset"], run["name"], run["seed"]) == (dataset, name, measured["seeds"][0])
    )


def regions_figure(measured: Document) -> Figure:
    """What each network says of each point of the plane, the boundaries of both sides, and test samples."""
    figure, panels = _sheet(measured, "Decision regions", margin=1.2, above=20)
    sides = list(measured["sides"])
    looks = BOUNDARIES if len(sides) > 1 else (ONLY_BOUNDARY,)
    for panel, dataset, name in panels:
        shown = [_shown(measured, side, dataset, name) for side in sides]
        picture = shown[0]["picture"]
        axis = picture["grid_axis"]
        regions = panel.contourf(axis, axis, picture["grid_prediction"], LEVELS, cmap=REGIONS)
        _scatter(panel, np.array(picture["states"][0]), np.array(picture["labels"]), size=11)
        for run, (colour, width, dashes) in zip(shown, cycle(looks), strict=False):
            grid = np.array(run["picture"]["grid_prediction"])
            if grid.min() < 0.5 < grid.max():
                panel.contour(axis, axis, grid, [0.5], colors=colour, linewidths=width, linestyles=dashes, zorder=3)
        accuracies = " | ".join(f"{run['accuracy_test']:.3f}" for run in shown)
        panel.set_title(f"accuracy {accuracies}", fontsize=9, pad=4)
    figure.colorbar(
        regions,
        ax=[panel for panel, _, _ in panels],
        shrink=0.5,
        aspect=35,
        ticks=[0, 0.5, 1],
        label=f"prediction for class 1, {measured['sides'][sides[0]]['title']}",
    )
    boundaries = [
        Line2D([], [], color=colour, lw=width, ls=dashes, label=f"prediction = 0.5, {measured['sides'][name]['title']}")
        for name, (colour, width, dashes) in zip(sides, cycle(looks), strict=False)
    ]
    figure.legend(handles=[*_classes(), *boundaries], loc="outside lower center", ncols=4)
    return figure


def _scatter(panel: Axes, points: Numbers, labels: NDArray[Any], size: float) -> None:
    for label, (colour, marker, _) in CLASSES.items():
        y1, y2 = points[labels == label].T
        panel.scatter(y1, y2, s=size, c=colour, marker=marker, lw=0.3, ec="white", zorder=4)


def _classes() -> list[Line2D]:
    return [
        Line2D([], [], ls="", c=colour, marker=marker, label=f"{name}, test sample")
        for colour, marker, name in CLASSES.values()
    ]


def flows_figure(measured: Document, side: str) -> Figure:
    """The ways of test samples through the layers of one side's networks, over what the classifier says at the end."""
    title = measured["sides"][side]["title"]
    figure, panels = _sheet(measured, f"Ways of test samples through the layers, {title}", margin=0.6, above=6)
    for panel, dataset, name in panels:
        picture = _shown(measured, side, dataset, name)["picture"]
        states, labels = np.array(picture["states"]), np.array(picture["labels"])  # (N + 1, samples, 2), (samples,)
        low, high = states.reshape(-1, 2).min(0), states.reshape(-1, 2).max(0)
        middle, half = (low + high) / 2, max(0.54 * float((high - low).max()), 1e-3)
        x, y = (np.linspace(centre - half, centre + half, 41) for centre in middle)
        score = picture["normal"][0] * x[None, :] + picture["normal"][1] * y[:, None] + picture["offset"]
        panel.contourf(x, y, 0.5 * (1.0 + np.tanh(0.5 * score)), LEVELS, cmap=REGIONS)
        for label, (colour, _, _) in CLASSES.items():
            if name != NO_FLOW:
                ways = states[:, labels == label].transpose(1, 0, 2)
                panel.add_collection(LineCollection(list(ways), colors=colour, linewidths=0.6, alpha=0.35))
            y1, y2 = states[0, labels == label].T
            panel.scatter(y1, y2, s=6, fc="white", ec=colour, lw=0.5, zorder=3)
        _scatter(panel, states[-1], labels, size=13)
        panel.set(xlim=x[[0, -1]], ylim=y[[0, -1]])
    starts = [
        Line2D([], [], ls="", marker="o", ms=4, mfc="white", mec=colour, label=f"{name}, before the first layer")
        for colour, _, name in CLASSES.values()
    ]
    ends = [
        Line2D([], [], ls="", c=colour, marker=marker, label=f"{name}, after the last")
        for colour, marker, name in CLASSES.values()
    ]
    regions = [
        Patch(fc=REGIONS(value), label=f"classified as {label} after the last") for label, value in ((0, 0.0), (1, 1.0))
    ]
    figure.legend(handles=[*starts, *ends, *regions], loc="outside lower center", ncols=3)
    return figure


def time_steps_figure(measured: Document) -> Figure:
    """The learned time steps of every seed and side, a column for each data set."""
    datasets = list(measured["iterations"])
    names = [name for name in measured["names"] if name in LEARNS_DT]
    figure = Figure(figsize=(max(3.3 * len(datasets), 7.0), 2.9 * len(names) + 1.5), layout="constrained")
    rows = figure.subplots(len(names), len(datasets), squeeze=False, sharex=True, sharey="row")
    layers = np.arange(1, measured["settings"]["layers"] + 1)
    for row, name in zip(rows, names, strict=True):
        for panel, dataset in zip(row, datasets, strict=True):
            for one, line in _sides(measured):
                for run in one["runs"]:
                    if (run["dataset"], run["name"]) == (dataset, name):
                        panel.plot(layers, run["dt"], **_seed_marks(measured["seeds"].index(run["seed"]), line))
            panel.axhline(1.0 / len(layers), color="black", lw=0.9, ls="-.", zorder=1)
            panel.axhline(0.0, color="black", lw=0.6, zorder=1)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            panel.grid()
        row[0].set_ylabel(f"{name}\n" r"time step $\Delta t_k$")
    for panel, dataset in zip(rows[0], datasets, strict=True):
        panel.set_title(dataset)
    for panel in rows[-1]:
        panel.set_xlabel("layer $k$")
    figure.suptitle(f"Learned time steps\n{_headline(measured)}", parse_math=False)
    handles = [
        Line2D([], [], **_seed_marks(place, line), label=f"seed {seed}, {one['title']}")
        for place, seed in enumerate(measured["seeds"])
        for one, line in _sides(measured)
    ]
    handles.append(Line2D([], [], color="black", lw=0.9, ls="-.", label="at the start"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(measured["seeds"]), 4) + 1)
    return figure


def _seed_marks(place: int, line: Line) -> dict[str, Any]:
    marks = _marks(place, line)
    return {**marks, "lw": 0.6 * marks["lw"], "ms": 0.6 * marks["ms"] + 1.0}
