"""Figures of benchmarks: how the cost of a workload grows with its sizes, and the exponents fitted to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ..bench.saved import Bench
from ..bench.summary import Growth
from .figures import SHADES, save, styled
from .language import Language
from .parts import side_title

MARKS = ((SHADES["train"][1], "o"), (SHADES["test"][1], "s"), ("#54278f", "^"))
"""Colour and marker of the sides, in their order."""
COLUMNS = 2
PANEL = (3.6, 3.5)
"""Width and height of a panel in inches."""


def draw_scaling(growths: Sequence[Growth], bench: Bench, heading: str, file: Path, language: Language) -> Path:
    """Draw the growths of one workload, a panel for each axis, into a PNG file."""
    with styled():
        return save(scaling_figure(growths, bench, heading, language), file)


def scaling_figure(growths: Sequence[Growth], bench: Bench, heading: str, language: Language) -> Figure:
    """Median times with their quartiles against each size, a mark for each side, and the fitted powers as lines."""
    axes = list(dict.fromkeys(growth.sweep for growth in growths))
    columns = min(len(axes), COLUMNS)
    rows = -(-len(axes) // columns)
    figure = Figure(figsize=(max(PANEL[0] * columns, 5.6), PANEL[1] * rows + 1.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(axes) :]:
        panel.remove()
    sides = list(bench.sides)
    for panel, axis in zip(panels, axes, strict=False):
        for growth in (one for one in growths if one.sweep == axis):
            _plot(panel, growth, MARKS[sides.index(growth.side) % len(MARKS)], language)
        _label(panel, axis, [size for one in growths if one.sweep == axis for size, _ in one.points], language)
    for place in range(0, len(axes), columns):
        panels[place].set_ylabel(language("bench.milliseconds"))
    figure.suptitle(heading, fontsize=10.5, parse_math=False)
    return figure


def _plot(panel: Axes, growth: Growth, mark: tuple[str, str], language: Language) -> None:
    colour, marker = mark
    sizes = np.array([size for size, _ in growth.points], float)
    low, middle, high = 1e3 * np.array([(one.first, one.median, one.third) for _, one in growth.points]).T
    bars = np.stack([middle - low, high - middle])
    title = side_title(growth.side)
    label = f"{title}: {language('bench.power', p=exponent_text(growth, language))}"
    marks: dict[str, Any] = {"color": colour, "marker": marker, "ms": 5.5, "ls": "", "capsize": 2.5, "lw": 1.2}
    panel.errorbar(sizes, middle, yerr=bars, label=label, **marks)
    if growth.exponent is not None:
        power = growth.exponent.value
        centre = np.exp(np.mean(np.log(middle)) - power * np.mean(np.log(sizes)))
        ends = np.array([sizes.min(), sizes.max()])
        panel.plot(ends, centre * ends**power, color=colour, lw=1.1, ls="-", alpha=0.6, zorder=1)


def exponent_text(growth: Growth, language: Language) -> str:
    """The exponent in two decimals."""
    return "–" if growth.exponent is None else language.number(f"{growth.exponent.value:.2f}")


def _label(panel: Axes, axis: str, sizes: Sequence[int], language: Language) -> None:
    panel.set(xscale="log", yscale="log", xlabel=language.known("axis", axis))
    ticks = sorted(set(sizes))
    panel.set_xticks(ticks, [language.number(f"{size:,}") for size in ticks], minor=False)
    panel.set_xticks([], minor=True)
    low, high = panel.get_ylim()
    if high < 30 * low:  # too few powers of ten for labels
        panel.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: _few(value, language)))
    else:
        panel.yaxis.set_minor_formatter(NullFormatter())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: language.number(f"{value:g}")))
    panel.margins(y=0.12)
    panel.grid()
    panel.legend(loc="upper left", handlelength=1.0, fontsize=8.5)


def _few(value: float, language: Language) -> str:
    """A label at 2 and 5 of each power of ten."""
    digit = round(value / 10.0 ** np.floor(np.log10(value)))
    return language.number(f"{value:g}") if digit in (2, 5) else ""
