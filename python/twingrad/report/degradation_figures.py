"""Figure of plain against residual networks: a PNG file from the numbers that the experiment has measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .curves import smoothed
from .figures import LINES, ONLY_LINE, SHADES, save, styled
from .image_figures import data_set
from .parts import count, made_with

KINDS = {False: ("plain", SHADES["test"]), True: ("residual", SHADES["train"])}
"""By whether a network is residual: what it is called, and the shades of its curves."""
WINDOW = 15
"""So many steps are one point of a training's curve."""
LABEL_ROOM = 0.045
"""The height that a curve's label takes, as part of the panel's."""

Document = Mapping[str, Any]
Line = tuple[int, float, str]


def draw_degradation(measured: Document, folder: Path) -> Path:
    """Draw FOLDER/degradation.png from what `experiments.degradation.document` gives, or its JSON file holds."""
    with styled():
        return save(degradation_figure(measured), Path(folder) / "degradation.png")


def degradation_figure(measured: Document) -> Figure:
    """The loss of the shallowest and the deepest networks while they train, and the last losses over the depth."""
    figure = Figure(figsize=(11.0, 5.4), layout="constrained")
    curves, ends = figure.subplots(1, 2, gridspec_kw={"width_ratios": (1.25, 1.0)})
    answered = list(measured["sides"].values())
    depths = sorted({one["depth"] for one in answered[0]["networks"]})
    labels: list[tuple[float, str, str]] = []
    for one, line in zip(answered, cycle(LINES if len(answered) > 1 else (ONLY_LINE,)), strict=False):
        for residual, (kind, shades) in KINDS.items():
            by_depth = [
                [net for net in one["networks"] if (net["depth"], net["residual"]) == (depth, residual)]
                for depth in depths
            ]
            for depth, trained in {depths[0]: by_depth[0], depths[-1]: by_depth[-1]}.items():
                end = _plot_training(curves, trained, shades, line)
                labels += [(end, f"{depth}", shades[1])] if one is answered[0] else []
            _plot_ends(ends, depths, by_depth, shades, line, f"{kind}, {one['title']}")
    seeds = len({one["seed"] for one in answered[0]["networks"]})
    first = f"training loss, {depths[0]} and {depths[-1]} layers\nmean of {WINDOW} steps"
    curves.set(title=first, xlabel="iteration", ylabel="cross-entropy")
    curves.set_ylim(bottom=0)
    _label_ends(curves, labels)
    last = f"training loss of the last steps\n{'mean and range of ' if seeds > 1 else ''}{count(seeds, 'seed')}"
    ends.set(title=last, xlabel="layers", xticks=depths)
    ends.set_ylim(bottom=0)
    for panel in (curves, ends):
        panel.grid()
    figure.suptitle(_headline(measured), parse_math=False)
    figure.legend(*ends.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _headline(measured: Document) -> str:
    settings = measured["settings"]
    sizes = f"width {settings['width']}, batch {settings['batch']}, {count(settings['iterations'], 'iteration')}"
    versions = "; ".join(made_with(one["versions"]) for one in measured["sides"].values())
    return f"Plain and residual networks on {data_set(measured['images']['name'])}: {sizes}\n{versions}"


def _plot_training(panel: Axes, trained: Sequence[Document], shades: tuple[str, str], line: Line) -> float:
    """The mean loss over the seeds, smoothed; returns where it ends."""
    curve = smoothed(np.mean([one["losses"] for one in trained], axis=0), WINDOW)
    panel.plot(curve, color=shades[line[0]], lw=line[1], ls=line[2])
    return float(curve[-1])


def _label_ends(panel: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Depths at the ends of their curves, from the lowest up, each clear of the one below it."""
    bottom, top = panel.get_ylim()
    room, place = LABEL_ROOM * (top - bottom), -np.inf
    for end, text, color in sorted(labels):
        place = max(end, place + room)
        where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        panel.annotate(text, (1.0, place), (4, 0), **where, va="center", color=color, annotation_clip=False)


def _plot_ends(
    panel: Axes,
    depths: Sequence[int],
    by_depth: Sequence[Sequence[Document]],
    shades: tuple[str, str],
    line: Line,
    label: str,
) -> None:
    """The mean over the seeds of the last losses, and their range as a band."""
    losses = np.array([[one["training_loss"] for one in trained] for trained in by_depth])
    marks: dict[str, Any] = {"color": shades[line[0]], "lw": line[1], "ls": line[2], "marker": "o", "ms": line[1] + 3.5}
    panel.plot(depths, losses.mean(1), **marks, label=label)
    panel.fill_between(depths, losses.min(1), losses.max(1), color=shades[line[0]], alpha=0.15, lw=0)
