"""Figures of experiments: PNG files from the numbers that an experiment has measured."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from .figures import LINES, ONLY_LINE, save, styled
from .parts import count, made_with

METHODS = {
    "euler": ("#9cc9e8", "#08457e", "o"),
    "improved-euler": ("#fdbb84", "#a63603", "s"),
    "kutta3": ("#a6dba0", "#00601f", "^"),
    "kutta4": ("#cbb3dd", "#54278f", "D"),
}
"""Pale and dark shade, as in `figures.SHADES`, and the marker of each method."""
PANELS = {"state": "final states", "gradient": "gradient by the controls"}
GREY = "#7f7f7f"
SLOPE_GAP = 0.35
"""A reference slope lies below its curve by this factor."""

Document = Mapping[str, Any]
Numbers = NDArray[np.float64]


def draw_convergence(measured: Document, folder: Path) -> Path:
    """Draw FOLDER/convergence.png from what `experiments.orders.document` gives, or its JSON file holds."""
    with styled():
        return save(convergence_figure(measured), Path(folder) / "convergence.png")


def flow_title(measured: Document) -> str:
    """Which flow was solved on which grids, in words."""
    points = count(measured["flow"]["points"], "point")
    return f"{measured['title']} of 1 to {measured['steps'][-1]} steps, {points}"


def convergence_figure(measured: Document) -> Figure:
    """Errors of states and of gradients against the number of steps, a curve for each method and side."""
    figure = Figure(figsize=(11.0, 5.8), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharex=True, sharey=True)
    steps = measured["layers"] * np.array(measured["steps"], np.float64)
    for panel, (kind, title) in zip(panels, PANELS.items(), strict=True):
        _draw_panel(panel, measured, kind, steps)
        panel.set(
            title=f"error of the {title}", xlabel="steps in all (layers of the network)", xscale="log", yscale="log"
        )
        panel.set_xticks(steps, [f"{step:g}" for step in steps], minor=False)
        panel.set_xticks([], minor=True)
        panel.grid()
    panels[0].set_ylabel("largest error / largest value")
    versions = "; ".join(made_with(one["versions"]) for one in measured["sides"].values())
    figure.suptitle(f"Orders of convergence: {flow_title(measured)}\n{versions}", parse_math=False)
    figure.legend(handles=_legend(measured), loc="outside lower center", ncols=len(METHODS) + 1)
    return figure


def _draw_panel(panel: Axes, measured: Document, kind: str, steps: Numbers) -> None:
    answered = list(measured["sides"].values())
    for method, order in measured["expected"].items():
        for one, line in zip(answered, cycle(_lines(measured)), strict=False):
            curve = one["methods"][method][kind]
            errors = np.array(curve["errors"])
            _plot(panel, method, line, steps, np.where(errors > 0.0, errors, np.nan), curve["fitted"])
        curve = answered[0]["methods"][method][kind]
        if curve["fitted"]:
            _draw_slope(panel, order, steps[curve["fitted"]], np.array(curve["errors"])[curve["fitted"]])


def _plot(
    panel: Axes, method: str, line: tuple[int, float, str], steps: Numbers, errors: Numbers, fitted: list[int]
) -> None:
    """One curve; its marks are full where the order was fitted and hollow elsewhere."""
    marks = _marks(method, line)
    panel.plot(steps, errors, **marks, markevery=fitted)
    rest = [place for place in range(len(steps)) if place not in fitted]
    panel.plot(steps[rest], errors[rest], **marks | {"ls": "", "mfc": "white"})


def _marks(method: str, line: tuple[int, float, str]) -> dict[str, Any]:
    shade, width, dashes = line
    colour, marker = METHODS[method][shade], METHODS[method][2]
    return {"color": colour, "lw": width, "ls": dashes, "marker": marker, "ms": width + 3.5}


def _draw_slope(panel: Axes, order: int, steps: Numbers, errors: Numbers) -> None:
    """A grey line of slope -order under the fitted part of a curve, with its name."""
    line = SLOPE_GAP * errors[-1] * (steps / steps[-1]) ** -float(order)
    panel.plot(steps, line, color=GREY, lw=1.0, zorder=1)
    middle = np.sqrt(steps[0] * steps[-1]), np.sqrt(line[0] * line[-1])
    panel.annotate(f"{order}", middle, (-3, -4), textcoords="offset points", ha="right", va="top", color=GREY)


def _lines(measured: Document) -> tuple[tuple[int, float, str], ...]:
    return LINES if len(measured["sides"]) > 1 else (ONLY_LINE,)


def _legend(measured: Document) -> list[Line2D]:
    """For each method the sides below each other, then what grey lines and hollow marks mean."""
    answered = list(measured["sides"].values())
    handles = [
        Line2D([], [], **_marks(method, line), label=f"{method}, {one['title']}")
        for method in measured["expected"]
        for one, line in zip(answered, cycle(_lines(measured)), strict=False)
    ]
    slope = Line2D([], [], color=GREY, lw=1.0, label="expected order")
    hollow = Line2D([], [], color=GREY, ls="", marker="o", mfc="white", label="not in the fit")
    return [*handles, slope, hollow]
