"""Figures of adversarial examples: PNG files from what `experiments.attack.document` gives."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray

from ..data.images import Images
from ..data.planar import planar
from ..format import Training
from ..specs import Array, Arrays
from .figures import CLASSES, LINES, ONLY_LINE, REGIONS, SHADES, save, settings_of, styled
from .image_figures import confidence_text, data_set
from .parts import made_with

WRONG = "#a3231b"
ARROWS: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1.0, "width": 0.0022, "headwidth": 5.0}
"""Arrows as long as the moves they show."""

MAX_POINTS = 150

Document = Mapping[str, Any]


def draw_attack(
    measured: Document, folder: Path, *, images: Images | None = None, training: Training | None = None
) -> list[Path]:
    """Draw an attack.

    Args:
        measured: what `experiments.attack.document` gives, or its JSON file holds.
        folder: where the figures are written.
        images: what was attacked, where it was images.
        training: whose network was attacked, where it was a control network.

    Returns:
        FOLDER/robustness.png; FOLDER/adversarial.png of images; FOLDER/regions.png of a control network.
    """
    folder = Path(folder)
    with styled():
        written = [save(robustness_figure(measured), folder / "robustness.png")]
        if images is not None:
            written.append(save(examples_figure(measured, images), folder / "adversarial.png"))
        if training is not None:
            written.append(save(regions_figure(measured, training), folder / "regions.png"))
    return written


def subject(measured: Document) -> str:
    """What was attacked, in words: "mlp 784-16-16-10, 2,000 test images of MNIST"."""
    things = "images" if measured["kind"] == "images" else "points"
    return f"{measured['model']}, {len(measured['labels']):,} test {things} of {data_set(measured['data'])}"


def robustness_figure(measured: Document) -> Figure:
    """Accuracy against ε, a curve for each side."""
    figure = Figure(figsize=(8.2, 5.2), layout="constrained")
    panel = figure.subplots()
    answered = list(measured["sides"].values())
    lines = LINES if len(answered) > 1 else (ONLY_LINE,)
    for one, (shade, width, dashes) in zip(answered, cycle(lines), strict=False):
        marks: dict[str, Any] = {"marker": "o", "ms": width + 3.5, "label": one["title"]}
        colour = SHADES["test"][shade]
        panel.plot(measured["epsilons"], one["accuracies"], color=colour, lw=width, ls=dashes, **marks)
    unit = "pixels from 0 to 1" if measured["kind"] == "images" else "units of the plane"
    panel.set(xlabel=f"$\\varepsilon$ ({unit})", ylabel="accuracy", ylim=(-0.02, 1.02))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.grid()
    if len(answered) > 1:
        panel.legend()
    versions = "; ".join(made_with(one["versions"]) for one in answered)
    figure.suptitle(f"Accuracy under the fast gradient sign method\n{subject(measured)}\n{versions}", parse_math=False)
    return figure


def examples_figure(measured: Document, images: Images) -> Figure:
    """A row for each example: the image, what is added to it, and the sum, with the classes the sides say."""
    examples, epsilon = measured["examples"], measured["shown_epsilon"]
    originals = images.split("test")[0][examples] / 255.0
    signs = np.array(next(iter(measured["sides"].values()))["signs"], float).reshape(originals.shape)
    moved = np.clip(originals + epsilon * signs, 0.0, 1.0)
    figure = Figure(figsize=(6.6, 1.7 * len(examples) + 1.3), layout="constrained")
    panels = figure.subplots(len(examples), 3, squeeze=False)
    for row, place in enumerate(examples):
        label = measured["labels"][place]
        _show(panels[row, 0], originals[row], _said(measured, images, place, 0.0))
        _show_difference(panels[row, 1], moved[row] - originals[row], epsilon)
        _show(panels[row, 2], moved[row], _said(measured, images, place, epsilon))
        panels[row, 0].set_ylabel(f"{images.kind.classes[label]}", rotation=0, ha="right", va="center", fontsize=12)
    legend = "blue −ε, red +ε" if len(originals[0]) == 1 else "grey: none"
    for panel, title in zip(panels[0], ("original", f"perturbation\n({legend})", "adversarial"), strict=True):
        panel.set_title(title, fontsize=10.5)
    title = f"Adversarial examples, ε = {epsilon:g}\n{subject(measured)}\n{_who(measured)}"
    figure.suptitle(title, fontsize=11.5, parse_math=False)
    return figure


def _who(measured: Document) -> str:
    """Whose words stand under the images."""
    titles: list[str] = [one["title"] for one in measured["sides"].values()]
    if len(titles) == 1:
        return titles[0]
    return f"{' and '.join(titles)}; one line where they agree"


def _said(measured: Document, images: Images, place: int, epsilon: float) -> tuple[str, bool]:
    """Class and confidence that the sides say of an example, one line where they agree; and whether a side errs."""
    row, lines, wrong = measured["epsilons"].index(epsilon), {}, False
    for one in measured["sides"].values():
        prediction, confidence = one["predictions"][row][place], one["confidences"][row][place]
        lines[one["title"]] = f"{images.kind.classes[prediction]} ({confidence_text(confidence)})"
        wrong |= prediction != measured["labels"][place]
    if len(set(lines.values())) == 1:
        return next(iter(lines.values())), wrong
    return "\n".join(f"{title}: {line}" for title, line in lines.items()), wrong


def _show(panel: Axes, image: Array, said: tuple[str, bool]) -> None:
    """An image (C, H, W) of pixels from 0 to 1, with words below."""
    text, wrong = said
    panel.imshow(_drawable(image), cmap="gray", vmin=0.0, vmax=1.0)
    _frame(panel)
    size = 10.5 if "\n" not in text else 8.0
    panel.set_xlabel(text, color=WRONG if wrong else "black", weight="bold" if wrong else "normal", fontsize=size)


def _show_difference(panel: Axes, difference: Array, epsilon: float) -> None:
    """What is added to an image: of one channel in blue where it is negative and red where positive."""
    scale = epsilon or 1.0
    if len(difference) == 1:
        panel.imshow(difference[0], cmap="RdBu_r", vmin=-scale, vmax=scale)
    else:
        panel.imshow(_drawable(0.5 + difference / (2.0 * scale)))
    _frame(panel)


def _frame(panel: Axes) -> None:
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set(visible=True, linewidth=0.6)


def _drawable(image: Array) -> NDArray[Any]:
    return image[0] if len(image) == 1 else np.clip(image.transpose(1, 2, 0), 0.0, 1.0)


def regions_figure(measured: Document, training: Training) -> Figure:
    """For each side the decision regions, the test points, and arrows to where the attack moves them.

    The regions are in the training file once the training has ended; before, the plane stays white.
    """
    answered, picture = list(measured["sides"].values()), training.picture
    settings, epsilon = settings_of(training), measured["shown_epsilon"]
    points = planar(settings.dataset, "test", len(measured["labels"]), settings.seed)[0]
    figure = Figure(figsize=(6.2 * len(answered) + 0.9, 7.5), layout="compressed")
    panels = list(figure.subplots(1, len(answered), squeeze=False, sharex=True, sharey=True)[0])
    for panel, one in zip(panels, answered, strict=True):
        moved = points + epsilon * np.array(one["signs"])
        wrong = np.array(one["predictions"])[measured["epsilons"].index(epsilon)] != np.array(measured["labels"])
        if picture:
            shading = draw_regions(panel, picture)
        _draw_moves(panel, *(array[:MAX_POINTS] for array in (points, moved, np.array(measured["labels"]), wrong)))
        right = f"{len(wrong) - wrong.sum()} of {len(wrong)} right (accuracy {1 - wrong.mean():.3f})"
        drawn = f"\nshown: the first {MAX_POINTS}" if len(wrong) > MAX_POINTS else ""
        panel.set(aspect="equal", xlabel="$y_1$", ylabel="$y_2$", title=f"{one['title']}: {right}{drawn}")
        panel.label_outer()
    if picture:
        figure.colorbar(shading, ax=panels, shrink=0.72, ticks=[0, 0.25, 0.5, 0.75, 1], label="prediction for class 1")
    figure.suptitle(f"Adversarial points, ε = {epsilon:g}\n{subject(measured)}", parse_math=False)
    figure.legend(handles=_legend(bool(picture)), loc="outside lower center", ncols=3 * len(answered))
    return figure


def draw_regions(panel: Axes, picture: Arrays) -> ContourSet:
    """Predictions of class 1 on the training's grid, and the line where they are 1/2."""
    axis, predictions = picture["grid_axis"], picture["grid_prediction"]
    if predictions.min() < 0.5 < predictions.max():
        panel.contour(axis, axis, predictions, [0.5], colors="black", linewidths=1.4)
    return panel.contourf(axis, axis, predictions, np.linspace(0, 1, 21), cmap=REGIONS)


def _draw_moves(panel: Axes, points: Array, moved: Array, labels: Array, wrong: Array) -> None:
    for label, (colour, marker, _) in CLASSES.items():
        members = labels == label
        (x, y), (u, v) = points[members].T, (moved - points)[members].T
        panel.quiver(x, y, u, v, color=colour, alpha=0.55, **ARROWS)
        panel.scatter(x, y, s=9, fc="white", ec=colour, lw=0.6, zorder=3)
        panel.scatter(x + u, y + v, s=16, c=colour, marker=marker, lw=0.3, ec="white", zorder=4)
    x, y = moved[wrong].T
    panel.scatter(x, y, s=50, fc="none", ec="black", lw=1.0, zorder=5)
    panel.autoscale_view()


def _legend(has_regions: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, marker=marker, ls="", mec="white", label=f"{name}, attacked")
        for colour, marker, name in CLASSES.values()
    ]
    handles.append(Line2D([], [], color="#4d4d4d", marker="o", mfc="white", ms=4, ls="", label="before the attack"))
    handles.append(
        Line2D([], [], color="black", marker="o", mfc="none", ms=9, ls="", label="wrongly classified, attacked")
    )
    return [*handles, Line2D([], [], color="black", lw=1.4, label="prediction = 0.5")] if has_regions else handles
